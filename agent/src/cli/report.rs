//! `holdpoint audit report`: who approved what, when, and the exact request.

mod forms;
mod told;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use holdpoint_core::digest::Digest;
use jiff::Timestamp;

use crate::{
    cli::{
        approvals::{screen, word},
        sessions::time,
    },
    control::client::{Client, Connect, Which},
};
use forms::Paper;
use told::{Question, Questions};

/// Which approvals, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What this session asked for, whoever else did, too.
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// A directory that gets, for each approval, what people were shown (`ap-....json`), as far as it is still kept. Its digest is in the
    /// `hold` event: `holdpoint audit prove --event N --request FILE` ties the two.
    #[arg(long, value_name = "DIR")]
    requests: Option<PathBuf>,
    /// Asked at this time or after, such as 2026-11-20T09:00:00Z or 2026-11-20.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Asked at this time or before.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Answered by this person.
    #[arg(long, value_name = "REVIEWER")]
    by: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Form,
    #[command(flatten)]
    connect: Connect,
}

/// A form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people, on a terminal.
    Table,
    /// For programs.
    Json,
    /// For a wiki or an issue.
    Markdown,
}

/// Runs the command.
///
/// # Errors
/// When the daemon cannot be reached or refuses, with its reason.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    let mut paper = Paper::begin(args.output, screen::Out::stdout())?;
    write(&client, args, &mut paper).await?;
    paper.finish()
}

/// Of the whole record, whatever is wanted of it: the same command run again is another session, and its answers stand there.
async fn write(client: &Client, args: &Args, paper: &mut Paper) -> anyhow::Result<()> {
    let session = args.session.as_deref().map(word).transpose()?;
    let wants = |question: &Question| {
        let asked = |session| question.sessions.iter().any(|it| it.as_str() == session);
        session.is_none_or(asked) && args.wants(question)
    };
    let mut told = client.events(Which::default());
    let mut questions = Questions::default();
    while let Some(told) = told.next().await? {
        if let Some(question) = questions.hear(&told.event)
            && wants(&question)
        {
            paper.question(&question)?;
            args.leave_request(client, &question).await?;
        }
    }
    for question in questions.left() {
        if wants(&question) {
            paper.question(&question)?;
            args.leave_request(client, &question).await?;
        }
    }
    Ok(())
}

impl Args {
    fn wants(&self, question: &Question) -> bool {
        let by = |name: &String| {
            let mut answers = question.answers.iter();
            answers.any(|it| it.vote.reviewer.as_str() == name)
        };
        self.since.is_none_or(|since| question.at >= since)
            && self.until.is_none_or(|until| question.at <= until)
            && self.by.as_ref().is_none_or(by)
    }

    async fn leave_request(&self, client: &Client, question: &Question) -> anyhow::Result<()> {
        let (Some(dir), Some(digest)) = (&self.requests, &question.shown) else {
            return Ok(());
        };
        let kept = match question.shown_in {
            Some(seq) => client.body(question.session.as_str(), seq).await?,
            None => Err("it was not kept".into()),
        };
        let bytes = match kept {
            Ok(bytes) => bytes,
            Err(why) => {
                eprintln!(
                    "what {} was about: {}",
                    question.approval,
                    screen::safe(&why)
                );
                return Ok(());
            }
        };
        ensure!(
            Digest::of(&[&bytes]) == *digest,
            "what is kept of {} is not what people were shown: its digest differs from the one in the record",
            question.approval
        );
        let file = dir.join(format!("{}.json", question.approval));
        fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))
    }
}

#[cfg(test)]
mod tests;

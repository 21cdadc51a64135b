//! `holdpoint audit report`: who approved what, when, and the exact request.

mod forms;
mod told;

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
    /// Of this session only.
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
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

async fn write(client: &Client, args: &Args, paper: &mut Paper) -> anyhow::Result<()> {
    let session = args.session.as_deref().map(word).transpose()?;
    let mut told = client.events(Which {
        session: session.map(str::to_owned),
        ..Which::default()
    });
    let mut questions = Questions::default();
    while let Some(told) = told.next().await? {
        if let Some(question) = questions.hear(&told.event)
            && args.wants(&question)
        {
            paper.question(&question)?;
        }
    }
    for question in questions.left() {
        if args.wants(&question) {
            paper.question(&question)?;
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
}

#[cfg(test)]
mod tests;

//! `holdpoint audit retention`, `hold` and `release`: what of the record goes when, and what is to stay.

use jiff::Timestamp;
use serde_json::json;

use crate::{
    cli::approvals::{
        screen::{self, Keep, Output, safe, table},
        word,
    },
    config::record::Age,
    control::client::Connect,
    retention::{Fate, KeptBy, LegalHold, Report, Segment, Sum},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connect: Connect,
    /// Purge what is old enough now, and not within the hour. As root.
    #[arg(long)]
    now: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Session {
    #[command(flatten)]
    connect: Connect,
    /// The session, for example s-3k9x2m7qht.
    session: String,
    /// Why. Recorded.
    #[arg(long)]
    reason: String,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    if args.now {
        let gone: Sum = client.post("/v1/record/retention", &json!({})).await?;
        return screen::print(&match args.output {
            Output::Json => screen::json(&gone)?,
            Output::Table => format!("Purged: {}.\n", amount(gone)),
        });
    }
    let report: Report = client.read("/v1/record/retention").await?;
    screen::print(&match args.output {
        Output::Json => screen::json(&report)?,
        Output::Table => told(&report),
    })
}

pub(super) async fn hold(args: &Session) -> anyhow::Result<()> {
    let held = asked(args, "hold").await?;
    let told = |held: &LegalHold| format!("{} is held, by event {}.\n", held.session, held.event);
    print_hold(args, &held, told)
}

pub(super) async fn release(args: &Session) -> anyhow::Result<()> {
    let held = asked(args, "release").await?;
    let told = |held: &LegalHold| format!("{} is released.\n", held.session);
    print_hold(args, &held, told)
}

async fn asked(args: &Session, what: &str) -> anyhow::Result<LegalHold> {
    let path = format!("/v1/sessions/{}/{what}", word(&args.session)?);
    let body = json!({ "reason": args.reason });
    args.connect.client()?.post(&path, &body).await
}

fn print_hold(
    args: &Session,
    held: &LegalHold,
    told: impl Fn(&LegalHold) -> String,
) -> anyhow::Result<()> {
    screen::print(&match args.output {
        Output::Json => screen::json(held)?,
        Output::Table => told(held),
    })
}

fn told(report: &Report) -> String {
    let class = |age: Option<Age>| age.map_or_else(|| "for ever".to_owned(), |it| it.to_string());
    let kept = report.retention;
    let mut text = format!(
        "Kept: bodies {}, events {}, with denied operations {}.\n",
        class(kept.bodies),
        class(kept.metadata),
        class(kept.denied)
    );
    if !report.segments.is_empty() {
        let rows: Vec<_> = report.segments.iter().map(row).collect();
        let head = [
            "EVENTS",
            "UP TO",
            "DENIED",
            "SIZE",
            "EVENTS GO",
            "BODIES GO",
        ];
        text += &table(head, &rows, Keep::End);
    }
    text += &format!("Due now: {}.\n", amount(report.due));
    for held in &report.legal_holds {
        text += &format!(
            "Legal hold of {} by {} since {}: {}\n",
            safe(held.session.as_str()),
            safe(held.by.as_str()),
            day(held.since),
            safe(held.reason.as_str())
        );
    }
    text
}

fn row(segment: &Segment) -> [String; 6] {
    let size = segment.bytes + segment.body_bytes;
    [
        format!("{}-{}", segment.first, segment.last),
        day(segment.to),
        if segment.has_denials { "yes" } else { "" }.to_owned(),
        bytes(size),
        when(&segment.events),
        segment.bodies.as_ref().map(when).unwrap_or_default(),
    ]
}

fn when(fate: &Fate) -> String {
    match (fate.kept_by.first(), fate.until) {
        (Some(by), _) => safe(&because(by)),
        (None, _) if fate.due => "now".into(),
        (None, Some(until)) => day(until),
        (None, None) => "never".into(),
    }
}

fn because(by: &KeptBy) -> String {
    match by {
        KeptBy::LegalHold { session } => format!("legal hold of {session}"),
        KeptBy::OpenSession { session } => format!("{session} is open"),
        KeptBy::InForce => "something in it is in force".into(),
        KeptBy::NotShipped => "not shipped yet".into(),
        KeptBy::Newest => "it is the newest".into(),
        KeptBy::Unreadable { why } => format!("unreadable: {why}"),
    }
}

fn amount(sum: Sum) -> String {
    format!(
        "{} segments, the bodies of {} more, {} in all",
        sum.segments,
        sum.bodies,
        bytes(sum.bytes)
    )
}

fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

fn bytes(count: u64) -> String {
    match count {
        0..0x10_0000 => format!("{} KiB", count.div_ceil(1024)),
        _ => format!("{} MiB", count.div_ceil(1024 * 1024)),
    }
}

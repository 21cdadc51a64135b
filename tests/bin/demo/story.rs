//! How the demo talks: who speaks stands at the left, `$` before what is typed, `|` before what is shown.

use std::{
    fmt::Display,
    io::{IsTerminal as _, Write as _, stdin, stdout},
};

use holdpoint_tests::sandbox::Ran;

/// Columns for somebody's words.
const WIDTH: usize = 120;

/// A new part of the story.
pub fn chapter(title: &str) {
    let (bold, plain) = if stdout().is_terminal() {
        ("\x1b[1m", "\x1b[0m")
    } else {
        ("", "")
    };
    say(format_args!("\n{bold}{title}{plain}"));
}

/// The narrator.
pub fn tell(sentence: impl Display) {
    say(format_args!("           {sentence}"));
}

/// Somebody types a command.
pub fn types(who: &str, command: impl Display) {
    say(format_args!("  {who:>8} $ {command}"));
}

/// Somebody types into a program that runs already.
pub fn enters(who: &str, line: impl Display) {
    say(format_args!("  {who:>8} > {line}"));
}

/// Somebody sees this.
pub fn sees(who: &str, line: impl Display) {
    say(format_args!("  {who:>8} | {line}"));
}

/// What the agent's terminal shows.
pub fn output(ran: &Ran) {
    let lines = ran.stdout.lines().chain(ran.stderr.lines());
    lines.for_each(|line| line_of("agent", line));
    let seconds = ran.took.as_secs_f64();
    match ran.status.code() {
        Some(code) => tell(format!("(exit code {code}, after {seconds:.1} s)")),
        None => tell(format!("({}, after {seconds:.1} s)", ran.status)),
    }
}

/// A line as somebody's terminal shows it.
pub fn line_of(who: &str, line: &str) {
    wrapped(line).for_each(|piece| sees(who, piece));
}

/// What `holdpoint` shows. What repeats is told once.
pub fn screen(who: &str, text: &str) {
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        line_of(who, line);
        let mut more = 0;
        while lines.next_if(|next| is_like(line, next)).is_some() {
            more += 1;
        }
        if more > 0 {
            sees(who, format!("... and {more} more like it"));
        }
    }
}

/// Asks a question; anything but yes is no.
pub fn ask(question: &str) -> anyhow::Result<bool> {
    print!("\n           {question} [y/N] ");
    stdout().flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    say("");
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Whoever stops reading does not stop the demo.
fn say(line: impl Display) {
    let _ = writeln!(stdout(), "{line}");
}

/// Whether two lines of the record tell of connections to the same place.
fn is_like(line: &str, next: &str) -> bool {
    let place = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        (words.get(1)? == "connection").then(|| words.get(4).cloned())?
    };
    place(line).is_some() && place(line) == place(next)
}

/// A line in pieces of [`WIDTH`], broken between words; what is longer than that without a blank is cut.
fn wrapped(line: &str) -> impl Iterator<Item = String> {
    let mut pieces = vec![String::new()];
    for word in line.split_inclusive(' ') {
        let mut fitting: String = word.chars().take(WIDTH).collect();
        if fitting.len() < word.len() {
            fitting.push_str(" ... ");
        }
        let last = pieces.last_mut().expect("it begins with one");
        if last.is_empty() || last.chars().count() + word.trim_end().chars().count() <= WIDTH {
            last.push_str(&fitting);
        } else {
            pieces.push(format!("    {fitting}"));
        }
    }
    pieces.into_iter().map(|piece| piece.trim_end().to_owned())
}

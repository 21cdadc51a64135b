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
    println!("\n{bold}{title}{plain}");
}

/// The narrator.
pub fn tell(sentence: impl Display) {
    println!("           {sentence}");
}

/// Somebody types a command.
pub fn types(who: &str, command: impl Display) {
    println!("  {who:>8} $ {command}");
}

/// Somebody sees this.
pub fn sees(who: &str, line: impl Display) {
    println!("  {who:>8} | {line}");
}

/// What the agent's terminal shows.
pub fn output(ran: &Ran) {
    for line in ran.stdout.lines().chain(ran.stderr.lines()) {
        wrap(line).into_iter().for_each(|line| sees("agent", line));
    }
    let seconds = ran.took.as_secs_f64();
    match ran.status.code() {
        Some(code) => tell(format!("(exit code {code}, after {seconds:.1} s)")),
        None => tell(format!("({}, after {seconds:.1} s)", ran.status)),
    }
}

/// What `holdpoint` shows. Long lines are cut, and what repeats is told once.
pub fn screen(who: &str, text: &str) {
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        sees(who, clip(line));
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
    println!();
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Whether two lines of the record tell of connections to the same place.
fn is_like(line: &str, next: &str) -> bool {
    let place = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        (words.get(1)? == "connection").then(|| words.get(4).cloned())?
    };
    place(line).is_some() && place(line) == place(next)
}

fn clip(line: &str) -> String {
    let mut clipped: String = line.chars().take(WIDTH).collect();
    if line.chars().nth(WIDTH).is_some() {
        clipped.push_str(" ...");
    }
    clipped
}

fn wrap(line: &str) -> Vec<String> {
    if line.chars().count() <= WIDTH {
        return vec![line.to_owned()];
    }
    let mut wrapped = vec![String::new()];
    for word in line.split(' ') {
        let full = wrapped.last().map_or(0, |last| last.chars().count());
        if full > 0 && full + word.chars().count() >= WIDTH {
            wrapped.push("   ".to_owned());
        }
        let last = wrapped.last_mut().expect("it begins with one");
        if !last.is_empty() {
            last.push(' ');
        }
        last.push_str(word);
    }
    wrapped
}

//! How the demo talks.

use std::io::{Write as _, stdin, stdout};

use holdpoint_tests::sandbox::Ran;

/// A new part of the story.
pub fn chapter(title: &str) {
    println!("\n== {title}");
}

/// One sentence.
pub fn tell(sentence: &str) {
    println!("   {sentence}");
}

/// What the agent types.
pub fn command(words: &[String]) {
    println!("   agent$ {}", words.join(" "));
}

/// What the agent's terminal shows.
pub fn output(ran: &Ran) {
    text(&ran.stdout);
    text(&ran.stderr);
    println!(
        "   agent: {} after {:.1} s",
        ran.status,
        ran.took.as_secs_f64()
    );
}

/// Somebody else's words.
pub fn text(words: &str) {
    for line in words.lines() {
        println!("   | {line}");
    }
}

/// Asks a question; anything but yes is no.
pub fn ask(question: &str) -> anyhow::Result<bool> {
    print!("\n   {question} [y/N] ");
    stdout().flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

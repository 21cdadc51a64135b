//! Printing what agents wrote: on one line, in a column, and never as commands to the terminal.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use anyhow::Context as _;
use unicode_width::UnicodeWidthChar as _;

/// How wide a table may be.
const WIDTH: usize = 100;

/// How output looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Prints to standard output. A reader that has seen enough and closed the pipe is no error.
///
/// # Errors
/// When it cannot be written otherwise.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// Standard output, bit by bit. Once its reader has seen enough and closed the pipe, nothing more is written.
#[derive(Debug)]
pub struct Out {
    to: io::BufWriter<io::Stdout>,
    closed: bool,
}

impl Out {
    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self {
            to: io::BufWriter::new(io::stdout()),
            closed: false,
        }
    }

    /// Whether nobody reads any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes, sooner or later.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn print(&mut self, text: &str) -> anyhow::Result<()> {
        if self.closed {
            return Ok(());
        }
        let written = self.to.write_all(text.as_bytes());
        self.note(written)
    }

    /// Writes what was printed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        if self.closed {
            return Ok(());
        }
        let flushed = self.to.flush();
        self.note(flushed)
    }

    fn note(&mut self, written: io::Result<()>) -> anyhow::Result<()> {
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.closed = true,
            other => other.context("cannot write to standard output")?,
        }
        Ok(())
    }
}

/// A value as JSON for programs. What a terminal might obey is escaped as JSON allows, also where it need not be.
///
/// # Errors
/// When it has no JSON form.
pub fn json<T: serde::Serialize>(value: &T) -> anyhow::Result<String> {
    let pretty = serde_json::to_string_pretty(value)?;
    Ok(format!("{}\n", escaped(&pretty)))
}

/// JSON that means the same, and that no terminal obeys.
pub fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        // Line breaks are ours: within a string they are escaped already.
        if is_tricky(character) && character != '\n' {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(character);
        }
    }
    text
}

/// `text` with everything spelled out that a terminal would obey, not show, or show in a place of its own choosing:
/// control characters, line breaks included, and of Unicode what is invisible, changes direction, looks like a space
/// without being one, or is drawn into the character before it.
pub fn safe(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_tricky(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// The lines of `text`, each made [`safe`] and marked, so that none passes for a line of ours.
pub fn quoted(text: &str) -> String {
    text.lines().fold(String::new(), |mut shown, line| {
        let line = line.replace('\t', "    ");
        let _ = writeln!(shown, "  | {}", safe(&line));
        shown
    })
}

pub(in crate::cli) fn is_tricky(character: char) -> bool {
    if matches!(character, ' '..='~') {
        return false;
    }
    // Control characters have no width; combining marks, joiners and selectors have none of their own.
    matches!(character.width(), None | Some(0))
        || character.is_whitespace()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
        // Blanks that are no white space to Unicode: Hangul fillers and the empty Braille cell.
        || matches!(character, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}')
        // Right-to-left letters: some terminals (VTE) reorder a line around them, numbers included.
        || matches!(character, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}'
            | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
        // Joined with their neighbours into one picture, by some terminals: flags and skin tones.
        || matches!(character, '\u{1f1e6}'..='\u{1f1ff}' | '\u{1f3fb}'..='\u{1f3ff}')
        // Private use: as wide, and as misleading, as the terminal's font makes them.
        || matches!(character, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..)
}

/// Which part of the last column is kept where there is no room for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Of a command, the beginning tells most.
    Beginning,
    /// Of a resource's name, the end.
    End,
}

/// A table with a head. All columns but the last are as wide as they need to be; the last is cut to what is left.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]], keep: Keep) -> String {
    let rows: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| safe(cell)))
        .collect();
    let mut widths = head.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let before_last: usize = widths.iter().take(N - 1).map(|width| width + 2).sum();
    let room = WIDTH.saturating_sub(before_last).max(20);
    let mut text = line(&head.map(str::to_owned), &widths, (room, keep));
    for row in &rows {
        text.push_str(&line(row, &widths, (room, keep)));
    }
    text
}

fn line<const N: usize>(cells: &[String; N], widths: &[usize; N], last: (usize, Keep)) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths).take(N - 1) {
        let _ = write!(line, "{cell:width$}  ");
    }
    line.push_str(&part_of(&cells[N - 1], last));
    format!("{}\n", line.trim_end())
}

fn part_of(text: &str, (room, keep): (usize, Keep)) -> String {
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    match keep {
        Keep::Beginning => text.chars().take(room - 1).chain(['…']).collect(),
        Keep::End => ['…']
            .into_iter()
            .chain(text.chars().skip(length - room + 1))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_reaches_the_terminal_as_a_command(text in "(?s).{0,200}") {
            prop_assert!(!safe(&text).chars().any(is_tricky));
            let quoted = quoted(&text);
            prop_assert!(quoted.lines().all(|line| line.starts_with("  | ")));
            prop_assert!(!quoted.chars().any(|it| it != '\n' && is_tricky(it)));
        }

        #[test]
        fn json_means_the_same_and_draws_nothing(text in "(?s).{0,200}") {
            let json = json(&text).expect("JSON");
            prop_assert!(!json.chars().any(|it| it != '\n' && is_tricky(it)));
            prop_assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
        }

        #[test]
        fn a_table_has_a_line_a_row(cell in "(?s).{0,300}") {
            for keep in [Keep::Beginning, Keep::End] {
                let table = table(["ID", "RESOURCE"], &[["ap-1".into(), cell.clone()]], keep);
                prop_assert_eq!(table.lines().count(), 2);
                prop_assert!(table.lines().all(|line| line.chars().count() <= WIDTH));
            }
        }
    }

    #[test]
    fn escapes_show_as_text() {
        assert_eq!(safe("a\u{1b}[2Jb\r\u{202e}ü"), "a\\u{1b}[2Jb\\r\\u{202e}ü");
        assert_eq!(
            quoted("a\n\u{1b}]0;x\u{7}"),
            "  | a\n  | \\u{1b}]0;x\\u{7}\n"
        );
    }

    #[test]
    fn what_tells_most_is_kept() {
        let row = [["x".to_owned(), format!("gcloud{}instance", "-".repeat(200))]];
        let last = |keep| {
            table(["ID", "R"], &row, keep)
                .lines()
                .last()
                .unwrap_or_default()
                .to_owned()
        };
        assert!(
            last(Keep::Beginning).starts_with("x   gcloud-")
                && last(Keep::Beginning).ends_with("-…")
        );
        assert!(last(Keep::End).starts_with("x   …-") && last(Keep::End).ends_with("-instance"));
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            ["ap-1".to_owned(), "x".to_owned()],
            ["ap-123".to_owned(), "y".to_owned()],
        ];
        assert_eq!(
            table(["ID", "R"], &rows, Keep::End),
            "ID      R\nap-1    x\nap-123  y\n"
        );
    }
}

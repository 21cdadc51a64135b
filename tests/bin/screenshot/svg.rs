//! A terminal's cells as SVG. Knows the escape sequences that `tmux capture-pane -e` gives: SGR (ECMA-48, 8.3.117), nothing else.

use std::fmt::Write as _;

/// A cell in SVG's units, and the margin around all of them.
const CELL: (f32, f32) = (8.4, 18.0);
const MARGIN: f32 = 10.0;
const INK: &str = "#d8dee9";
const PAPER: &str = "#1d2230";
/// The eight colours of ECMA-48, from black to white.
const COLOURS: [&str; 8] = [
    "#3b4252", "#ef6b73", "#a3d977", "#f0c674", "#81a1c1", "#c397d8", "#70c0ba", "#eceff4",
];

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Look {
    colour: Option<usize>,
    bold: bool,
    faint: bool,
    reversed: bool,
}

/// Draws a screen of so many columns and lines.
pub fn draw(screen: &str, (columns, lines): (u16, u16)) -> String {
    let width = f32::from(columns).mul_add(CELL.0, 2.0 * MARGIN);
    let height = f32::from(lines).mul_add(CELL.1, 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-size=\"14\" \
         font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{PAPER}\"/>\n"
    );
    let mut look = Look::default();
    for (line, row) in screen.lines().take(lines.into()).zip(0_u16..) {
        let mut column = 0;
        for (text, look) in runs(line, &mut look) {
            write_run(&mut svg, &text, look, (column, row));
            column += u16::try_from(text.chars().count()).unwrap_or(columns);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn write_run(svg: &mut String, text: &str, look: Look, (column, row): (u16, u16)) {
    let x = f32::from(column).mul_add(CELL.0, MARGIN);
    let y = f32::from(row).mul_add(CELL.1, MARGIN);
    let cells = u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
    let length = f32::from(cells) * CELL.0;
    let ink = look.colour.map_or(INK, |colour| COLOURS[colour]);
    let (ink, paper) = if look.reversed {
        (PAPER, Some(ink))
    } else {
        (ink, None)
    };
    if let Some(paper) = paper {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{paper}\"/>",
            CELL.1
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let weight = if look.bold {
        " font-weight=\"bold\""
    } else {
        ""
    };
    let opacity = if look.faint { " opacity=\"0.65\"" } else { "" };
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{length:.1}\" fill=\"{ink}\"{weight}{opacity} xml:space=\"preserve\">{text}</text>",
        y + 13.5
    );
}

/// Pieces of a line that look alike.
fn runs(line: &str, look: &mut Look) -> Vec<(String, Look)> {
    let mut runs = Vec::new();
    for (at, piece) in line.split("\u{1b}[").enumerate() {
        let text = match piece.split_once('m') {
            Some((numbers, text)) if at > 0 => {
                // Of the 256 colours, the first eight are used.
                match numbers
                    .strip_prefix("38;5;")
                    .and_then(|colour| colour.parse().ok())
                {
                    Some(colour @ 0..8) => look.colour = Some(colour),
                    _ => numbers.split(';').for_each(|number| look.take(number)),
                }
                text
            }
            _ => piece,
        };
        if !text.is_empty() {
            runs.push((text.to_owned(), *look));
        }
    }
    runs
}

impl Look {
    fn take(&mut self, number: &str) {
        match number.parse().unwrap_or(0_usize) {
            0 => *self = Self::default(),
            1 => self.bold = true,
            2 => self.faint = true,
            7 => self.reversed = true,
            colour @ 30..=37 => self.colour = Some(colour - 30),
            39 => self.colour = None,
            _ => {}
        }
    }
}

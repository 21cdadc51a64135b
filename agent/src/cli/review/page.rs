//! A page to scroll: lines that are ours, and quotations that cannot pass for them.

use ratatui::text::{Line, Span};

use super::{
    text::wrap,
    theme::{Theme, Tone},
};

/// Cells of a field's name, and of what a long value goes on below.
const LABEL: usize = 11;
/// In front of each line of a quotation, and of what a long one goes on in.
const QUOTE: (&str, &str) = ("| ", "> ");

/// Builds a page of a given width.
pub(super) struct Page {
    theme: Theme,
    width: usize,
    lines: Vec<Line<'static>>,
}

impl Page {
    pub(super) fn new(theme: Theme, width: u16) -> Self {
        Self {
            theme,
            width: usize::from(width),
            lines: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> Vec<Line<'static>> {
        self.lines
    }

    pub(super) fn blank(&mut self) {
        self.lines.push(Line::default());
    }

    pub(super) fn heading(&mut self, text: &str) {
        if !self.lines.is_empty() {
            self.blank();
        }
        self.text(text, Tone::Heading);
    }

    /// Words of ours.
    pub(super) fn text(&mut self, text: &str, tone: Tone) {
        for piece in wrap(text, self.width) {
            self.push(vec![(piece, tone)]);
        }
    }

    /// A field: all of its value below each other, so that none of it passes for another field.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        self.toned_field(name, value, Tone::Plain);
    }

    pub(super) fn toned_field(&mut self, name: &str, value: &str, tone: Tone) {
        let mut label = format!("{name:<LABEL$} ");
        for piece in wrap(value, self.width.saturating_sub(LABEL + 1)) {
            self.push(vec![(label, Tone::Label), (piece, tone)]);
            label = " ".repeat(LABEL + 1);
        }
    }

    /// Lines of somebody else's, each marked.
    pub(super) fn quote(&mut self, text: &str) {
        for line in text.lines() {
            self.quoted_line(&line.replace('\t', "    "), "", Tone::Plain);
        }
    }

    /// One such line, with a sign of ours in front.
    pub(super) fn quoted_line(&mut self, line: &str, sign: &str, tone: Tone) {
        let room = self.width.saturating_sub(QUOTE.0.len() + sign.len());
        let mut mark = QUOTE.0;
        for piece in wrap(line, room) {
            self.push(vec![
                (mark.to_owned(), Tone::Label),
                (sign.to_owned(), tone),
                (piece, tone),
            ]);
            mark = QUOTE.1;
        }
    }

    fn push(&mut self, spans: Vec<(String, Tone)>) {
        let spans = spans
            .into_iter()
            .map(|(text, tone)| Span::styled(text, self.theme.style(tone)));
        self.lines.push(spans.collect::<Vec<_>>().into());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::text, *};

    fn shown(page: Page) -> Vec<String> {
        page.finish().iter().map(Line::to_string).collect()
    }

    proptest! {
        #[test]
        fn what_is_quoted_never_passes_for_a_line_of_ours(said in "(?s).{0,300}", width in 20_u16..90) {
            let mut page = Page::new(Theme::PLAIN, width);
            page.quote(&said);
            for line in shown(page) {
                prop_assert!(line.starts_with("| ") || line.starts_with("> "));
                prop_assert!(text::width(&line) <= usize::from(width));
            }
            let mut page = Page::new(Theme::PLAIN, width);
            page.field("resource", &said);
            for (at, line) in shown(page).iter().enumerate() {
                let label = if at == 0 { "resource    " } else { "            " };
                prop_assert!(line.starts_with(label), "{line:?}");
                prop_assert!(text::width(line) <= usize::from(width));
            }
        }
    }
}

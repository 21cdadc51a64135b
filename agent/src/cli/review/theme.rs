//! How things look. Colour never carries a meaning alone: words and marks do.

use ratatui::style::{Color, Modifier, Style};

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// Names of fields, marks of quotations: ours, not the agent's.
    Label,
    Heading,
    /// Title bars.
    Bar,
    Faint,
    Good,
    Bad,
    Urgent,
    Cursor,
}

/// With colours or without (<https://no-color.org>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Theme {
    colour: bool,
}

impl Theme {
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self { colour: false };

    /// As the environment says: without colour where `NO_COLOR` is set and not empty.
    pub(super) fn from_environment() -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: !no_colour }
    }

    pub(super) fn style(self, tone: Tone) -> Style {
        let style = Style::new();
        let coloured = |colour| match self.colour {
            true => style.fg(colour),
            false => style,
        };
        match tone {
            Tone::Plain => style,
            Tone::Label => coloured(Color::Cyan),
            Tone::Heading => coloured(Color::Cyan).add_modifier(Modifier::BOLD),
            Tone::Bar | Tone::Cursor => style.add_modifier(Modifier::REVERSED),
            Tone::Faint => style.add_modifier(Modifier::DIM),
            Tone::Good => coloured(Color::Green).add_modifier(Modifier::BOLD),
            Tone::Bad => coloured(Color::Red).add_modifier(Modifier::BOLD),
            Tone::Urgent => coloured(Color::Yellow).add_modifier(Modifier::BOLD),
        }
    }
}

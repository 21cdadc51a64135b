//! Messages as Slack's incoming webhooks take them, and what imitates them (Mattermost, Rocket.Chat, Google Chat's bridges).
//!
//! Agents choose parts of what is told. So every such text stands in a code span, in which none of these looks for mentions, links or
//! formatting, and has nothing in it that could end the span; `&`, `<` and `>` are escaped everywhere, as Slack asks for
//! (docs.slack.dev, "Formatting message text").

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::message::Message;

/// Characters of a `section`'s text at most (docs.slack.dev, "Section block": 3000), with room for what follows the facts.
const LONGEST: usize = 2600;

pub(super) fn payload(message: &Message) -> Value {
    let title = format!(
        "*Holdpoint* on {}: {}",
        code(&message.host),
        code(&message.title())
    );
    let mut facts = String::new();
    for (name, value) in message.facts() {
        let line = format!("{name}: {}\n", code(&value));
        if facts.chars().count() + line.chars().count() <= LONGEST {
            facts.push_str(&line);
        }
    }
    let how = how_to_answer(message);
    let mut blocks = vec![section(&title), section(&facts)];
    blocks.extend(how.as_deref().map(section));
    let mut text = format!("{title}\n{facts}");
    if let Some(how) = how {
        let _ = write!(text, "{how}");
    }
    json!({
        "text": text, "blocks": blocks, "mrkdwn": true, "unfurl_links": false, "unfurl_media": false,
    })
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text}})
}

/// The link that Holdpoint made itself, or what to type on the host.
fn how_to_answer(message: &Message) -> Option<String> {
    let command = message.command()?;
    Some(match &message.answer_url {
        Some(url) => format!(
            "<{}|Answer> (or on the host: {})",
            escaped(url),
            code(&command)
        ),
        None => format!(
            "To answer: {}",
            code(&format!("ssh -t {} holdpoint review", message.host))
        ),
    })
}

/// `text` in a code span, out of which it does not get.
fn code(text: &str) -> String {
    let inner: String = text
        .chars()
        .map(|it| match it {
            '`' => '\'',
            '\n' | '\r' => ' ',
            other => other,
        })
        .collect();
    format!("`{}`", escaped(&inner))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_gets_out_of_its_span(text: String) {
            let span = code(&text);
            let inner = span.strip_prefix('`').and_then(|it| it.strip_suffix('`')).expect("a span");
            prop_assert!(!inner.contains(['`', '<', '>', '\n', '\r']));
            let entities = inner.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
            prop_assert!(!entities.contains('&'));
        }
    }
}

//! Tokens that say by their first characters who issued them.

use std::ops::Range;

use super::{super::find::Context, Seen, before, is_token, run_end};

/// Tokens are followed to their end.
const MAX_TOKEN: usize = usize::MAX;

/// A token that begins as written at the anchor and has at least `least` more bytes of a class.
fn after(
    text: &[u8],
    anchor: &Range<usize>,
    beginning: &str,
    class: fn(u8) -> bool,
    least: usize,
) -> Seen {
    if &text[anchor.clone()] != beginning.as_bytes() {
        return Seen::Nothing;
    }
    let end = run_end(text, anchor.end, MAX_TOKEN, class);
    if end - anchor.end < least {
        return Seen::Nothing;
    }
    Seen::Hit(anchor.start..end)
}

/// The same, for prefixes that differ.
fn after_any(text: &[u8], anchor: &Range<usize>, class: fn(u8) -> bool, least: usize) -> Seen {
    let is_lower = !text[anchor.clone()].iter().any(u8::is_ascii_uppercase);
    if !is_lower {
        return Seen::Nothing;
    }
    let end = run_end(text, anchor.end, MAX_TOKEN, class);
    if end - anchor.end < least {
        return Seen::Nothing;
    }
    Seen::Hit(anchor.start..end)
}

fn with_dots(byte: u8) -> bool {
    is_token(byte) || byte == b'.'
}

/// `AIza` and 35 more.
pub(super) fn google_api_key(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    after(text, &anchor, "AIza", is_token, 35)
}

/// `ya29.`, also `ya29.c.` and `ya29.d.`.
pub(super) fn google_access(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    after(text, &anchor, "ya29.", with_dots, 16)
}

/// `1//0`, followed by what is no path.
pub(super) fn google_refresh(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    if before(text, anchor.start).is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
        return Seen::Nothing;
    }
    after(text, &anchor, "1//", is_token, 30)
}

/// `GOCSPX-`.
pub(super) fn google_client(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    after(text, &anchor, "GOCSPX-", is_token, 20)
}

/// `ghp_`, `gho_`, `ghu_`, `ghs_`, `ghr_`, `github_pat_`.
pub(super) fn github(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    after_any(
        text,
        &anchor,
        |byte| byte.is_ascii_alphanumeric() || byte == b'_',
        22,
    )
}

/// `glpat-` and its relatives.
pub(super) fn gitlab(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    after_any(text, &anchor, with_dots, 20)
}

/// `xoxb-` and its relatives; `xoxe.xoxp-`.
pub(super) fn slack(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    after_any(text, &anchor, with_dots, 10)
}

/// The path of a Slack webhook.
pub(super) fn slack_webhook(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    let kinds: [&[u8]; 3] = [b"services/", b"workflows/", b"triggers/"];
    let rest = &text[anchor.end..];
    let Some(kind) = kinds.iter().find(|kind| rest.starts_with(kind)) else {
        return Seen::Nothing;
    };
    let from = anchor.end + kind.len();
    let end = run_end(text, from, MAX_TOKEN, |byte| is_token(byte) || byte == b'/');
    (end - from >= 20).then_some(from..end).into()
}

/// `AKIA` or `ASIA` and 16 more, standing alone.
pub(super) fn aws_id(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    let class = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let end = run_end(text, anchor.start, 21, class);
    let is_word = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let alone = !is_word(before(text, anchor.start)) && !is_word(text.get(end).copied());
    (alone && end - anchor.start == 20)
        .then_some(anchor.start..end)
        .into()
}

/// `sk-`, `sk-proj-`, `sk-svcacct-`, ...: at least 32 more, of letters of both cases and digits.
pub(super) fn openai(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    if before(text, anchor.start).is_some_and(|byte| byte.is_ascii_alphanumeric())
        || text[anchor.end..].starts_with(b"ant-")
    {
        return Seen::Nothing;
    }
    let found = after(text, &anchor, "sk-", is_token, 32);
    let Seen::Hit(at) = &found else { return found };
    let sample = &text[at.start + 3..at.end.min(at.start + 256)];
    let has = |class: fn(&u8) -> bool| sample.iter().any(class);
    if has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) {
        return found;
    }
    Seen::Nothing
}

/// `sk-ant-`.
pub(super) fn anthropic(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    after(text, &anchor, "sk-ant-", is_token, 20)
}

#[cfg(test)]
mod tests {
    use super::super::{
        Builtin as B,
        testing::{finds, finds_nothing},
    };

    const MIXED: &str = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7aB3dE6gH9jK2mN5pQ8sT1";

    #[test]
    fn google_s() {
        finds(B::GoogleApiKey, &[&format!("AIza{}", &MIXED[..35])]);
        finds_nothing(
            B::GoogleApiKey,
            &["AIza", "AIzaShort", &format!("aiza{}", &MIXED[..35])],
        );
        finds(
            B::GoogleAccessToken,
            &[
                "ya29.a0AfH6SMBx-yz_0123456789",
                "ya29.c.b0AXv0zTPabc.def-0123456789",
            ],
        );
        finds_nothing(B::GoogleAccessToken, &["ya29.", "ya29.short", "maya29.com"]);
        finds(
            B::GoogleRefreshToken,
            &["1//0gAbCdEfGhIjKlMnOpQrStUvWxYz-0123456789_ab"],
        );
        finds_nothing(
            B::GoogleRefreshToken,
            &[
                "1//short",
                "http://10.0.0.1//aVeryLongPathThatGoesOnForEverAndEver",
            ],
        );
        finds(B::GoogleClientSecret, &["GOCSPX-abcdefghijklmnopqrst_-01"]);
        finds_nothing(B::GoogleClientSecret, &["GOCSPX-", "GOCSPX-short"]);
    }

    #[test]
    fn forges() {
        for kind in ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"] {
            finds(B::GithubToken, &[&format!("{kind}{}", &MIXED[..36])]);
        }
        finds_nothing(
            B::GithubToken,
            &[
                "ghp_short",
                "GHP_ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                "github_pat_x",
            ],
        );
        for kind in ["glpat-", "gldt-", "glrt-", "glagent-"] {
            finds(B::GitlabToken, &[&format!("{kind}{}", &MIXED[..20])]);
        }
        finds_nothing(B::GitlabToken, &["glpat-short"]);
    }

    #[test]
    fn slack_s() {
        finds(
            B::SlackToken,
            &[
                "xoxb-123456789012-abcdefGHIJ",
                "xoxe.xoxp-1-abcdefghijkl",
                "xapp-1-A012-345-abcdef",
            ],
        );
        finds_nothing(B::SlackToken, &["xoxb-short", "xoxo"]);
        let webhook = "T00000000/B00000000/abcdefghijklmnopqrstuvwx";
        let text = format!("https://hooks.slack.com/services/{webhook}?x");
        let found = super::super::testing::found_in(B::SlackWebhook, &text, Default::default());
        assert_eq!(found, [webhook]);
        finds_nothing(
            B::SlackWebhook,
            &["https://hooks.slack.com/docs/abcdefghijklmnopqrstuvwxyz"],
        );
    }

    #[test]
    fn others() {
        finds(
            B::AwsAccessKeyId,
            &["AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"],
        );
        finds_nothing(
            B::AwsAccessKeyId,
            &[
                "AKIAIOSFODNN7EXAMPLEX",
                "xAKIAIOSFODNN7EXAMPLE",
                "AKIAiosfodnn7example",
            ],
        );
        finds(
            B::OpenaiKey,
            &[&format!("sk-{MIXED}"), &format!("sk-proj-{MIXED}")],
        );
        finds_nothing(
            B::OpenaiKey,
            &[
                "disk-aB3dE6gH9jK2mN5pQ8sT1vW4yZ7aB3dE6gH9jK2mN5pQ8sT1",
                "sk-a-long-name-of-something-that-is-no-key-at-all",
                "sk-ant-aB3dE6gH9jK2mN5pQ8sT1vW4yZ7aB3dE6gH9jK2mN5pQ8sT1",
            ],
        );
        finds(B::AnthropicKey, &["sk-ant-api03-aB3dE6gH9jK2mN5pQ8sT1"]);
        finds_nothing(B::AnthropicKey, &["sk-ant-short"]);
    }
}

//! The pages: no scripts, nothing from elsewhere, and every text that comes from somebody escaped.

use holdpoint_core::approval::Reviewer;
use jiff::Timestamp;

use crate::{approvals::ApprovalDetail, cli::approvals::described_in_full};

/// The one style sheet.
pub(super) const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}\
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f4f4f4;border:1px solid #ccc;padding:1rem;font-size:14px}\
textarea{width:100%;box-sizing:border-box;font:inherit}button{font:inherit;padding:.5rem 1.5rem;margin-right:1rem}\
.yes{border:2px solid #060}.no{border:2px solid #900}";

/// A page with a title and what is below it, which is HTML.
pub(super) fn page(title: &str, below: &str) -> String {
    let title = escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} · Holdpoint</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><link rel=\"stylesheet\" href=\"/style.css\"></head>\
         <body><h1>{title}</h1>\n{below}</body></html>\n"
    )
}

/// One paragraph.
pub(super) fn told(title: &str, text: &str) -> String {
    page(title, &format!("<p>{}</p>\n", escaped(text)))
}

/// Where to sign in, to come back to the link of this path. Of what is asked it says nothing.
pub(super) fn sign_in<'a>(link: &str, issuers: impl Iterator<Item = &'a str>) -> String {
    let links: String = issuers
        .enumerate()
        .map(|(number, issuer)| {
            let to = escaped(&format!("/sign-in/{number}{link}"));
            format!("<li><a href=\"{to}\">{}</a></li>\n", escaped(issuer))
        })
        .collect();
    let below = match links.is_empty() {
        false => format!("<p>This link leads to a question for reviewers. Say who you are:</p>\n<ul>\n{links}</ul>\n"),
        true => "<p>No issuer is set up for browsers here. Ask with an ID token: \
                 <code>curl -H 'Authorization: Bearer TOKEN' THIS-URL</code>, or answer on the host: \
                 <code>holdpoint review</code>.</p>\n"
            .to_owned(),
    };
    page("Sign in", &below)
}

/// The question, as `holdpoint approvals show` has it, and a form to answer it.
pub(super) fn question(
    detail: &ApprovalDetail,
    reviewer: &Reviewer,
    form_token: &str,
    break_glass: bool,
    now: Timestamp,
) -> String {
    let text = escaped(&described_in_full(detail, now));
    let glass = match break_glass {
        true => {
            "<p><label><input type=\"checkbox\" name=\"break_glass\" value=\"yes\"> break the glass: approve alone \
                 what others would have to approve, too (say why)</label></p>\n"
        }
        false => "",
    };
    let below = format!(
        "<pre>{text}</pre>\n<form method=\"post\" autocomplete=\"off\">\n\
         <input type=\"hidden\" name=\"form_token\" value=\"{}\">\n\
         <p><label>Comment<br><textarea name=\"comment\" rows=\"3\" maxlength=\"2000\"></textarea></label></p>\n{glass}\
         <p><button class=\"yes\" name=\"verdict\" value=\"approve\">Approve</button>\
         <button class=\"no\" name=\"verdict\" value=\"deny\">Deny</button></p>\n</form>\n\
         <p>You answer as {}.</p>\n",
        escaped(form_token),
        escaped(&reviewer.name),
    );
    page(&format!("May {} happen?", detail.approval.action), &below)
}

/// `text` as text in HTML, in attributes too.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Not allowed in HTML at all.
            '\0' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

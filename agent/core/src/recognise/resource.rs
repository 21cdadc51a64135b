//! The full resource name of what a request is about
//! (<https://cloud.google.com/iam/docs/full-resource-names>): one name, whichever version or host asks.

use super::{Malformed, path, query::Query};
use crate::{
    catalog::{Endpoint, Method, is_version},
    operation::Resource,
};

/// A segment of a path beside its template's.
struct Piece {
    text: String,
    is_fixed: bool,
}

/// What `method` is asked to act on by the raw path `segments`.
///
/// # Errors
/// When a segment cannot be decoded.
pub(super) fn of(
    method: &Method,
    endpoint: &Endpoint<'_>,
    segments: &[&str],
    query: &Query,
) -> Result<Resource, Malformed> {
    let mut pieces = pieces(method, segments)?;
    strip_version(&mut pieces);
    let last = method.id.rsplit('.').next().unwrap_or_default();
    if pieces.len() > 1
        && pieces
            .last()
            .is_some_and(|piece| piece.is_fixed && piece.text == last)
    {
        pieces.pop();
    }
    let pieces = match method.id.split('.').next() {
        Some("storage") => storage(pieces, query),
        Some("run") => run(pieces, endpoint),
        _ => pieces,
    };
    let texts: Vec<&str> = pieces.iter().map(|piece| piece.text.as_str()).collect();
    Ok(Resource {
        name: format!("//{}/{}", method.host, texts.join("/")),
        project: project(&texts, query),
        location: after(&texts, &["locations", "zones", "regions"])
            .map(str::to_owned)
            .or_else(|| is_global(&texts).then(|| "global".to_owned()))
            .or_else(|| endpoint.location.clone()),
    })
}

/// Whether a variable of this method holds an object's name, which is opaque.
pub(super) fn is_object(method: &Method, variable: &str) -> bool {
    method.id.starts_with("storage.")
        && matches!(variable, "object" | "sourceObject" | "destinationObject")
}

/// The template's segment beside each segment of the path; a `**` is repeated as often as it spans.
pub(super) fn aligned<'a>(
    template: &'a str,
    segments: &'a [&str],
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let spans = segments.len().saturating_sub(template.split('/').count()) + 1;
    template
        .split('/')
        .flat_map(move |piece| {
            std::iter::repeat_n(piece, if piece.contains("=**}") { spans } else { 1 })
        })
        .zip(segments.iter().copied())
}

fn pieces(method: &Method, segments: &[&str]) -> Result<Vec<Piece>, Malformed> {
    let mut pieces = Vec::with_capacity(segments.len());
    for (template, segment) in aligned(method.template, segments) {
        let custom_verb = template.rsplit_once(':').map(|(_, verb)| verb);
        let name = custom_verb
            .and_then(|verb| segment.strip_suffix(verb)?.strip_suffix(':'))
            .unwrap_or(segment);
        pieces.push(Piece {
            text: path::decode(name)?,
            is_fixed: !template.starts_with('{'),
        });
    }
    Ok(pieces)
}

/// Takes off what stands before the resource: `v1`, `compute/v1`, `apis/serving.knative.dev/v1`.
fn strip_version(pieces: &mut Vec<Piece>) {
    let version = pieces
        .iter()
        .take(3)
        .position(|piece| piece.is_fixed && is_version(&piece.text));
    if let Some(place) = version
        && place + 1 < pieces.len()
    {
        pieces.drain(..=place);
    }
}

/// `b/B/o/O` as `projects/_/buckets/B/objects/O`. Of a copy, the copy.
fn storage(mut pieces: Vec<Piece>, query: &Query) -> Vec<Piece> {
    let is = |piece: &Piece, name: &str| piece.is_fixed && piece.text == name;
    if let Some(place) = pieces
        .iter()
        .position(|piece| is(piece, "rewriteTo") || is(piece, "copyTo"))
    {
        pieces.drain(..=place);
    }
    if let Some(place) = pieces
        .iter()
        .position(|piece| is(piece, "moveTo") || is(piece, "iam"))
    {
        pieces.truncate(place);
    }
    for piece in &mut pieces {
        let plain = match piece.text.as_str() {
            "b" => "buckets",
            "o" => "objects",
            _ => continue,
        };
        if piece.is_fixed {
            plain.clone_into(&mut piece.text);
        }
    }
    if pieces.first().is_some_and(|first| is(first, "buckets")) {
        let of_project = (pieces.len() == 1)
            .then(|| query.value("project"))
            .flatten();
        pieces.splice(
            0..0,
            [
                Piece::fixed("projects"),
                Piece::named(of_project.unwrap_or("_")),
            ],
        );
    }
    pieces
}

/// A Knative namespace is the project; the host names the location.
fn run(mut pieces: Vec<Piece>, endpoint: &Endpoint<'_>) -> Vec<Piece> {
    if pieces.len() > 1 && pieces[0].is_fixed && pieces[0].text == "namespaces" {
        let location = endpoint.location.as_deref().unwrap_or("-");
        pieces[0] = Piece::fixed("projects");
        pieces.splice(2..2, [Piece::fixed("locations"), Piece::named(location)]);
    }
    pieces
}

impl Piece {
    fn fixed(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            is_fixed: true,
        }
    }

    fn named(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            is_fixed: false,
        }
    }
}

fn after<'a>(texts: &[&'a str], collections: &[&str]) -> Option<&'a str> {
    let place = texts
        .iter()
        .step_by(2)
        .position(|text| collections.contains(text))?
        * 2;
    texts.get(place + 1).copied()
}

/// The project in the name; else in a service account's address; else in the query, where collections have it.
fn project(texts: &[&str], query: &Query) -> Option<String> {
    let named =
        after(texts, &["projects", "apps"]).filter(|project| !matches!(*project, "_" | "-"));
    let account = || {
        let (_, domain) = after(texts, &["serviceAccounts"])?.split_once('@')?;
        domain.strip_suffix(".iam.gserviceaccount.com")
    };
    let project = named.or_else(account).or_else(|| query.value("project"));
    project
        .filter(|project| !project.is_empty())
        .map(str::to_owned)
}

/// `projects/P/global/...`, as Compute Engine has it.
fn is_global(texts: &[&str]) -> bool {
    texts.first() == Some(&"projects") && texts.get(2) == Some(&"global")
}

//! What can go wrong on the way upstream, told so that the reader knows what to check.

use std::{error::Error, io, time::Duration};

use http::Uri;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No byte of the request left: sending it again cannot do anything twice.
    #[error("{host}: the request was not sent: {cause}")]
    NotSent {
        /// The host it was meant for.
        host: String,
        /// What happened and what to check.
        cause: String,
    },
    /// The request may have reached the other side, and may have been carried out.
    #[error("{host}: no answer to the request, which may have been carried out: {cause}")]
    Unknown {
        /// The host it was sent to.
        host: String,
        /// What happened and what to check.
        cause: String,
    },
}

impl SendError {
    pub(super) fn refused(uri: &Uri, why: &str) -> Self {
        Self::NotSent {
            host: host(uri),
            cause: why.to_owned(),
        }
    }

    pub(super) fn of(uri: &Uri, error: &hyper_util::client::legacy::Error) -> Self {
        let host = host(uri);
        let cause = explain(error);
        if never_started(error) {
            Self::NotSent { host, cause }
        } else {
            Self::Unknown { host, cause }
        }
    }
}

/// The three cases in which no connection has taken the request up: there is none (`is_connect`), the request was
/// still waiting for one (the error names no connection), or hyper handed it back from its queue ("canceled").
fn never_started(error: &hyper_util::client::legacy::Error) -> bool {
    let handed_back = error
        .source()
        .and_then(|source| source.downcast_ref::<hyper::Error>())
        .is_some_and(hyper::Error::is_canceled);
    error.is_connect() || error.connect_info().is_none() || handed_back
}

/// Why a whole, bounded response could not be fetched.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch {uri}: {cause}")]
pub struct FetchError {
    uri: String,
    cause: FetchCause,
}

impl FetchError {
    pub(super) fn new(uri: &Uri, cause: FetchCause) -> Self {
        // Without the query, where parameters are that are nobody's business.
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let uri = format!("{scheme}://{authority}{}", uri.path());
        Self { uri, cause }
    }

    /// What happened, without the URI.
    pub(crate) fn cause(&self) -> String {
        self.cause.to_string()
    }

    /// What is to be fetched has no URI.
    pub(super) fn unfit(host: &str, error: &http::Error) -> Self {
        Self {
            uri: format!("https://{host}"),
            cause: FetchCause::Unfit(error.to_string()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum FetchCause {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("it cannot be asked for: {0}")]
    Unfit(String),
    #[error("the answer is longer than {0} bytes")]
    Long(usize),
    #[error("the answer broke off: {0}")]
    Broken(String),
    #[error("no complete answer within {} s", .0.as_secs_f32())]
    Late(Duration),
}

impl FetchCause {
    pub(super) fn of_body(error: &(dyn Error + 'static), limit: usize) -> Self {
        if error.is::<http_body_util::LengthLimitError>() {
            Self::Long(limit)
        } else {
            Self::Broken(explain(error))
        }
    }
}

fn host(uri: &Uri) -> String {
    uri.host().unwrap_or("(no host)").to_owned()
}

/// The chain of causes in one line, and what to check.
pub(super) fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut hint = None;
    for cause in causes(error) {
        let part = cause.to_string();
        // Wrappers repeat what they wrap.
        if !text.contains(&part) {
            text = if text.is_empty() {
                part
            } else {
                format!("{text}: {part}")
            };
        }
        hint = hint_for(cause).or(hint);
    }
    match hint {
        Some(hint) => format!("{text} ({hint})"),
        None => text,
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        inner(*error)
    })
}

/// What `error` was caused by. An `io::Error` answers with the source of what it wraps, and leaves the thing itself out.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>() {
        Some(wrapper) => wrapper.get_ref().map(|inner| inner as _),
        None => error.source(),
    }
}

fn hint_for(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    if cause.is::<tokio::time::error::Elapsed>() {
        return Some(
            "no connection within the time limit: is the host up, and the way to it open?",
        );
    }
    if let Some(rustls::Error::InvalidCertificate(_)) = cause.downcast_ref() {
        return Some("check that its certificate names the host and that its CA is in ca_file");
    }
    if cause.is::<rustls::Error>() {
        return Some("does the address speak TLS?");
    }
    if cause.to_string() == "dns error" {
        return Some("the host's resolver does not know the name: check it and upstream.addresses");
    }
    match cause.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::ConnectionRefused => {
            Some("nothing listens there: check the address and upstream.addresses")
        }
        io::ErrorKind::TimedOut => Some("is the host up, and the way to it open?"),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            Some("there is no route: check the network and upstream.addresses")
        }
        _ => None,
    }
}

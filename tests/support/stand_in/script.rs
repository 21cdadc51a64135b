//! Answers that a test puts into Google's mouth.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;

use super::{Answer, Call};

/// What is answered at some paths, until something else is said.
#[derive(Clone, Debug, Default)]
pub struct Script(Arc<Mutex<HashMap<(String, String), Line>>>);

#[derive(Clone, Debug)]
struct Line {
    status: StatusCode,
    body: String,
    after: Duration,
}

impl Script {
    /// `method` on `path` is answered with this status and body.
    ///
    /// # Panics
    /// When `status` is none.
    pub fn say(&self, method: &str, path: &str, status: u16, body: &str) {
        self.say_after(Duration::ZERO, method, path, status, body);
    }

    /// The same, later.
    ///
    /// # Panics
    /// When `status` is none.
    pub fn say_after(&self, after: Duration, method: &str, path: &str, status: u16, body: &str) {
        let line = Line {
            status: StatusCode::from_u16(status).expect("an HTTP status"),
            body: body.to_owned(),
            after,
        };
        let mut lines = self.0.lock().expect("no panic while locked");
        lines.insert((method.to_owned(), path.to_owned()), line);
    }

    /// The answer to a call, if one was put here.
    pub(super) fn answer(&self, call: &Call) -> Option<Answer> {
        let path = format!("/{}", call.segments.join("/"));
        let lines = self.0.lock().expect("no panic while locked");
        let line = lines.get(&(call.method.clone(), path))?.clone();
        drop(lines);
        tokio::task::block_in_place(|| std::thread::sleep(line.after));
        let body = Bytes::from(line.body);
        Some(Answer::of("application/json; charset=UTF-8", body).with_status(line.status))
    }
}

//! Answers that a test puts into Google's mouth.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;

use super::{Answer, Call};

/// What is answered at some paths, until something else is said.
#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<HashMap<(String, String), Line>>>);

type Line = Arc<dyn Fn(&Call) -> Answer + Send + Sync>;

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
        let status = StatusCode::from_u16(status).expect("an HTTP status");
        let body = Bytes::from(body.to_owned());
        let answer = Answer::of("application/json; charset=UTF-8", body).with_status(status);
        self.answer_by(method, path, move |_| {
            tokio::task::block_in_place(|| std::thread::sleep(after));
            answer.clone()
        });
    }

    /// `method` on `path` is answered by this.
    ///
    /// # Panics
    /// Never: nobody panics while it is locked.
    pub fn answer_by(
        &self,
        method: &str,
        path: &str,
        line: impl Fn(&Call) -> Answer + Send + Sync + 'static,
    ) {
        let mut lines = self.0.lock().expect("no panic while locked");
        lines.insert((method.to_owned(), path.to_owned()), Arc::new(line));
    }

    /// The answer to a call, if one was put here.
    pub(super) fn answer(&self, call: &Call) -> Option<Answer> {
        let path = format!("/{}", call.segments.join("/"));
        let lines = self.0.lock().expect("no panic while locked");
        let line = lines.get(&(call.method.clone(), path))?.clone();
        drop(lines);
        Some(line(call))
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").finish_non_exhaustive()
    }
}

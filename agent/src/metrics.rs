//! What is counted, as OpenMetrics text. The one module that touches prometheus-client.
//!
//! No label is of an agent's choosing: their values come from fixed sets, the largest of which are the catalog's services.

mod listener;

use std::{
    sync::{Arc, LazyLock, atomic::Ordering},
    time::{Duration, Instant},
};

use holdpoint_core::{approval::State, operation::Operation, policy::Decision};
use jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Metric, Registry, Unit},
};

pub use listener::serve;

use crate::{approvals::Approvals, config::Mode, record::Purged, session::Sessions};

/// The content type of [`Scrape::text`] (OpenMetrics 1.0, "Content Type").
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds. A request that waits for a person takes minutes.
const LATENCIES: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];
/// Seconds.
const SYNCS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// The counters of this process: one set, because everything counts and nothing depends on what was counted.
#[must_use]
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::default);
    &METRICS
}

/// How a connection was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Opened: it went to a host of Google's.
    Google,
    /// By the sandboxes' metadata server.
    Metadata,
    /// By Holdpoint itself: what a sandbox asks about itself.
    Sandbox,
    /// Opened: it went to a database.
    Database,
    /// Joined, unopened, to a host that policy permits.
    PassedThrough,
    /// Not at all.
    Refused,
    /// It was under way when its session ended.
    CutOff,
}

/// A connection that lasts: counted when dropped, whatever ends it.
pub struct Lasting {
    since: Instant,
    served: Served,
}

impl Lasting {
    /// One that begins.
    #[must_use]
    pub fn new() -> Self {
        Self {
            since: Instant::now(),
            served: Served::CutOff,
        }
    }

    /// It has been served like this.
    pub fn served(&mut self, served: Served) {
        self.served = served;
    }
}

impl Default for Lasting {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        metrics().connection_ended(self.served, self.since.elapsed());
    }
}

/// How a name was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The answer has a record.
    Found,
    /// The name is known, and has no record of the type asked for.
    Empty,
    /// No policy knows the name.
    Unknown,
    /// The session has resolved too many names.
    Full,
    /// What was asked is not answered, whatever the name.
    Odd,
}

/// How Holdpoint's own reading at Google ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnRead {
    /// It was read.
    Read,
    /// There is no such thing.
    Absent,
    /// It had been read just before.
    Cached,
    /// It could not be read.
    Failed,
}

/// All counters.
pub struct Metrics {
    registry: Registry,
    sessions_open: Gauge,
    sessions_opened: Counter,
    sessions_refused: Counter,
    policy_observed: Gauge,
    operations: Family<Judged, Counter>,
    holds_pending: Gauge,
    approvals: Family<End, Counter>,
    notifications: Family<Notified, Counter>,
    answers: Family<End, Counter>,
    upstream_errors: Family<Kind, Counter>,
    own_reads: Family<Kind, Counter>,
    record_events: Counter,
    record_failures: Counter,
    record_sync: Histogram,
    record_purges: Family<Kind, Counter>,
    answers_withheld: Counter,
    mask_tokens_refused: Counter,
    shipped_events: Counter,
    ship_failures: Counter,
    ship_behind: Gauge,
    ship_up_to_date: Gauge,
    kernel_refusals: Family<Reason, Counter>,
    dns_answers: Family<Kind, Counter>,
    connections: Family<Kind, Histogram>,
    requests: Family<Kind, Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Judged {
    decision: &'static str,
    service: String,
    mode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Notified {
    kind: &'static str,
    end: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct End {
    end: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("holdpoint");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running program", build);
        let new = &mut registry;
        Self {
            sessions_open: add(
                new,
                "sessions_open",
                "Sessions that are open",
                Gauge::default(),
            ),
            sessions_opened: add(
                new,
                "sessions_opened",
                "Sessions that were opened",
                Counter::default(),
            ),
            sessions_refused: add(
                new,
                "sessions_refused",
                "Requests for a session that were refused",
                Counter::default(),
            ),
            policy_observed: add(
                new,
                "policy_observed",
                "1 while policy is only observed: nothing is denied or held",
                Gauge::default(),
            ),
            operations: add(
                new,
                "operations",
                "Operations, by what policy said of them and whether that counted",
                Family::default(),
            ),
            holds_pending: add(
                new,
                "holds_pending",
                "Held operations that wait for people",
                Gauge::default(),
            ),
            approvals: add(
                new,
                "approvals",
                "Approvals that are over, by how they ended",
                Family::default(),
            ),
            notifications: add(
                new,
                "notifications",
                "Notifications, by kind of destination and by what became of them",
                Family::default(),
            ),
            answers: add(
                new,
                "answer_requests",
                "Requests to the answer endpoint, by how they ended",
                Family::default(),
            ),
            upstream_errors: add(
                new,
                "upstream_errors",
                "Requests without an answer from upstream",
                Family::default(),
            ),
            own_reads: add(
                new,
                "own_reads",
                "What Holdpoint read at Google by itself, by how that ended",
                Family::default(),
            ),
            record_events: add(
                new,
                "record_events",
                "Events that were written",
                Counter::default(),
            ),
            record_failures: add(
                new,
                "record_failures",
                "Writes and syncs of the record that failed",
                Counter::default(),
            ),
            record_sync: timed(
                new,
                "record_sync",
                "How long a sync of the record to disk took",
                Histogram::new(SYNCS),
            ),
            record_purges: add(
                new,
                "record_purges",
                "Segments of which something was taken out of the record, by what",
                Family::default(),
            ),
            answers_withheld: add(
                new,
                "answers_withheld",
                "Answers that had to be masked, could not be read, and were not passed on, or not to their end",
                Counter::default(),
            ),
            mask_tokens_refused: add(
                new,
                "mask_tokens_refused",
                "Requests that were refused because a masked value came back in them",
                Counter::default(),
            ),
            shipped_events: add(
                new,
                "ship_events",
                "Events of the record that were shipped off this host",
                Counter::default(),
            ),
            ship_failures: add(
                new,
                "ship_failures",
                "Attempts to ship the record that failed",
                Counter::default(),
            ),
            ship_behind: add(
                new,
                "ship_behind",
                "Events that were not shipped yet when it was last tried",
                Gauge::default(),
            ),
            ship_up_to_date: timed(
                new,
                "ship_up_to_date",
                "When everything there was to ship had been shipped, since 1970",
                Gauge::default(),
            ),
            kernel_refusals: add(
                new,
                "kernel_refusals",
                "What the BPF programs refused, by reason",
                Family::default(),
            ),
            dns_answers: add(
                new,
                "dns_answers",
                "Answers of the sessions' resolvers",
                Family::default(),
            ),
            connections: timed(
                new,
                "connection",
                "How long connections of sessions lasted",
                latencies(),
            ),
            requests: timed(
                new,
                "request",
                "From a request's head to that of its answer",
                latencies(),
            ),
            registry,
        }
    }
}

impl Metrics {
    /// A session was opened.
    pub fn session_opened(&self) {
        self.sessions_opened.inc();
    }

    /// A request for one was refused.
    pub fn session_refused(&self) {
        self.sessions_refused.inc();
    }

    /// From here on policy counts, or does not.
    pub fn policy_mode(&self, mode: Mode) {
        self.policy_observed.set(i64::from(mode == Mode::Observe));
    }

    /// Policy has judged an operation.
    pub fn judged(&self, operation: &Operation, decision: &Decision, mode: Mode) {
        let decision = match decision {
            Decision::Allow(_) => "allow",
            Decision::Hold(_) => "hold",
            Decision::Deny(_) => "deny",
        };
        let service = operation.action.service().to_owned();
        self.operations
            .get_or_create(&Judged {
                decision,
                service,
                mode: mode.name(),
            })
            .inc();
    }

    /// An approval is over.
    pub fn approval_ended(&self, state: State) {
        self.approvals
            .get_or_create(&End { end: state.name() })
            .inc();
    }

    /// Something was told, or was not.
    pub fn notified(&self, kind: &'static str, end: &'static str) {
        self.notifications
            .get_or_create(&Notified { kind, end })
            .inc();
    }

    /// A request to the answer endpoint was answered.
    pub fn answer_request(&self, end: &'static str) {
        self.answers.get_or_create(&End { end }).inc();
    }

    /// A request was admitted and not answered; `may_have_left` when nobody can tell whether upstream has seen it.
    pub fn upstream_failed(&self, may_have_left: bool) {
        let kind = if may_have_left { "unknown" } else { "not_sent" };
        self.upstream_errors.get_or_create(&Kind { kind }).inc();
    }

    /// Something was read with Holdpoint's own hands, or should have been.
    pub fn read_by_itself(&self, end: OwnRead) {
        let kind = match end {
            OwnRead::Read => "read",
            OwnRead::Absent => "absent",
            OwnRead::Cached => "cached",
            OwnRead::Failed => "failed",
        };
        self.own_reads.get_or_create(&Kind { kind }).inc();
    }

    /// So many events were written.
    pub fn record_written(&self, events: usize) {
        self.record_events.inc_by(events as u64);
    }

    /// What was written is on disk, after so long.
    pub fn record_synced(&self, took: Duration) {
        self.record_sync.observe(took.as_secs_f64());
    }

    /// It could not be written, or not be synced.
    pub fn record_failed(&self) {
        self.record_failures.inc();
    }

    /// Something of a segment was taken out of the record.
    pub fn record_purged(&self, what: Purged) {
        let kind = match what {
            Purged::Bodies => "bodies",
            Purged::Events => "events",
        };
        self.record_purges.get_or_create(&Kind { kind }).inc();
    }

    /// An answer, or the rest of it, was not passed on, because it could not be masked.
    pub fn answer_withheld(&self) {
        self.answers_withheld.inc();
    }

    /// A request was refused, because a masked value came back in it.
    pub fn mask_token_refused(&self) {
        self.mask_tokens_refused.inc();
    }

    /// So many events were shipped.
    pub fn shipped(&self, events: u64) {
        self.shipped_events.inc_by(events);
    }

    /// All there was to ship is there, but what came since.
    pub fn shipped_all(&self, behind: u64) {
        self.ship_behind
            .set(i64::try_from(behind).unwrap_or(i64::MAX));
        self.ship_up_to_date.set(Timestamp::now().as_second());
    }

    /// It is not.
    pub fn ship_failed(&self, behind: u64) {
        self.ship_failures.inc();
        self.ship_behind
            .set(i64::try_from(behind).unwrap_or(i64::MAX));
    }

    /// A query was answered.
    pub fn looked_up(&self, lookup: Lookup) {
        let kind = match lookup {
            Lookup::Found => "found",
            Lookup::Empty => "empty",
            Lookup::Unknown => "unknown_name",
            Lookup::Full => "full",
            Lookup::Odd => "odd",
        };
        self.dns_answers.get_or_create(&Kind { kind }).inc();
    }

    /// A connection has ended.
    fn connection_ended(&self, served: Served, lasted: Duration) {
        let kind = match served {
            Served::Google => "google",
            Served::Metadata => "metadata",
            Served::Sandbox => "sandbox",
            Served::Database => "database",
            Served::PassedThrough => "passed_through",
            Served::Refused => "refused",
            Served::CutOff => "cut_off",
        };
        let of = self.connections.get_or_create(&Kind { kind });
        of.observe(lasted.as_secs_f64());
    }

    /// A request was answered, by upstream or with a refusal.
    pub fn request_answered(&self, by_upstream: bool, took: Duration) {
        let kind = if by_upstream { "upstream" } else { "refusal" };
        self.requests
            .get_or_create(&Kind { kind })
            .observe(took.as_secs_f64());
    }

    /// The text for Prometheus.
    fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes all text");
        text
    }
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn timed<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

fn latencies() -> Family<Kind, Histogram> {
    Family::new_with_constructor(|| Histogram::new(LATENCIES))
}

/// How often the kernel refused for each reason.
pub type KernelRefusals = Arc<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// The counters, and where to look for what is not counted here. Cheap to clone.
#[derive(Clone)]
pub struct Scrape {
    /// The live sessions.
    pub sessions: Arc<Sessions>,
    /// The held operations.
    pub approvals: Approvals,
    /// The kernel's own counters.
    pub kernel_refusals: KernelRefusals,
}

impl Scrape {
    /// Everything as OpenMetrics text.
    pub async fn text(&self) -> String {
        let metrics = metrics();
        metrics.sessions_open.set(count(self.sessions.count()));
        let holds = self.approvals.list().await;
        let pending = holds.iter().filter(|hold| hold.state == State::Pending);
        metrics.holds_pending.set(count(pending.count()));
        for (reason, count) in (self.kernel_refusals)() {
            let counter = metrics.kernel_refusals.get_or_create(&Reason { reason });
            counter.inner().store(count, Ordering::Relaxed);
        }
        metrics.text()
    }
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_a_name_a_unit_and_an_end() {
        let metrics = Metrics::default();
        metrics.looked_up(Lookup::Unknown);
        metrics.looked_up(Lookup::Unknown);
        metrics.request_answered(false, Duration::from_millis(3));
        metrics.approval_ended(State::Used);
        let text = metrics.text();
        for line in [
            concat!(
                "holdpoint_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
            "holdpoint_dns_answers_total{kind=\"unknown_name\"} 2",
            "holdpoint_request_seconds_bucket{le=\"0.005\",kind=\"refusal\"} 1",
            "holdpoint_request_seconds_count{kind=\"refusal\"} 1",
            "holdpoint_approvals_total{end=\"used\"} 1",
            "holdpoint_record_sync_seconds_count 0",
            "# UNIT holdpoint_record_sync_seconds seconds",
            "# EOF",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}

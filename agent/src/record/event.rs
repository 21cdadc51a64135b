//! What is recorded.

use std::{collections::BTreeSet, fmt, net::SocketAddr, sync::Arc};

use holdpoint_core::{approval::Answer, digest::Digest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    bodies::BodyRecord,
    parts::{
        BinaryRecord, DecisionRecord, OperationRecord, OutcomeResult, PrincipalRecord, Process,
        Purged, StatementAnswer, VoteRecord,
    },
    text::{Pairs, Text, Texts},
};
use crate::{
    approvals::{ApprovalId, GrantId, GrantRecord},
    config::Mode,
    refusals::Refused,
    session::{SessionId, User, random_id},
};

/// The name of an operation: `op-` and 10 characters. Unique on this host for ever, not secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(Arc<str>);

impl OperationId {
    /// A new, random id.
    ///
    /// # Panics
    /// When the kernel gives no random bytes.
    #[must_use]
    pub fn random() -> Self {
        Self(random_id("op-").into())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing that happened. No bodies and no credentials: names and digests stand for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The daemon is ready.
    DaemonStarted {
        /// Of the program.
        version: Text,
    },
    /// These policies are in force from here on: at the daemon's start, and whenever they are reloaded.
    PoliciesLoaded {
        /// How many there are.
        policies: u64,
        /// The SHA-256 of their files, in order.
        digest: Digest,
        /// Whether what they say counts.
        mode: Mode,
    },
    /// The daemon reads its configuration.
    ConfigurationLoaded {
        /// The file.
        file: Text,
        /// The SHA-256 of its bytes.
        sha256: Digest,
    },
    /// The daemon ends in good order.
    DaemonStopped {
        /// Why.
        reason: Text,
    },
    /// The BPF programs no longer enforce as they did: all sessions are ended, and the daemon ends.
    EnforcementLost {
        /// What is gone.
        what: Text,
    },
    /// A token was accepted and a session opened for it.
    SessionOpened {
        /// The session.
        session: SessionId,
        /// Who it acts for.
        principal: PrincipalRecord,
        /// The caller of `holdpoint run`.
        user: User,
        /// The command line.
        command: Texts,
        /// The id of the session's cgroup.
        cgroup_id: u64,
        /// The service in whose sandbox it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<Text>,
        /// For a job in that sandbox: the service's own session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<SessionId>,
        /// The files it begins with, where the caller could read them: the command's, and what that is read by. No others are executed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        binaries: Vec<BinaryRecord>,
    },
    /// A daemon that was started anew has taken over a session of the one before.
    SessionAdopted {
        /// The session.
        session: SessionId,
        /// The id of the session's cgroup.
        cgroup_id: u64,
    },
    /// `holdpoint run` was refused.
    SessionRefused {
        /// The caller.
        user: User,
        /// Why.
        reason: Text,
    },
    /// A session ended.
    SessionClosed {
        /// The session.
        session: SessionId,
        /// Why: its processes ended, its time was up, the daemon restarted.
        reason: Text,
    },
    /// A process in a session connected to something.
    Connection {
        /// The session.
        session: SessionId,
        /// The connection's number, unique while the daemon runs.
        connection: u64,
        /// The address it asked for.
        destination: SocketAddr,
        /// The host name, where the client or the resolver told one.
        name: Option<Text>,
        /// Who connected.
        process: Option<Process>,
    },
    /// A connection that was passed through, unopened, or an upload was cut: policy had allowed it, and no longer does.
    ConnectionCut {
        /// The session.
        session: SessionId,
        /// The connection's number, unique while the daemon runs.
        connection: u64,
        /// The host and port.
        destination: Text,
        /// What policy says now.
        reason: Text,
        /// Bytes that had been sent by then.
        #[serde(default)]
        request_bytes: u64,
        /// Bytes that had been passed on by then.
        #[serde(default)]
        response_bytes: u64,
    },
    /// A connection was closed before any operation was read from it.
    ConnectionRefused {
        /// The session.
        session: SessionId,
        /// The connection's number, unique while the daemon runs.
        connection: u64,
        /// The address it asked for, where that is known.
        destination: Option<SocketAddr>,
        /// Why.
        reason: Text,
        /// Who connected.
        process: Option<Process>,
    },
    /// The kernel, the resolver or the launcher refused something, `count` times since the record was last told of it.
    Refused {
        /// What.
        #[serde(flatten)]
        refused: Refused,
        /// The process that asked last.
        pid: Option<u32>,
        /// How often.
        count: u64,
    },
    /// More was refused, too much of it to tell one by one.
    RefusedMore {
        /// The session, where it is one's.
        session: Option<SessionId>,
        /// How often.
        count: u64,
    },
    /// A container was made for a session. It starts in the session's cgroup and network, as its user.
    ContainerCreated {
        /// The session.
        session: SessionId,
        /// The connection's number.
        connection: u64,
        /// The engine's name for it.
        container: Text,
        /// The image it was made of.
        image: Text,
        /// What it shall run, as far as that is not the image's.
        command: Texts,
        /// What of the session it shows.
        mounts: Texts,
    },
    /// A request that could not be read as an operation was refused.
    RequestRefused {
        /// The session.
        session: SessionId,
        /// The connection's number.
        connection: u64,
        /// The verb, host and path, as far as they are known.
        request: Text,
        /// Why.
        reason: Text,
    },
    /// Holdpoint itself read something at Google, for an operation that is about to be decided or asked about.
    LookUp {
        /// The session whose operation it was for.
        session: SessionId,
        /// The connection's number.
        connection: u64,
        /// The method that reads.
        action: Text,
        /// What was read.
        resource: Text,
        /// The HTTP status of the answer, if there was one.
        status: Option<u16>,
        /// Why it could not be read.
        problem: Option<Text>,
    },
    /// An operation is asked for, and this was decided about it.
    Intent {
        /// The session.
        session: SessionId,
        /// The connection's number.
        connection: u64,
        /// What is asked for.
        operation: OperationRecord,
        /// What policy says.
        decision: DecisionRecord,
    },
    /// An operation waits for people.
    Hold {
        /// The session.
        session: SessionId,
        /// The operation.
        operation: OperationId,
        /// The approval it waits for.
        approval: ApprovalId,
        /// The reviewer groups that are asked.
        groups: BTreeSet<String>,
        /// Whether the approval had been asked for before, by an operation with the same content.
        joined: bool,
        /// Where it had not: the SHA-256 of all that is asked, which lies in a file while it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<Digest>,
    },
    /// A person answered.
    ApprovalDecided {
        /// The session that asked first.
        session: SessionId,
        /// The approval.
        approval: ApprovalId,
        /// Who, and what.
        #[serde(flatten)]
        vote: VoteRecord,
    },
    /// A person approved alone what others would have had to approve, too.
    BreakGlass {
        /// The session that asked first.
        session: SessionId,
        /// The approval.
        approval: ApprovalId,
        /// Who, and why.
        #[serde(flatten)]
        vote: VoteRecord,
    },
    /// A person's answer was not accepted.
    ApprovalRefused {
        /// The session that asked first.
        session: SessionId,
        /// The approval.
        approval: ApprovalId,
        /// The person.
        reviewer: Text,
        /// The person's user id, where the person has one here.
        uid: Option<u32>,
        /// The answer they meant to give.
        verdict: Answer,
        /// Why it does not count.
        reason: Text,
    },
    /// An approval was used up by one operation.
    ApprovalUsed {
        /// The session of the operation.
        session: SessionId,
        /// The approval.
        approval: ApprovalId,
        /// The operation.
        operation: OperationId,
    },
    /// Time was up before enough people had answered.
    ApprovalExpired {
        /// The session that asked first.
        session: SessionId,
        /// The approval.
        approval: ApprovalId,
    },
    /// It was approved, and nobody came for it in time.
    ApprovalLapsed {
        /// The session that asked first.
        session: SessionId,
        /// The approval.
        approval: ApprovalId,
    },
    /// The question is void.
    ApprovalWithdrawn {
        /// The session that asked first.
        session: SessionId,
        /// The approval.
        approval: ApprovalId,
        /// Why.
        reason: Text,
    },
    /// A reviewer let a principal do more of the same for a while.
    GrantMade {
        /// The session that asked first.
        session: SessionId,
        /// The grant.
        made: GrantRecord,
    },
    /// A grant let an operation through.
    GrantUsed {
        /// The session of the operation.
        session: SessionId,
        /// The grant.
        grant: GrantId,
        /// The operation.
        operation: OperationId,
    },
    /// A grant is over.
    GrantEnded {
        /// The session that asked first.
        session: SessionId,
        /// The grant.
        grant: GrantId,
        /// The person who revoked it.
        by: Option<Text>,
        /// Why.
        reason: Text,
    },
    /// A person has shown a token that says who they are, for the reviewer groups that ask for one.
    ReviewerLogin {
        /// The user who may answer as that person.
        user: User,
        /// The person.
        principal: PrincipalRecord,
        /// When that ends.
        until: Timestamp,
    },
    /// A reviewer is nobody but their Unix user again.
    ReviewerLogout {
        /// The user.
        user: User,
    },
    /// From now on bytes of an operation may be on their way to the upstream.
    Forwarded {
        /// The session.
        session: SessionId,
        /// The operation.
        operation: OperationId,
    },
    /// The head of the upstream's answer has come.
    Answered {
        /// The session.
        session: SessionId,
        /// The operation.
        operation: OperationId,
        /// The HTTP status.
        status: u16,
        /// The headers, masked.
        headers: Pairs,
        /// Microseconds since it was forwarded.
        after_us: u64,
    },
    /// The answer, or the rest of it, was not passed on: it had to be masked and could not be read.
    AnswerWithheld {
        /// The session.
        session: SessionId,
        /// The operation.
        operation: OperationId,
        /// What could not be read.
        reason: Text,
    },
    /// The body of a request or of a response went by; or as much of it as there was.
    Body {
        /// The session.
        session: SessionId,
        /// The operation.
        operation: OperationId,
        /// The body.
        body: BodyRecord,
    },
    /// Something was taken out of the record, as the configuration wants it. The hashes stay.
    RecordPurged {
        /// What.
        what: Purged,
        /// The number of the first event of the segment; with those purged before on either side of it, where it is about events.
        first: u64,
        /// The number of the last event.
        last: u64,
        /// Why.
        reason: Text,
    },
    /// A person wants everything kept that a session did, whatever retention says.
    LegalHold {
        /// The session.
        session: SessionId,
        /// The person.
        by: Text,
        /// Why.
        reason: Text,
    },
    /// That is over.
    LegalHoldReleased {
        /// The session.
        session: SessionId,
        /// The person.
        by: Text,
        /// Why.
        reason: Text,
    },
    /// How an operation ended.
    Outcome {
        /// The session.
        session: SessionId,
        /// The operation.
        operation: OperationId,
        /// The HTTP status of the upstream's answer.
        status: Option<u16>,
        /// What became of it.
        result: OutcomeResult,
        /// Bytes of the request's body that were sent.
        request_bytes: u64,
        /// Bytes of the response's body that were passed on.
        response_bytes: u64,
        /// What a database said of a statement, where it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        statement: Option<StatementAnswer>,
    },
    /// A call of the control API was refused.
    ControlRefused {
        /// The caller.
        user: User,
        /// The caller's process.
        pid: Option<u32>,
        /// The verb and path.
        request: Text,
        /// Why.
        reason: Text,
    },
}

impl Event {
    /// The session it belongs to.
    #[must_use]
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Self::DaemonStarted { .. }
            | Self::ConfigurationLoaded { .. }
            | Self::RecordPurged { .. }
            | Self::PoliciesLoaded { .. }
            | Self::DaemonStopped { .. }
            | Self::EnforcementLost { .. }
            | Self::SessionRefused { .. }
            | Self::ReviewerLogin { .. }
            | Self::ReviewerLogout { .. }
            | Self::ControlRefused { .. } => None,
            Self::Refused { refused, .. } => refused.session.as_ref(),
            Self::RefusedMore { session, .. } => session.as_ref(),
            Self::SessionOpened { session, .. }
            | Self::SessionAdopted { session, .. }
            | Self::SessionClosed { session, .. }
            | Self::Connection { session, .. }
            | Self::ConnectionCut { session, .. }
            | Self::ConnectionRefused { session, .. }
            | Self::ContainerCreated { session, .. }
            | Self::RequestRefused { session, .. }
            | Self::LookUp { session, .. }
            | Self::Intent { session, .. }
            | Self::Hold { session, .. }
            | Self::ApprovalDecided { session, .. }
            | Self::ApprovalRefused { session, .. }
            | Self::ApprovalUsed { session, .. }
            | Self::ApprovalExpired { session, .. }
            | Self::ApprovalLapsed { session, .. }
            | Self::ApprovalWithdrawn { session, .. }
            | Self::BreakGlass { session, .. }
            | Self::GrantMade { session, .. }
            | Self::GrantUsed { session, .. }
            | Self::GrantEnded { session, .. }
            | Self::Forwarded { session, .. }
            | Self::Answered { session, .. }
            | Self::AnswerWithheld { session, .. }
            | Self::Body { session, .. }
            | Self::LegalHold { session, .. }
            | Self::LegalHoldReleased { session, .. }
            | Self::Outcome { session, .. } => Some(session),
        }
    }
}

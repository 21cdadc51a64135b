//! Grants: what they let through, and for how long.

use super::*;

impl Bench {
    async fn grant(&self, id: &ApprovalId) -> Result<GrantView, AnswerError> {
        self.grant_as(id, reviewer(7, "dba")).await
    }

    async fn grant_as(
        &self,
        id: &ApprovalId,
        reviewer: Reviewer,
    ) -> Result<GrantView, AnswerError> {
        let ask = GrantAsk {
            reviewer,
            scope: Scope::Resource,
            lasting: Duration::from_secs(60),
            comment: None,
        };
        self.approvals.grant(id, ask).await
    }

    /// The same action on the same resource, with other content.
    async fn more(&self, what: &str) -> Ticket {
        let mut ask = ask(&self.session, "db");
        ask.digest = Digest::of(&[what.as_bytes()]);
        self.approvals.hold(ask).await.expect("held")
    }

    async fn granted(&self, what: &str) -> GrantTicket {
        match self.more(what).await.verdict().await {
            Verdict::Granted(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn it_approves_what_it_is_made_from_and_more_of_the_same() {
    let bench = bench().await;
    let mut first = bench.hold("db").await;
    let mut other = bench.more("a").await;
    let resend = bench.more("a").await;
    let (mut resend, elsewhere) = (resend, bench.hold("db2").await);
    let grant = bench.grant(first.id()).await.expect("granted");
    assert!(matches!(first.verdict().await, Verdict::Approved(_)));
    // What waited already goes on once, too; what is not covered waits.
    assert!(matches!(resend.verdict().await, Verdict::Granted(_)));
    assert!(matches!(other.verdict().await, Verdict::UsedByResend));
    let ticket = bench.granted("b").await;
    assert_eq!(ticket.grant(), &grant.id);
    bench.approvals.use_grant(ticket).await.expect("in force");
    let pending = bench.approvals.list().await;
    let pending: Vec<_> = pending
        .iter()
        .filter(|view| view.state == State::Pending)
        .collect();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].id, *elsewhere.id());
}

#[tokio::test]
async fn revoking_stops_what_has_not_used_it_and_what_lives_by_it() {
    let bench = bench().await;
    let first = bench.hold("db").await;
    let grant = bench.grant(first.id()).await.expect("granted");
    let used = bench.granted("a").await;
    let mut living = bench.approvals.use_grant(used).await.expect("in force");
    let unused = bench.granted("b").await;
    let stranger = bench.approvals.revoke(&grant.id, reviewer(9, "net"), None);
    assert!(matches!(stranger.await, Err(AnswerError::MayNotRevoke)));
    let still = time::timeout(Duration::from_millis(50), living.over()).await;
    assert!(still.is_err());
    let colleague = reviewer(8, "dba");
    let revoked = bench.approvals.revoke(&grant.id, colleague, None).await;
    revoked.expect("revoked");
    living.over().await;
    let late = bench.approvals.use_grant(unused).await;
    assert!(matches!(late, Err(GrantUseError::Over)));
    assert!(bench.more("c").await.id().as_str().starts_with("ap-"));
}

#[tokio::test]
async fn it_ends_by_itself_and_survives_a_restart_until_then() {
    let mut bench = bench().await;
    let first = bench.hold("db").await;
    let grant = bench.grant(first.id()).await.expect("granted");
    bench = bench.restart().await;
    assert_eq!(bench.approvals.grants().await, [grant]);
    let used = bench.granted("a").await;
    let mut living = bench.approvals.use_grant(used).await.expect("in force");
    time::pause();
    time::advance(Duration::from_secs(61)).await;
    time::resume();
    living.over().await;
    assert!(bench.approvals.grants().await.is_empty());
    assert!(bench.more("b").await.id().as_str().starts_with("ap-"));
    bench = bench.restart().await;
    assert!(bench.approvals.grants().await.is_empty());
}

#[tokio::test]
async fn a_policy_without_the_rule_ends_it() {
    let bench = bench().await;
    let rules = ask(&bench.session, "db").hold.rules;
    let grant = bench.grant(bench.hold("db").await.id()).await;
    let grant = grant.expect("granted");
    let mut moved = rules.clone();
    moved[0].policy.line = 99;
    bench.approvals.policies_changed(moved).await;
    assert_eq!(bench.approvals.grants().await, [grant]);
    let mut stricter = rules;
    stricter[0].min_approvals = 2;
    bench.approvals.policies_changed(stricter).await;
    assert!(bench.approvals.grants().await.is_empty());
}

#[tokio::test]
async fn who_could_not_approve_it_alone_does_not_grant_it() {
    let bench = bench().await;
    let first = bench.hold("db").await;
    for (uid, group) in [(OWNER, "dba"), (9, "net")] {
        let error = bench.grant_as(first.id(), reviewer(uid, group)).await;
        assert!(matches!(error, Err(AnswerError::Refused(_))), "{error:?}");
    }
    let mut strict = ask(&bench.session, "strict");
    strict.hold.rules[0].min_approvals = 2;
    let strict = bench.approvals.hold(strict).await.expect("held");
    let error = bench.grant(strict.id()).await;
    assert!(matches!(
        error,
        Err(AnswerError::Refused(Refused::NotAlone(_)))
    ));
    assert!(bench.approvals.grants().await.is_empty());
}

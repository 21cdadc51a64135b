//! People and clients at the very same moment.

use super::*;

/// All of them at once, on two threads.
async fn at_once<T: Send + 'static>(
    work: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = work.into_iter().map(tokio::spawn).collect();
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.expect("no panic"));
    }
    done
}

fn approving(
    bench: &Bench,
    id: &ApprovalId,
    reviewer: Reviewer,
) -> impl Future<Output = Result<ApprovalView, AnswerError>> + Send + 'static {
    let (approvals, id) = (bench.approvals.clone(), id.clone());
    async move {
        let said = opinion(reviewer, Answer::Approve);
        approvals.answer(&id, said).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_approvers_at_once_as_many_count_as_are_needed() {
    let bench = bench().await;
    bench.open_session().await;
    for round in 0..20 {
        let mut two = ask(&bench.session, &format!("db{round}"));
        two.hold.rules[0].min_approvals = 2;
        let mut ticket = bench.approvals.hold(two).await.expect("held");
        let id = ticket.id().clone();
        let people = (5..13).map(|uid| approving(&bench, &id, reviewer(uid, "dba")));
        let answers = at_once(people).await;
        let counted = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(counted, 2, "{answers:?}");
        let late = answers.iter().filter_map(|answer| answer.as_ref().err());
        for error in late {
            assert!(
                matches!(error, AnswerError::Refused(Refused::Over(State::Used))),
                "{error:?}"
            );
        }
        let view = bench.approvals.show(&id).await.expect("kept").approval;
        assert_eq!(view.decisions.len(), 2);
        assert!(matches!(ticket.verdict().await, Verdict::Approved(_)));
        assert_eq!(bench.uses().await, round + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_person_on_eight_terminals_is_one() {
    let bench = bench().await;
    let mut two = ask(&bench.session, "db");
    two.hold.rules[0].min_approvals = 2;
    let ticket = bench.approvals.hold(two).await.expect("held");
    let same = (0..8).map(|_| approving(&bench, ticket.id(), reviewer(7, "dba")));
    let answers = at_once(same).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let view = bench.approvals.show(ticket.id()).await.expect("known");
    assert_eq!(view.approval.state, State::Pending);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_in_both_groups_is_one_of_two_people() {
    let bench = bench().await;
    let mut both = ask(&bench.session, "db");
    let mut other = both.hold.rules[0].clone();
    other.group = "net".into();
    both.hold.rules[0].min_approvals = 2;
    both.hold.rules.push(other);
    let ticket = bench.approvals.hold(both).await.expect("held");
    let in_both = |uid| Reviewer {
        groups: BTreeSet::from(["dba".to_owned(), "net".to_owned()]),
        ..reviewer(uid, "dba")
    };
    let first = approving(&bench, ticket.id(), in_both(7)).await;
    assert_eq!(first.expect("counts").state, State::Pending);
    let again = approving(&bench, ticket.id(), in_both(7)).await;
    assert!(matches!(
        again,
        Err(AnswerError::Refused(Refused::AlreadyApproved))
    ));
    let second = approving(&bench, ticket.id(), in_both(8)).await;
    assert_eq!(second.expect("counts").state, State::Used);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_while_the_client_goes_away_is_used_once_or_waits_for_it() {
    let bench = bench().await;
    bench.open_session().await;
    let (mut lost, mut kept) = (0, 0);
    for round in 0..60 {
        let what = format!("db{round}");
        let ticket = bench.hold(&what).await;
        let id = ticket.id().clone();
        let approve = tokio::spawn(approving(&bench, &id, reviewer(7, "dba")));
        let leave = tokio::spawn(async move { drop(ticket) });
        leave.await.expect("no panic");
        approve.await.expect("no panic").expect("approved");
        let state = bench.approvals.show(&id).await.expect("known");
        let mut again = bench.hold(&what).await;
        match state.approval.state {
            // It was handed over in that very moment, and is not handed over again.
            State::Used => {
                assert_ne!(again.id(), &id);
                lost += 1;
            }
            State::Approved => {
                assert_eq!(again.id(), &id);
                assert!(matches!(again.verdict().await, Verdict::Approved(_)));
                kept += 1;
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.uses().await, round + 1, "each was used once");
    }
    assert_eq!(lost + kept, 60);
}

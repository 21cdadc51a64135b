use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::postgres::catalog::tests::{credentials, entry};

const ENTRY: &str = "name = 'a'\naddresses = ['db.internal:5432']\nuser = 'u'\n";

#[tokio::test]
async fn only_the_same_session_with_the_right_key_cancels() {
    let cancels = Cancels::default();
    let ours = entry(ENTRY, &credentials());
    let others = entry(&ENTRY.replace("'a'", "'b'"), &credentials());
    let (one, two) = (SessionId::random(), SessionId::random());
    let (key, mut cancelled) = cancels.register(&one, &ours, false).expect("a key");
    assert_eq!(key.secret.len(), 4);
    let mut wrong = key.clone();
    wrong.secret[3] ^= 1;
    let mut longer = key.clone();
    longer.secret.push(0);
    let mut other = key.clone();
    other.process ^= 1;
    assert!(!cancels.ask(&two, &ours, &key).await, "another session's");
    assert!(
        !cancels.ask(&one, &others, &key).await,
        "another database's"
    );
    for wrong in [&wrong, &longer, &other] {
        assert!(!cancels.ask(&one, &ours, wrong).await);
    }
    let nothing = timeout(Duration::from_millis(20), cancelled.next()).await;
    assert!(nothing.is_err(), "nobody asked who may");

    let is_over = Arc::new(AtomicBool::new(false));
    let asking = {
        let (cancels, key, is_over) = (cancels.clone(), key.clone(), is_over.clone());
        let ours = entry(ENTRY, &credentials());
        tokio::spawn(async move {
            let found = cancels.ask(&one, &ours, &key).await;
            is_over.store(true, Ordering::SeqCst);
            (found, one)
        })
    };
    let asked = cancelled.next().await;
    tokio::task::yield_now().await;
    assert!(
        !is_over.load(Ordering::SeqCst),
        "it waits until it was seen to"
    );
    drop(asked);
    let (found, one) = asking.await.expect("no panic");
    assert!(found);
    drop(cancelled);
    assert!(
        !cancels.ask(&one, &ours, &key).await,
        "the connection is gone"
    );
    assert!(cancels.0.lock().expect("no panic").is_empty());
}

#[test]
fn keys_are_as_long_as_the_protocol_allows_and_differ() {
    let cancels = Cancels::default();
    let entry = entry(ENTRY, &credentials());
    let session = SessionId::random();
    let keys: Vec<_> = (0..100)
        .map(|_| cancels.register(&session, &entry, true).expect("a key"))
        .collect();
    let mut secrets: Vec<_> = keys.iter().map(|(key, _)| key.secret.to_vec()).collect();
    assert!(secrets.iter().all(|it| it.len() == 32));
    assert!(keys.iter().all(|(key, _)| key.process > 0));
    secrets.sort();
    secrets.dedup();
    assert_eq!(secrets.len(), 100);
    assert!(!format!("{:?}", keys[0].0).contains(&format!("{:?}", keys[0].0.secret)));
}

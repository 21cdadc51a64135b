use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use holdpoint_core::{
    mask::{Masks, Origin},
    refusal::{Kind, Refusal},
    sql::{self, Parsed},
};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split},
    task::JoinHandle,
    time::timeout,
};

use super::{
    judge::{Admitted, Question},
    *,
};
use crate::{
    allowance::{Charge, Memory},
    gate::{Attended, Waiting},
    postgres::frame::{HEAD, Head, Message, put, put_text, read_message},
};

/// A table that the server says nothing of.
const LOST: u32 = 4711;

/// Allows what has no `forbidden` in it; holds what has `held`, until it is called off; rows of what has `masked` are to be masked.
#[derive(Default)]
struct Scripted {
    admitted: Mutex<Vec<String>>,
}

impl Judge for Scripted {
    fn charge(&self) -> Charge {
        Memory::default().session().charge()
    }

    fn parse(&self, text: &str) -> Arc<Parsed> {
        sql::parse(text)
    }

    async fn runs_when_read(&self, statement: &sql::Statement) -> bool {
        statement
            .names
            .functions
            .iter()
            .any(|it| it.name == "reads")
    }

    fn objection(&self, _: &Admitted) -> Option<Refusal> {
        None
    }

    async fn admit(
        &self,
        questions: &[Question<'_>],
        attended: Attended<'_>,
    ) -> Result<Admitted, Refusal> {
        for question in questions {
            if question.text.contains("held") {
                (attended.tell)(&Waiting {
                    approval: "ap-1".into(),
                    message: "wait".into(),
                });
                let most = attended.at_most.unwrap_or(Duration::from_secs(3600));
                let called_off = timeout(most, attended.called_off.notified()).await;
                let kind = match called_off {
                    Ok(()) => Kind::CalledOff,
                    Err(_) => Kind::Pending,
                };
                return Err(Refusal::new(kind, "was held").with("approval", "ap-1"));
            }
            if question.text.contains("forbidden") {
                return Err(Refusal::new(Kind::Denied, "no"));
            }
        }
        let mut admitted = self.admitted.lock().expect("no panics");
        admitted.extend(questions.iter().map(|it| it.text.to_string()));
        let masked = questions.iter().any(|it| it.text.contains("masked"));
        let masks = Masks::new(&[], [0; 32]).expect("the built-in sets");
        let secrets = || masks.union(["secrets"]).expect("it is built in");
        Ok(Admitted {
            masks: masked.then(secrets),
            ..Admitted::default()
        })
    }
}

impl Columns for Scripted {
    async fn origins(&self, asked: &[(u32, i16)]) -> Option<Vec<Option<Origin>>> {
        // Of nothing that has this number, as if the server did not answer.
        let is_known = |(table, _): &(u32, i16)| *table != LOST;
        asked.iter().all(is_known).then(|| vec![None; asked.len()])
    }

    fn transaction_ended(&self, _: u64) {}
}

struct Cancels(tokio::sync::mpsc::Receiver<()>);

impl Cancelling for Cancels {
    async fn next(&mut self) -> Box<dyn Send> {
        match self.0.recv().await {
            Some(()) => Box::new(()),
            None => std::future::pending().await,
        }
    }

    async fn pass_on(&self) {}

    fn pass_on_later(&self) {}
}

/// A server that answers everything with success, and writes down what it was sent.
async fn serve(mut stream: DuplexStream, seen: Seen) {
    let mut skips = false;
    let mut status = b'I';
    let mut out = BytesMut::new();
    while let Ok(Some(message)) = read_message(&mut stream, 1 << 24).await {
        let Message { tag, body } = message;
        seen.lock().expect("no panics").push((tag, body.to_vec()));
        let text = String::from_utf8_lossy(&body).into_owned();
        let complete = |out: &mut BytesMut| put(out, b'C', |body| put_text(body, "OK"));
        let error = |out: &mut BytesMut| {
            put(out, b'E', |body| {
                body.put_slice(b"SERROR\0VERROR\0C42601\0\0")
            });
        };
        match tag {
            b'X' => return,
            b'S' => {
                skips = false;
                put(&mut out, b'Z', |body| body.put_u8(status));
            }
            _ if skips => {}
            b'Q' => {
                if text.starts_with("HOLDPOINT") {
                    status = if status == b'I' { b'I' } else { b'E' };
                    error(&mut out);
                } else {
                    if text.to_lowercase().contains("begin") {
                        status = b'T';
                    }
                    for _ in 0..sql::parse(text.trim_end_matches('\0')).statements.len() {
                        complete(&mut out);
                    }
                }
                put(&mut out, b'Z', |body| body.put_u8(status));
            }
            b'P' if text.contains("HOLDPOINT") => {
                skips = true;
                error(&mut out);
            }
            b'P' => put(&mut out, b'1', |_| {}),
            b'B' => put(&mut out, b'2', |_| {}),
            b'C' => put(&mut out, b'3', |_| {}),
            b'D' => put(&mut out, b'n', |_| {}),
            b'E' => complete(&mut out),
            _ => {}
        }
        if stream.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
    }
}

/// Tags and bodies of messages.
type Seen = Arc<Mutex<Vec<(u8, Vec<u8>)>>>;

struct Scene {
    client: DuplexStream,
    seen: Seen,
    cancel: tokio::sync::mpsc::Sender<()>,
    talking: JoinHandle<Result<(), String>>,
}

impl Scene {
    fn new() -> Self {
        let (client, near) = duplex(1 << 16);
        let (far, server) = duplex(1 << 16);
        let seen = Arc::<Mutex<Vec<_>>>::default();
        tokio::spawn(serve(server, seen.clone()));
        let (cancel, cancels) = tokio::sync::mpsc::channel(1);
        let talking = tokio::spawn(async move {
            let judge = Scripted::default();
            let shared = Shared::new();
            let session = "s-test".to_owned();
            let never = std::future::pending();
            talk(near, far, &judge, Cancels(cancels), &shared, session, never).await
        });
        Self {
            client,
            seen,
            cancel,
            talking,
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.expect("it listens");
    }

    /// The types of the next messages up to so many ReadyForQuery, and the last status.
    async fn answers(&mut self, readies: usize) -> (String, char) {
        let (mut tags, mut status, mut left) = (String::new(), ' ', readies);
        while left > 0 {
            let read = timeout(
                Duration::from_secs(100),
                read_message(&mut self.client, 1 << 24),
            );
            let message = read.await.expect("an answer").expect("a message");
            let message = message.expect("it goes on");
            tags.push(char::from(message.tag));
            if message.tag == b'Z' {
                left -= 1;
                status = char::from(message.body[0]);
            }
        }
        (tags, status)
    }

    fn seen(&self) -> Vec<(u8, Vec<u8>)> {
        self.seen.lock().expect("no panics").clone()
    }
}

fn query(text: &str) -> BytesMut {
    let mut out = BytesMut::new();
    put(&mut out, b'Q', |body| put_text(body, text));
    out
}

/// Parse, Bind, Describe, Execute of the unnamed statement.
fn extended(text: &str) -> BytesMut {
    let mut out = BytesMut::new();
    put(&mut out, b'P', |body| {
        put_text(body, "");
        put_text(body, text);
        body.put_u16(0);
    });
    put(&mut out, b'B', |body| body.put_slice(&[0; 8]));
    put(&mut out, b'D', |body| body.put_slice(b"P\0"));
    put(&mut out, b'E', |body| body.put_slice(&[0; 5]));
    out
}

fn sync() -> BytesMut {
    let mut out = BytesMut::new();
    put(&mut out, b'S', |_| {});
    out
}

#[tokio::test]
async fn what_is_denied_never_leaves_and_the_connection_lives_on() {
    let mut scene = Scene::new();
    scene.send(&query("begin")).await;
    assert_eq!(scene.answers(1).await, ("CZ".into(), 'T'));
    scene.send(&query("select forbidden")).await;
    assert_eq!(scene.answers(1).await, ("EZ".into(), 'T'));
    scene.send(&query("select 1; select forbidden")).await;
    assert_eq!(scene.answers(1).await, ("EZ".into(), 'T'));
    scene.send(&query("select 1; select 2")).await;
    assert_eq!(scene.answers(1).await, ("CCZ".into(), 'T'));
    assert_eq!(scene.seen().len(), 2);
}

#[tokio::test]
async fn messages_may_come_in_any_pieces() {
    let all = [
        &query("select 1")[..],
        &extended("select 2"),
        &sync(),
        &query("select forbidden"),
        &query(""),
    ]
    .concat();
    for at in 0..all.len() {
        let mut scene = Scene::new();
        scene.send(&all[..at]).await;
        tokio::task::yield_now().await;
        scene.send(&all[at..]).await;
        let answers = scene.answers(4).await;
        assert_eq!(answers, ("CZ12nCZEZIZ".into(), 'I'), "cut at {at}");
    }
}

#[tokio::test]
async fn after_a_denial_nothing_of_a_pipeline_counts_up_to_its_sync() {
    let mut scene = Scene::new();
    let all = [
        &extended("select forbidden")[..],
        &extended("select 1"),
        &sync(),
        &extended("select 2"),
        &sync(),
    ];
    scene.send(&all.concat()).await;
    assert_eq!(scene.answers(2).await, ("EZ12nCZ".into(), 'I'));
    let seen = scene.seen();
    assert!(
        !seen
            .iter()
            .any(|(_, body)| String::from_utf8_lossy(body).contains("forbidden"))
    );
    assert!(
        !seen
            .iter()
            .any(|(_, body)| String::from_utf8_lossy(body).contains("select 1"))
    );
}

#[tokio::test]
async fn what_ran_before_a_denial_in_an_implicit_transaction_is_undone() {
    let mut scene = Scene::new();
    let all = [
        &extended("select 1")[..],
        &extended("select forbidden"),
        &sync(),
    ];
    scene.send(&all.concat()).await;
    assert_eq!(scene.answers(1).await, ("12nCEZ".into(), 'I'));
    let seen = scene.seen();
    let poison = seen
        .iter()
        .find(|(_, body)| String::from_utf8_lossy(body).contains("HOLDPOINT"));
    assert!(poison.is_some(), "the server was made to undo it");
}

#[tokio::test]
async fn ten_thousand_statements_in_one_pipeline_are_answered_in_their_order() {
    let scene = Scene::new();
    let one = extended("select 1");
    let mut all = BytesMut::new();
    for _ in 0..10_000 {
        all.extend_from_slice(&one);
    }
    all.extend_from_slice(&sync());
    let (mut reading, mut writing) = split(scene.client);
    let sending = tokio::spawn(async move {
        writing.write_all(&all).await.expect("it listens");
        writing
    });
    let mut completed = 0;
    loop {
        let message = read_message(&mut reading, 1 << 20)
            .await
            .expect("a message");
        match message.expect("it goes on").tag {
            b'C' => completed += 1,
            b'Z' => break,
            _ => {}
        }
    }
    assert_eq!(completed, 10_000);
    drop(sending);
    scene.talking.abort();
}

#[tokio::test]
async fn a_hold_is_told_of_and_can_be_cancelled() {
    let mut scene = Scene::new();
    scene.send(&query("select held")).await;
    let notice = read_message(&mut scene.client, 1 << 20)
        .await
        .expect("a message");
    assert_eq!(notice.expect("there is one").tag, b'N');
    scene.cancel.send(()).await.expect("it listens");
    let error = read_message(&mut scene.client, 1 << 20)
        .await
        .expect("a message");
    let error = error.expect("there is one");
    assert!(error.tag == b'E' && String::from_utf8_lossy(&error.body).contains("C57014"));
    assert_eq!(scene.answers(1).await, ("Z".into(), 'I'));
    assert!(scene.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_transaction_waits_a_minute_and_is_then_really_aborted() {
    for extends in [false, true] {
        let mut scene = Scene::new();
        scene.send(&query("begin")).await;
        assert_eq!(scene.answers(1).await, ("CZ".into(), 'T'));
        if extends {
            scene
                .send(&[&extended("select held")[..], &sync()].concat())
                .await;
        } else {
            scene.send(&query("select held")).await;
        }
        let (tags, status) = scene.answers(1).await;
        assert_eq!(tags, "NEZ");
        assert!(extends || status == 'E');
        let seen = scene.seen();
        let last = seen
            .iter()
            .rev()
            .find(|(tag, _)| *tag != b'S')
            .expect("there is one");
        assert!(String::from_utf8_lossy(&last.1).contains("HOLDPOINT"));
    }
}

/// A query that a server of the test's own has received.
struct Asked {
    client: DuplexStream,
    server: DuplexStream,
    talking: JoinHandle<Result<(), String>>,
    /// Nobody cancels, and somebody could.
    _keep: tokio::sync::mpsc::Sender<()>,
}

/// Over streams that hold so many bytes.
async fn asked(text: &str, buffer: usize) -> Asked {
    let (mut client, near) = duplex(buffer);
    let (far, mut server) = duplex(buffer);
    let (keep, cancels) = tokio::sync::mpsc::channel(1);
    let talking = tokio::spawn(async move {
        let judge = Scripted::default();
        let shared = Shared::new();
        let never = std::future::pending();
        talk(
            near,
            far,
            &judge,
            Cancels(cancels),
            &shared,
            "s".into(),
            never,
        )
        .await
    });
    client.write_all(&query(text)).await.expect("it listens");
    read_message(&mut server, 100).await.expect("the query");
    Asked {
        client,
        server,
        talking,
        _keep: keep,
    }
}

#[tokio::test]
async fn a_server_that_dies_is_told_of() {
    let Asked {
        mut client,
        server,
        talking,
        _keep,
    } = asked("select 1", 1 << 16).await;
    drop(server);
    let error = read_message(&mut client, 1 << 20).await.expect("a message");
    assert!(String::from_utf8_lossy(&error.expect("there is one").body).contains("C08006"));
    assert!(talking.await.expect("no panic").is_err());
}

#[tokio::test]
async fn rows_to_be_masked_are_withheld_where_nobody_knows_their_columns() {
    let Asked {
        mut client,
        mut server,
        talking,
        _keep,
    } = asked("select masked", 1 << 16).await;
    let mut rows = BytesMut::new();
    put(&mut rows, b'T', |body| {
        body.put_u16(1);
        put_text(body, "harmless");
        body.put_u32(LOST);
        body.put_u16(1);
        body.put_u32(25);
        body.put_slice(&[0; 8]);
    });
    put(&mut rows, b'D', |body| {
        body.put_u16(1);
        body.put_u32(6);
        body.put_slice(b"secret");
    });
    server.write_all(&rows).await.expect("it listens");
    let first = read_message(&mut client, 1 << 20).await.expect("a message");
    let first = first.expect("there is one");
    assert_eq!(first.tag, b'E');
    assert!(String::from_utf8_lossy(&first.body).contains("cannot be looked up"));
    assert!(talking.await.expect("no panic").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever a client sends, of a forbidden statement no byte reaches the server.
    #[test]
    fn nothing_unjudged_reaches_the_server(
        order in prop::collection::vec((any::<prop::sample::Index>(), any::<[u8; 3]>()), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let pieces: Vec<BytesMut> = vec![
            query("select 1"),
            query("select forbidden"),
            extended("select 2"),
            extended("select forbidden"),
            sync(),
            query("execute forbidden"),
        ];
        runtime.block_on(async {
            let mut scene = Scene::new();
            let mut all = BytesMut::new();
            for (index, noise) in &order {
                all.extend_from_slice(&pieces[index.index(pieces.len())]);
                if noise[0] > 200 {
                    all.put_u8(noise[1]);
                    all.put_i32(4 + i32::from(noise[2]));
                    all.put_slice(&vec![noise[1]; usize::from(noise[2])]);
                }
            }
            let _ = scene.client.write_all(&all).await;
            let _ = scene.client.shutdown().await;
            let _ = timeout(Duration::from_secs(5), &mut scene.talking).await;
            for (_, body) in scene.seen() {
                let text = String::from_utf8_lossy(&body).into_owned();
                prop_assert!(!text.contains("forbidden"), "{text}");
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn rows_larger_than_any_buffer_go_on_as_they_come() {
    let Asked {
        mut client,
        mut server,
        _keep,
        ..
    } = asked("select 1", 1 << 12).await;
    let size = 70 << 20;
    tokio::spawn(async move {
        let length = i32::try_from(size + 4).expect("it fits").to_be_bytes();
        server
            .write_all(&[&b"D"[..], &length].concat())
            .await
            .expect("it listens");
        let piece = vec![7; 1 << 20];
        for _ in 0..70 {
            server.write_all(&piece).await.expect("it listens");
        }
        server
    });
    let mut head = [0; HEAD];
    client.read_exact(&mut head).await.expect("a head");
    assert_eq!(Head::of(&head).expect("one").expect("whole").body, size);
    let mut body = vec![0; size];
    client.read_exact(&mut body).await.expect("all of it");
}

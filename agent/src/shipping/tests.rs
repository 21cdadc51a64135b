//! The task that ships, against a directory, and what auditors make of what lies there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use holdpoint_core::checkpoint::note::{Signer, Verifier};
use tempfile::TempDir;

use super::{shipped::Shipped, *};
use crate::{
    audit::{
        check::{Checker, Verified},
        evidence::{self, Source},
        keys,
    },
    config,
    record::tests::opened,
    session::SessionId,
};

/// A host that ships to a directory.
struct Host {
    dir: TempDir,
    record: Record,
    checkpoints: Checkpoints,
    key: Verifier,
}

fn google() -> config::Google {
    let text = "[credential]\nfrom = \"metadata\"\naddress = \"127.0.0.1:1\"";
    toml::from_str(text).expect("valid")
}

fn signer(dir: &Path) -> Signer {
    keys::make(&dir.join("key")).expect("a key")
}

impl Host {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        fs::create_dir(dir.path().join("mount")).expect("made");
        let record = Record::open(&dir.path().join("record")).expect("opens");
        let signer = signer(dir.path());
        let key = signer.verifier().clone();
        let settings = config::record::Checkpoints::default();
        let checkpoints = Checkpoints::start(&record, dir.path(), signer, settings);
        Self {
            checkpoints: checkpoints.expect("starts"),
            record,
            key,
            dir,
        }
    }

    fn ship(&self) -> Shipping {
        let settings = Ship {
            to: config::record::Destination::Directory(self.mount()),
            bodies: false,
            every: Duration::from_secs(3600),
            stop_within: Duration::ZERO,
        };
        let upstream = Upstream::new(&config::Upstream::default()).expect("a client");
        let credentials = Credentials::new(&google(), upstream.clone());
        let google = (upstream, Arc::new(credentials.expect("a credential")));
        Shipping::start(
            &self.record,
            &self.checkpoints,
            self.dir.path(),
            settings,
            google,
        )
    }

    fn mount(&self) -> PathBuf {
        self.dir.path().join("mount")
    }

    async fn append(&self, count: usize) {
        for number in 0..count {
            let event = opened(&SessionId::from_cgroup(&format!("s-{number:010}")));
            self.record.append_unsynced(event).await.expect("recorded");
        }
        self.record.settled().await;
    }

    fn objects(&self, kind: Kind) -> Vec<PathBuf> {
        let dir = self
            .mount()
            .join(name::log(&self.key))
            .join(kind.directory());
        let all = fs::read_dir(dir).expect("there");
        let mut all: Vec<_> = all.map(|it| it.expect("reads").path()).collect();
        all.sort();
        all
    }

    fn verified(&self) -> anyhow::Result<Verified> {
        let shipped = Shipped::open(&self.mount())?;
        let flaws = shipped.flaws()?;
        anyhow::ensure!(flaws.is_empty(), "{flaws}");
        let source = Source::Shipped(shipped);
        let found = evidence::checkpoints(&source.checkpoints(), &self.key)?;
        let mut checker = Checker::new(found.promises(false).collect(), None);
        for line in source.lines()? {
            checker.push(&line?)?;
        }
        Ok(checker.finish()?)
    }
}

/// The first and the last event of an object, by its name; they are one where it has one only.
fn rows_of(object: &Path) -> Vec<u64> {
    let name = object
        .file_name()
        .and_then(|it| it.to_str())
        .expect("a name");
    let mut rows: Vec<u64> = name
        .split('-')
        .take(2)
        .map(|it| it.parse().expect("a number"))
        .collect();
    rows.dedup();
    rows
}

#[tokio::test]
async fn what_is_there_verifies_and_is_not_sent_again() {
    let host = Host::new();
    let shipping = host.ship();
    host.append(20).await;
    host.checkpoints.now().await.expect("signed");
    shipping.now().await.expect("shipped");
    let verified = host.verified().expect("nothing is wrong");
    assert_eq!((verified.events, verified.signed), (20, 20));
    drop(shipping);

    // The next daemon goes on.
    let shipping = host.ship();
    host.append(5).await;
    shipping.now().await.expect("shipped");
    // It may have begun with what was there when it started: however it was divided, none of it came twice.
    let rows: Vec<u64> = host
        .objects(Kind::Events)
        .iter()
        .flat_map(|it| rows_of(it))
        .collect();
    assert!(rows.is_sorted_by(|one, next| one < next), "{rows:?}");
    let status = shipping.status();
    assert_eq!(
        (status.events, status.behind, status.checkpoint),
        (25, 0, 20)
    );
    assert!(status.up_to_date.is_some() && status.trouble.is_none());
    assert_eq!(host.verified().expect("nothing is wrong").events, 25);
    let names = host.objects(Kind::Events);
    shipping.now().await.expect("nothing is new");
    assert_eq!(host.objects(Kind::Events), names);
}

#[tokio::test]
async fn without_its_progress_it_sends_again_and_both_tell_the_same() {
    let host = Host::new();
    host.append(4).await;
    host.ship().now().await.expect("shipped");
    // Killed while it sent, and before it could write down that it came through.
    fs::remove_file(host.dir.path().join("shipped.json")).expect("removed");
    host.append(3).await;
    host.checkpoints.now().await.expect("signed");
    host.ship().now().await.expect("shipped");
    assert_eq!(host.objects(Kind::Events).len(), 2);
    let verified = host.verified().expect("nothing is wrong");
    assert_eq!((verified.events, verified.signed), (7, 7));
}

#[tokio::test]
async fn what_was_being_sent_is_sent_under_the_same_name() {
    let host = Host::new();
    host.append(4).await;
    host.ship().now().await.expect("shipped");
    let file = host.dir.path().join("shipped.json");
    let told = fs::read_to_string(&file).expect("there");
    let before = told.replace(r#""events":4,"sending":null"#, r#""events":0,"sending":4"#);
    assert_ne!(before, told);
    fs::write(&file, before).expect("written");
    host.append(3).await;
    host.ship().now().await.expect("shipped");
    let names = host.objects(Kind::Events);
    let numbers: Vec<_> = names
        .iter()
        .map(|it| {
            let file = it.file_name().and_then(|it| it.to_str()).expect("plain");
            let name = Name::parse(Kind::Events, file).expect("ours");
            (name.first, name.last)
        })
        .collect();
    assert_eq!(numbers, [(1, 4), (5, 7)]);
}

#[tokio::test]
async fn removed_altered_and_swapped_objects_are_found() {
    let host = Host::new();
    let shipping = host.ship();
    for _ in 0..3 {
        host.append(4).await;
        host.checkpoints.now().await.expect("signed");
        shipping.now().await.expect("shipped");
    }
    assert_eq!(host.verified().expect("nothing is wrong").signed, 12);
    let objects = host.objects(Kind::Events);
    let [first, middle, last] = &objects[..] else {
        panic!("{objects:?}");
    };
    let kept: Vec<_> = objects
        .iter()
        .map(|it| fs::read(it).expect("there"))
        .collect();
    let wrong = |because: &str| {
        let error = host.verified().expect_err(because);
        assert!(
            format!("{error:#}").contains(because),
            "{because}: {error:#}"
        );
    };

    fs::remove_file(middle).expect("removed");
    wrong("Events 5 to 8 are missing");
    fs::write(middle, &kept[2]).expect("written");
    wrong("was altered");
    // Named after what is in it, and that is something else.
    let (name, bytes) = pack::events(5, &[b"{}".to_vec(), b"{}".to_vec()]).expect("packs");
    fs::remove_file(middle).expect("removed");
    let forged = first.with_file_name(name.file());
    fs::write(&forged, &bytes).expect("written");
    wrong("Events 7 to 8 are missing");
    fs::write(middle, &kept[1]).expect("written");
    wrong("damaged");
    fs::remove_file(&forged).expect("removed");
    assert_eq!(host.verified().expect("as before").events, 12);
    // Beside the true one, after it.
    let (name, bytes) = pack::events(8, &vec![b"{}".to_vec(); 5]).expect("packs");
    let forged = first.with_file_name(name.file());
    fs::write(&forged, &bytes).expect("written");
    wrong("something else than an object before it");
    fs::remove_file(&forged).expect("removed");

    fs::remove_file(last).expect("removed");
    wrong("ends too early");
    fs::write(last, &kept[2][..kept[2].len() - 1]).expect("written");
    wrong("was altered");
}

#[tokio::test]
async fn a_place_that_is_not_there_is_waited_for() {
    let host = Host::new();
    let elsewhere = host.dir.path().join("unmounted");
    fs::rename(host.mount(), &elsewhere).expect("renamed");
    let shipping = host.ship();
    host.append(3).await;
    let error = shipping.now().await.expect_err("nobody is there");
    assert!(error.to_string().contains("is not there"), "{error:#}");
    let status = shipping.status();
    assert_eq!((status.events, status.behind), (0, 3));
    assert!(status.trouble.is_some());
    let left = shipping.finish(Duration::from_millis(50)).await;
    let left = left.expect_err("nothing was shipped").to_string();
    assert!(
        left.contains("3 events") && left.contains("is not there"),
        "{left}"
    );
    fs::rename(elsewhere, host.mount()).expect("renamed");
    let finished = shipping.finish(Duration::from_secs(10)).await;
    finished.expect("the mount is back");
    assert_eq!(shipping.status().trouble, None);
}

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    note::{KeyError, Notes, on_one_line},
    *,
};
use crate::merkle::Collector;

/// The key and the note of Go's documentation of `golang.org/x/mod/sumdb/note` (its example and its tests use them).
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETERS_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn signer(name: &str, seed: u8) -> Signer {
    let name = name.parse().expect("a name");
    Signer::new(name, Zeroizing::new([seed; 32]))
}

fn tree(leaves: u8) -> Tree {
    let mut tree = Tree::default();
    (0..leaves).for_each(|it| tree.push(Node::leaf(&[it])));
    tree
}

fn signed(leaves: u8, signer: &Signer) -> String {
    Checkpoint::of(&tree(leaves), signer.verifier().name()).signed(signer)
}

#[test]
fn a_note_that_go_has_signed_is_opened() {
    let key: Verifier = PETER.parse().expect("a key");
    assert_eq!(key.to_string(), PETER);
    let text = note::open(PETERS_NOTE, &key).expect("it is signed");
    assert!(text.starts_with("If you think") && text.ends_with("is.\n"));
    let altered = PETERS_NOTE.replace("don't", "do");
    assert_eq!(note::open(&altered, &key), Err(NoteError::Wrong));
}

#[test]
fn a_checkpoint_is_what_the_format_says() {
    let signer = signer("ci-7.example.com/holdpoint/k3x", 7);
    let note = signed(3, &signer);
    let root = BASE64_STANDARD.encode(tree(3).root().as_bytes());
    let text = format!(
        "ci-7.example.com/holdpoint/k3x\n3\n{root}\n\n\u{2014} ci-7.example.com/holdpoint/k3x "
    );
    assert!(note.starts_with(&text), "{note}");
    let opened = Checkpoint::open(&note, signer.verifier()).expect("it is signed");
    assert_eq!((opened.size, opened.root), (3, tree(3).root()));
}

/// Keys, tree, note and proofs as Go makes them (`golang.org/x/mod/sumdb/note` and `tlog` of Go 1.19): seed of 32 times 7, 200 leaves of the bytes 0
/// to 199, proofs of record 77 and of the tree of 77, each as the SHA-256 of its hashes.
#[test]
fn it_is_all_as_go_makes_it() {
    let signer = signer("ci-7.example.com/holdpoint/k3x", 7);
    assert_eq!(
        signer.verifier().to_string(),
        "ci-7.example.com/holdpoint/k3x+554c4c9c+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"
    );
    assert_eq!(
        *signer.secret(),
        "PRIVATE+KEY+ci-7.example.com/holdpoint/k3x+554c4c9c+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH"
    );
    let note = "ci-7.example.com/holdpoint/k3x\n200\n4vB6nPZQJrooLLKG1nO1ZHh6ZHhVda0aqnRGjaAtYWE=\n\n\u{2014} \
        ci-7.example.com/holdpoint/k3x VUxMnN7BZPXeURh+R2Ld8Aza6I+N4dCnDaz+/lxhDVksmhfansnjGZ6aI/q0NE9q/65HRMvWstKewAzT9RXAzFusrgE=\n";
    assert_eq!(signed(200, &signer), note);

    let proof_hash = |mut collector: Collector| {
        (0..200).for_each(|it: u8| collector.push(Node::leaf(&[it])));
        let proof = collector.finish().expect("all leaves passed");
        let hash = proof.iter().fold(Sha256::new(), |hash, node| {
            hash.chain_update(node.as_bytes())
        });
        hex::encode(hash.finalize())
    };
    let record = Collector::inclusion(77, 200).expect("there is one");
    assert_eq!(
        proof_hash(record),
        "335b6a927e022a568dcc3e30cb59c45ce971a38655702acd847bfe75b1d3f893"
    );
    let tree = Collector::consistency(77, 200).expect("there is one");
    assert_eq!(
        proof_hash(tree),
        "5eb922945158750f230936cac4bf356b82b13db0618f52943bcaf1aceda4630d"
    );
}

#[test]
fn keys_are_the_same_after_a_round_trip() {
    let signer = signer("log", 9);
    let again: Signer = signer.secret().parse().expect("a key");
    assert_eq!(again.verifier(), signer.verifier());
    assert_eq!(signed(5, &again), signed(5, &signer));
    let vkey = signer.verifier().to_string();
    assert_eq!(vkey.parse().as_ref(), Ok(signer.verifier()));
    let renamed = vkey.replacen("log", "lag", 1);
    assert_eq!(renamed.parse::<Verifier>(), Err(KeyError::Hash));
    assert!(
        signer
            .secret()
            .replacen("log", "lag", 1)
            .parse::<Signer>()
            .is_err()
    );
    assert!(!format!("{signer:?}").contains("PRIVATE"));
    for name in ["", "a b", "a+b", "a\nb", "a\u{2003}b"] {
        assert!(name.parse::<KeyName>().is_err(), "{name:?}");
    }
}

#[test]
fn only_the_log_s_own_key_counts() {
    let (ours, other) = (signer("log", 1), signer("log", 2));
    let note = signed(3, &other);
    let refused = Checkpoint::open(&note, ours.verifier());
    assert!(matches!(
        refused,
        Err(CheckpointError::Note(NoteError::NotSigned(_)))
    ));
    // Witnesses sign the same text.
    let witness = signer("witness", 3);
    let (text, _) = note.split_once("\n\n").expect("a text");
    let cosigned = witness.sign(&format!("{text}\n"));
    let (_, line) = cosigned.rsplit_once("\n\n").expect("a signature");
    let both = format!("{note}{line}");
    assert!(Checkpoint::open(&both, other.verifier()).is_ok());
    // The key of one log says nothing about another.
    let about_other = Checkpoint::of(&tree(3), other.verifier().name()).text();
    let wrong = witness.sign(&about_other);
    let refused = Checkpoint::open(&wrong, witness.verifier());
    assert_eq!(refused, Err(CheckpointError::Origin("log".into())));
}

#[test]
fn what_is_signed_and_no_checkpoint_is_refused() {
    let signer = signer("log", 1);
    let hash = BASE64_STANDARD.encode([7; 32]);
    for text in [
        "log\n".to_owned(),
        "log\n3\n".into(),
        format!("log\n03\n{hash}\n"),
        format!("log\n+3\n{hash}\n"),
        format!("log\n-3\n{hash}\n"),
        format!("log\n18446744073709551616\n{hash}\n"),
        "log\n3\nAAAA\n".into(),
        format!("log\n3\n{hash}\n\nx\n"),
        format!("\n3\n{hash}\n"),
    ] {
        let refused = Checkpoint::open(&signer.sign(&text), signer.verifier());
        assert!(refused.is_err(), "{text:?} is {refused:?}");
    }
    let extended = signer.sign(&format!("log\n3\n{hash}\nmore\n"));
    assert!(Checkpoint::open(&extended, signer.verifier()).is_ok());
    let long = format!("log\n3\n{hash}\n{}\n", "x".repeat(LONGEST));
    assert!(Checkpoint::open(&signer.sign(&long), signer.verifier()).is_err());
}

fn notes(file: &str) -> Vec<String> {
    let mut reader = Notes::default();
    let mut found: Vec<_> = file.lines().filter_map(|line| reader.push(line)).collect();
    found.extend(reader.finish());
    found
}

#[test]
fn a_file_of_notes_is_taken_apart() {
    let signer = signer("log", 1);
    let all = [signed(1, &signer), signed(2, &signer), signed(3, &signer)];
    assert_eq!(notes(&all.concat()), all);
    assert_eq!(notes(&all.join("\n\n")), all);
    assert!(notes("").is_empty());
    assert_eq!(notes("no note"), ["no note\n"]);
    let torn = format!("{}{}", all[0], &all[1][..70]);
    let parts = notes(&torn);
    assert_eq!((parts.len(), &parts[0]), (2, &all[0]));
}

#[test]
fn a_note_is_found_in_the_journal() {
    let signer = signer("log", 1);
    let note = signed(9, &signer);
    let line = |note: &str| {
        format!(
            "Nov 20 ci-7 holdpoint[1]: INFO checkpoint size=9 note={} more=1",
            on_one_line(note)
        )
    };
    let journal = format!("{}\nsomething else\n{}\n", line(&note), line(&note));
    assert_eq!(line(&note).lines().count(), 1);
    let found = notes(&journal);
    assert_eq!(found[..2], [note.clone(), note]);
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in any::<String>(), key in any::<String>()) {
        let signer = signer("log", 1);
        prop_assert!(Checkpoint::open(&text, signer.verifier()).is_err());
        prop_assert!(key.parse::<Verifier>().is_err() && key.parse::<Signer>().is_err());
        let _ = notes(&text);
    }

    #[test]
    fn every_signed_tree_is_read_again(leaves in 0u8..=255, name in "[a-z./\u{e4}]{1,20}", seed: u8) {
        let signer = signer(&name, seed);
        let opened = Checkpoint::open(&signed(leaves, &signer), signer.verifier()).expect("it is signed");
        prop_assert_eq!(opened, Checkpoint::of(&tree(leaves), signer.verifier().name()));
    }

    #[test]
    fn a_flipped_bit_is_noticed(at in 0usize..400, bit in 0u8..8) {
        let signer = signer("log", 1);
        let note = signed(200, &signer);
        let mut bytes = note.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(altered) = String::from_utf8(bytes) {
            prop_assert!(Checkpoint::open(&altered, signer.verifier()).is_err(), "{}", altered);
        }
    }
}

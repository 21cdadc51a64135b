use proptest::prelude::*;

use super::*;

/// The leaves of the test vectors that Certificate Transparency's implementations share
/// (certificate-transparency, cpp/merkletree/merkle_tree_test.cc; google/trillian and sigsum use them, too).
const INPUTS: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

/// Roots of the trees of the first 1 to 8 of them.
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/// (leaf from 1, size, path)
const PATHS: [(u64, u64, &[&str]); 4] = [
    (1, 1, &[]),
    (
        1,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        3,
        3,
        &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    ),
];

/// (old size, new size, proof)
const CONSISTENCIES: [(u64, u64, &[&str]); 3] = [
    (1, 1, &[]),
    (
        1,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
];

fn node(hex: &str) -> Node {
    serde_json::from_value(hex.into()).expect("a hash")
}

fn vectors() -> Vec<Node> {
    let content = INPUTS.map(|hex| hex::decode(hex).expect("hex"));
    content.iter().map(|it| Node::leaf(it)).collect()
}

fn leaves(count: u64) -> Vec<Node> {
    (0..count).map(|i| Node::leaf(&i.to_be_bytes())).collect()
}

fn tree(leaves: &[Node]) -> Tree {
    let mut tree = Tree::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    tree
}

/// MTH(D[n]) as RFC 6962, 2.1 spells it.
fn naive_root(leaves: &[Node]) -> Node {
    match leaves {
        [] => Node(Sha256::digest([]).into()),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(naive_split(leaves.len()));
            Node::parent(naive_root(left), naive_root(right))
        }
    }
}

fn naive_split(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

fn naive_path(m: usize, leaves: &[Node]) -> Proof {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let k = naive_split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut proof, other) = if m < k {
        (naive_path(m, left), right)
    } else {
        (naive_path(m - k, right), left)
    };
    proof.push(naive_root(other));
    proof
}

fn naive_subproof(m: usize, leaves: &[Node], known: bool) -> Proof {
    if m == leaves.len() {
        return match known {
            true => Vec::new(),
            false => vec![naive_root(leaves)],
        };
    }
    let k = naive_split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut proof, other) = if m <= k {
        (naive_subproof(m, left, known), right)
    } else {
        (naive_subproof(m - k, right, false), left)
    };
    proof.push(naive_root(other));
    proof
}

fn collected(mut collector: Collector, leaves: &[Node]) -> Proof {
    leaves.iter().for_each(|leaf| collector.push(*leaf));
    collector.finish().expect("all leaves passed")
}

#[test]
fn roots_are_those_of_certificate_transparency() {
    let leaves = vectors();
    for (size, root) in (1..).zip(ROOTS) {
        assert_eq!(tree(&leaves[..size]).root(), node(root), "{size}");
    }
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(Tree::default().root(), node(nothing));
}

#[test]
fn proofs_are_those_of_certificate_transparency() {
    let leaves = vectors();
    for (leaf, size, proof) in PATHS {
        let collector = Collector::inclusion(leaf - 1, size).expect("there is one");
        let expected: Vec<_> = proof.iter().map(|it| node(it)).collect();
        assert_eq!(collected(collector, &leaves), expected, "{leaf} of {size}");
    }
    for (old, new, proof) in CONSISTENCIES {
        let collector = Collector::consistency(old, new).expect("there is one");
        let expected: Vec<_> = proof.iter().map(|it| node(it)).collect();
        assert_eq!(collected(collector, &leaves), expected, "{old} of {new}");
    }
}

#[test]
fn there_is_no_proof_of_what_is_not_there() {
    assert!(Collector::inclusion(3, 3).is_err() && Collector::inclusion(0, 0).is_err());
    assert!(Collector::consistency(0, 3).is_err() && Collector::consistency(4, 3).is_err());
    let unfinished = Collector::inclusion(0, 3).expect("there is one").finish();
    assert_eq!(unfinished, Err(NoProof::Incomplete { size: 3, passed: 0 }));
    let root = tree(&leaves(3)).root();
    assert!(!verify_inclusion(3, 3, root, &[], root));
    assert!(!verify_consistency((4, root), (3, root), &[]));
    let nothing = Tree::default().root();
    assert!(verify_consistency((0, nothing), (3, root), &[]));
    assert!(!verify_consistency((0, root), (3, root), &[]));
}

#[test]
fn a_tree_is_restored_only_whole() {
    let text = serde_json::to_string(&tree(&leaves(7))).expect("JSON");
    let restored: Tree = serde_json::from_str(&text).expect("a tree");
    assert_eq!(restored, tree(&leaves(7)));
    let wrong = text.replace("\"size\":7", "\"size\":6");
    assert!(serde_json::from_str::<Tree>(&wrong).is_err());
}

proptest! {
    #[test]
    fn trees_and_proofs_are_the_naive_ones(size in 1u64..200, other in 0u64..200) {
        let leaves = leaves(size);
        let (tree, root) = (tree(&leaves), naive_root(&leaves));
        prop_assert_eq!(tree.root(), root);
        let at = usize::try_from(other % size).expect("small");

        let proof = collected(Collector::inclusion(at as u64, size).expect("there is one"), &leaves);
        prop_assert_eq!(&proof, &naive_path(at, &leaves));
        prop_assert!(verify_inclusion(at as u64, size, leaves[at], &proof, root));

        let old = at + 1;
        let proof = collected(Collector::consistency(old as u64, size).expect("there is one"), &leaves);
        prop_assert_eq!(&proof, &naive_subproof(old, &leaves, true));
        let old_root = naive_root(&leaves[..old]);
        prop_assert!(verify_consistency((old as u64, old_root), (size, root), &proof));
    }

    #[test]
    fn nothing_else_is_proved(
        size in 2u64..200,
        other in 0u64..200,
        wrong_size in 1u64..250,
        spoil in 0usize..8,
        bit in 0usize..256,
    ) {
        let leaves = leaves(size);
        let root = naive_root(&leaves);
        let at = other % size;
        let leaf = leaves[usize::try_from(at).expect("small")];
        let proof = naive_path(usize::try_from(at).expect("small"), &leaves);
        let flipped = |node: Node| {
            let mut bytes = *node.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            Node(bytes)
        };
        prop_assert!(!verify_inclusion(at, size, flipped(leaf), &proof, root));
        prop_assert!(!verify_inclusion(at, size, leaf, &proof, flipped(root)));
        let elsewhere = (at + 1) % size;
        prop_assert!(!verify_inclusion(elsewhere, size, leaf, &proof, root));
        let mut spoilt = proof.clone();
        let place = spoil % spoilt.len();
        spoilt[place] = flipped(spoilt[place]);
        prop_assert!(!verify_inclusion(at, size, leaf, &spoilt, root));
        prop_assert!(!verify_inclusion(at, size, leaf, &proof[1..], root));
        spoilt = proof.clone();
        spoilt.push(root);
        prop_assert!(!verify_inclusion(at, size, leaf, &spoilt, root));

        // Two trees of different beginnings are never consistent, whatever is shown.
        let old = at + 1;
        let old_root = naive_root(&leaves[..usize::try_from(old).expect("small")]);
        let proof = naive_subproof(usize::try_from(old).expect("small"), &leaves, true);
        prop_assert!(!verify_consistency((old, flipped(old_root)), (size, root), &proof));
        prop_assert!(!verify_consistency((old, old_root), (size, flipped(root)), &proof));
        if wrong_size != old {
            prop_assert!(!verify_consistency((wrong_size, old_root), (size, root), &proof));
        }
    }
}

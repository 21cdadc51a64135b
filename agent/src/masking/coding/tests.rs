use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

fn encode(codings: &[Coding], content: &[u8], piece: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(codings).expect("memory");
    let mut out = Vec::new();
    for piece in content.chunks(piece.max(1)) {
        encoder.push(piece.to_vec(), &mut out).expect("memory");
    }
    encoder.finish(&mut out).expect("memory");
    out
}

fn decode(codings: &[Coding], encoded: &[u8], piece: usize) -> Result<Vec<u8>, Unreadable> {
    let mut decoder = Decoder::new(codings)?;
    let mut out = Vec::new();
    for piece in encoded.chunks(piece.max(1)) {
        decoder.push(piece, &mut out)?;
    }
    decoder.finish(&mut out)?;
    Ok(out)
}

#[test]
fn what_was_flushed_is_seen_at_once() {
    for coding in ALL {
        let mut encoder = Encoder::new(&[coding]).expect("memory");
        let mut decoder = Decoder::new(&[coding]).expect("memory");
        for event in ["data: one\n\n", "data: two\n\n"] {
            let (mut encoded, mut seen) = (Vec::new(), Vec::new());
            let event = event.as_bytes();
            encoder.push(event.to_vec(), &mut encoded).expect("memory");
            decoder.push(&encoded, &mut seen).expect("well formed");
            assert_eq!(seen, event, "{coding:?}");
        }
    }
}

#[test]
fn what_breaks_off_is_not_whole() {
    for coding in ALL {
        let whole = encode(&[coding], &[b'x'; 5000], 5000);
        for missing in 1..whole.len() {
            let part = &whole[..whole.len() - missing];
            assert!(
                part.is_empty() || decode(&[coding], part, 7).is_err(),
                "{coding:?} {missing}"
            );
        }
        let more = [whole.as_slice(), b"more"].concat();
        assert!(decode(&[coding], &more, 7).is_err(), "{coding:?} with more");
    }
}

#[test]
fn bombs_are_found_before_they_take_memory() {
    let zeros = vec![0; 64 << 20];
    for coding in ALL {
        let bomb = encode(&[coding], &zeros, zeros.len());
        assert!(decode(&[coding], &bomb, 64 << 10).is_err(), "{coding:?}");
    }
    let twice = encode(&[Coding::Gzip, Coding::Brotli], &zeros, zeros.len());
    assert!(decode(&[Coding::Gzip, Coding::Brotli], &twice, 100).is_err());
}

#[test]
fn deflate_comes_without_its_wrapping_too() {
    let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    raw.write_all(b"{\"a\":1}").expect("memory");
    let raw = raw.finish().expect("memory");
    assert_eq!(
        decode(&[Coding::Deflate], &raw, 1).ok().as_deref(),
        Some(&b"{\"a\":1}"[..])
    );
}

#[test]
fn names_are_read_as_they_are_written() {
    let of = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        Coding::of(&headers).ok()
    };
    assert_eq!(of(&[]), Some(vec![]));
    assert_eq!(of(&["identity"]), Some(vec![]));
    assert_eq!(of(&["GZIP, br"]), Some(vec![Coding::Gzip, Coding::Brotli]));
    assert_eq!(
        of(&["x-gzip", "zstd"]),
        Some(vec![Coding::Gzip, Coding::Zstd])
    );
    for unknown in [&["compress"][..], &["gzip", "rot13"], &["br,br,br,br"]] {
        assert_eq!(of(unknown), None, "{unknown:?}");
    }
}

proptest! {
    #[test]
    fn whatever_is_done_is_undone(
        codings in proptest::collection::vec(prop::sample::select(ALL.to_vec()), 0..3),
        content in proptest::collection::vec(any::<u8>(), 0..20_000),
        done in 1..9000_usize,
        undone in 1..9000_usize,
    ) {
        let encoded = encode(&codings, &content, done);
        prop_assert_eq!(decode(&codings, &encoded, undone).ok(), Some(content));
    }

    #[test]
    fn any_bytes_are_undone_or_not(
        coding in prop::sample::select(ALL.to_vec()),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        piece in 1..50_usize,
    ) {
        let _ = decode(&[coding], &bytes, piece);
    }
}

//! Known texts in the dresses that they may wear in a body.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

/// A text as it may stand in a body: itself, line by line where it has some; percent-encoded; within base64.
pub(super) fn dresses(text: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    /// Shorter parts are found by chance.
    const LEAST: usize = 8;
    let mut dresses: Vec<Zeroizing<Vec<u8>>> = Vec::new();
    let lines: Vec<&[u8]> = text
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .filter(|line| line.len() >= LEAST)
        .collect();
    match lines.as_slice() {
        [] => dresses.push(Zeroizing::new(text.to_vec())),
        lines => dresses.extend(lines.iter().map(|line| Zeroizing::new(line.to_vec()))),
    }
    let encoded = percent_encode(text, NON_ALPHANUMERIC)
        .to_string()
        .into_bytes();
    if encoded != text {
        dresses.push(Zeroizing::new(encoded));
    }
    if text.len() >= LEAST {
        for beside in 0..3 {
            let mut padded = Zeroizing::new(vec![0; beside]);
            padded.extend_from_slice(text);
            let encoded = Zeroizing::new(BASE64_STANDARD.encode(&*padded).into_bytes());
            // Only what does not depend on the bytes beside it.
            let from = (beside * 8).div_ceil(6);
            let to = padded.len() * 8 / 6;
            let inside = &encoded[from..to];
            dresses.push(Zeroizing::new(inside.to_vec()));
            if inside.iter().any(|byte| matches!(byte, b'+' | b'/')) {
                let url_safe = inside.iter().map(|byte| match byte {
                    b'+' => b'-',
                    b'/' => b'_',
                    other => *other,
                });
                dresses.push(Zeroizing::new(url_safe.collect()));
            }
        }
    }
    dresses
}

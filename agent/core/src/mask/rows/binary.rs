//! Values behind their lengths, as they are in messages, arrays and composites.

use super::super::Unreadable;

/// The value at the start, `None` for `NULL`, and what is after it.
pub(super) fn value(bytes: &[u8]) -> Result<(Option<&[u8]>, &[u8]), Unreadable> {
    let (length, rest) = int(bytes)?;
    if length == -1 {
        return Ok((None, rest));
    }
    let length = usize::try_from(length).map_err(|_| Unreadable::Row)?;
    let (value, rest) = rest.split_at_checked(length).ok_or(Unreadable::Row)?;
    Ok((Some(value), rest))
}

/// A signed 32-bit number at the start, and what is after it.
pub(super) fn int(bytes: &[u8]) -> Result<(i32, &[u8]), Unreadable> {
    let (int, rest) = bytes.split_first_chunk().ok_or(Unreadable::Row)?;
    Ok((i32::from_be_bytes(*int), rest))
}

/// Writes a length and what `write` writes.
pub(super) fn with_length(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<bool, Unreadable>,
) -> Result<bool, Unreadable> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let written = write(out)?;
    let length = i32::try_from(out.len() - at - 4).map_err(|_| Unreadable::TooLong)?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(written)
}

//! Payloads made smaller for slow links, and never larger than they say when they come back.
//!
//! ```text
//! size of the payload once expanded u32 | one zstd frame
//! ```
//!
//! Nobody's bytes are believed: the size is checked against the caller's limit before any room is made, and no byte
//! beyond it is ever written. A payload that gains too little is not worth the work at the other end.

/// A shorter payload stays as it is.
pub const BYTES_MIN: usize = 1024;
/// Of zstd: fast enough to keep up with any link on which this is worth anything.
const LEVEL: i32 = 1;
const SIZE_BYTES: usize = 4;

/// The payload in fewer bytes; `None` where an eighth of it cannot be saved.
pub fn smaller(payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() < BYTES_MIN {
        return None;
    }
    let mut out = vec![0; payload.len() - payload.len() / 8];
    out[..SIZE_BYTES].copy_from_slice(&u32::try_from(payload.len()).ok()?.to_le_bytes());
    // What does not fit the room is not small enough: that is the only error there can be.
    let bytes = zstd::bulk::compress_to_buffer(payload, &mut out[SIZE_BYTES..], LEVEL).ok()?;
    out.truncate(SIZE_BYTES + bytes);
    Some(out)
}

/// The payload that was made smaller, if it has the size that it says and at most `bytes_max`.
pub fn expand(bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let (size, packed) = bytes.split_at_checked(SIZE_BYTES)?;
    let size = u32::from_le_bytes(size.try_into().expect("four bytes"));
    let size = usize::try_from(size).ok().filter(|size| (BYTES_MIN..=bytes_max).contains(size))?;
    let mut out = vec![0; size];
    let written = zstd::bulk::decompress_to_buffer(packed, &mut out[..]).ok()?;
    (written == size).then_some(out)
}

#[cfg(test)]
#[path = "zip_tests.rs"]
mod tests;

//! Keys: paths of bytes such as `home/room/closet/socks`, checked once at the door.

use std::fmt;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde::{Deserialize, Serialize};

/// A key in normal form: 1 to [`Key::BYTES_MAX`] bytes, ordered bytewise. Cheap to clone.
///
/// No leading `/`, no NUL, no empty, `.` or `..` segment; a trailing `/` is significant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Bytes", into = "Bytes")]
pub struct Key(Bytes);

/// Why some bytes are not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing is left after the leading `/`.
    #[error("the key is empty")]
    Empty,
    /// Longer than [`Key::BYTES_MAX`].
    #[error("the key has {bytes} bytes; the limit is {limit}", limit = Key::BYTES_MAX)]
    TooLong {
        /// Length after percent-decoding.
        bytes: usize,
    },
    /// Holds a NUL byte.
    #[error("the key holds a NUL byte")]
    Nul,
    /// `a//b`.
    #[error("the key has an empty segment")]
    EmptySegment,
    /// `.` or `..` as a segment.
    #[error("the key has a `{0}` segment")]
    DotSegment(&'static str),
    /// `%` that is not followed by two hexadecimal digits.
    #[error("the key has a `%` that is not followed by two hexadecimal digits")]
    BadEscape,
}

/// What [`Key`]'s text form leaves as it is, besides letters and digits.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl Key {
    /// Longest key, in bytes.
    pub const BYTES_MAX: usize = 1024;

    /// Checks raw bytes, dropping one leading `/`.
    ///
    /// # Errors
    /// The first rule of the normal form that they break.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Key, KeyError> {
        let mut bytes = bytes.into();
        if bytes.first() == Some(&b'/') {
            bytes = bytes.slice(1..);
        }
        check(&bytes)?;
        Ok(Key(bytes))
    }

    /// Reads the path of a URL: percent-decodes it once, then checks it.
    ///
    /// # Errors
    /// As [`Key::new`], and for a broken escape.
    pub fn from_path(path: &str) -> Result<Key, KeyError> {
        let bytes = decode(path)?;
        Key::new(bytes)
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Percent-decodes `text`, refusing what [`percent_decode_str`] would pass through as it stands.
///
/// # Errors
/// [`KeyError::BadEscape`].
pub fn decode(text: &str) -> Result<Vec<u8>, KeyError> {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('%') {
        let digits = bytes.get(at + 1..at + 3).unwrap_or_default();
        if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(KeyError::BadEscape);
        }
    }
    Ok(percent_decode_str(text).collect())
}

/// The percent-encoded form of a key or a part of one, `/` kept; [`decode`] reads it back.
pub fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, PLAIN).to_string()
}

fn check(bytes: &[u8]) -> Result<(), KeyError> {
    if bytes.is_empty() {
        return Err(KeyError::Empty);
    }
    if bytes.len() > Key::BYTES_MAX {
        return Err(KeyError::TooLong { bytes: bytes.len() });
    }
    if bytes.contains(&0) {
        return Err(KeyError::Nul);
    }
    let path = bytes.strip_suffix(b"/").unwrap_or(bytes);
    for segment in path.split(|&byte| byte == b'/') {
        match segment {
            b"" => return Err(KeyError::EmptySegment),
            b"." => return Err(KeyError::DotSegment(".")),
            b".." => return Err(KeyError::DotSegment("..")),
            _ => {}
        }
    }
    Ok(())
}

impl TryFrom<Bytes> for Key {
    type Error = KeyError;

    // Peers and disks hold normal forms already, so unlike `new` nothing is dropped here: bytes in are bytes out.
    fn try_from(bytes: Bytes) -> Result<Key, KeyError> {
        check(&bytes)?;
        Ok(Key(bytes))
    }
}

impl From<Key> for Bytes {
    fn from(key: Key) -> Bytes {
        key.0
    }
}

/// The percent-encoded path, `/` kept; [`Key::from_path`] reads it back.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        percent_encode(&self.0, PLAIN).fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;

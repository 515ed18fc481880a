//! The causality token as text: what a read told its client of one key, to come back with the next write.
//!
//! base64url over a version byte, a hash of the key, the row's latest stamp, the context as runs per origin, and a
//! keyed hash over all of it with the key: a token that was changed, or made by another cluster, is refused, so
//! nobody can name what nobody read. It stays within [`TEXT_BYTES_MAX`]; a context too large for that has no token,
//! because half a context would let what it leaves out come back.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::problem::{Code, Problem, single_header};
use crate::model::{Dot, DotSet, Key, Origin, Stamp, Token};

/// The header of a token, on reads and writes.
pub const CONTEXT: HeaderName = HeaderName::from_static("x-reknit-context");
/// Longest token, in characters.
pub const TEXT_BYTES_MAX: usize = 4096;

const FORMAT: u8 = 1;
const MAC_BYTES: usize = 16;
const KEY_BYTES: usize = 8;

/// Makes and checks the tokens of one cluster.
#[derive(Clone)]
pub struct Seal([u8; 32]);

impl Seal {
    /// The seal of a cluster with this secret; an open cluster has the empty one, which everybody can make.
    pub fn new(cluster_secret: &[u8]) -> Seal {
        Seal(blake3::derive_key("reknit 2026-11 causality token", cluster_secret))
    }

    /// The token as a header; `None` if it is too long.
    pub fn header(&self, key: &Key, token: &Token) -> Option<HeaderValue> {
        let text = self.text(key, token)?;
        Some(HeaderValue::from_str(&text).expect("base64url is plain text"))
    }

    /// The token of these headers, which must be one of this key.
    ///
    /// # Errors
    /// It is too long, no token of this cluster, or another key's.
    pub fn read(&self, headers: &HeaderMap, key: &Key) -> Result<Option<Token>, Problem> {
        let Some(text) = single_header(headers, &CONTEXT)? else { return Ok(None) };
        let bad = |what: &str| Problem::new(Code::BadContext, what);
        if text.len() > TEXT_BYTES_MAX {
            let detail = format!("the token has {} characters; the limit is {TEXT_BYTES_MAX}", text.len());
            return Err(bad(&detail).with_limit(TEXT_BYTES_MAX as u64));
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad("the token is not base64url"))?;
        let Some((body, mac)) = bytes.split_last_chunk::<MAC_BYTES>() else {
            return Err(bad("the token is cut short"));
        };
        // The key's hash is looked at first, so that a mix-up of keys is told as such.
        if body.len() > KEY_BYTES && body[0] == FORMAT && body[1..=KEY_BYTES] != self.key_hash(key) {
            return Err(bad("the token belongs to another key"));
        }
        if self.mac(key, body) != blake3_of(*mac) {
            return Err(bad("the token is none that this cluster has given out"));
        }
        decode(body).map(Some).ok_or_else(|| bad("the token is none that this cluster has given out"))
    }

    /// `None` if it would be too long.
    fn text(&self, key: &Key, token: &Token) -> Option<String> {
        let mut body = vec![FORMAT];
        body.extend_from_slice(&self.key_hash(key));
        body.extend_from_slice(&token.stamp.millis.to_be_bytes());
        body.extend_from_slice(&token.stamp.counter.to_be_bytes());
        encode(&token.context, &mut body);
        let mac = self.mac(key, &body);
        body.extend_from_slice(&mac.as_bytes()[..MAC_BYTES]);
        let text = URL_SAFE_NO_PAD.encode(body);
        (text.len() <= TEXT_BYTES_MAX).then_some(text)
    }

    fn key_hash(&self, key: &Key) -> [u8; KEY_BYTES] {
        let hash = blake3::keyed_hash(&self.0, key.as_bytes());
        let mut short = [0; KEY_BYTES];
        short.copy_from_slice(&hash.as_bytes()[..KEY_BYTES]);
        short
    }

    /// Only the first [`MAC_BYTES`] count, which are the same in what a token carries.
    fn mac(&self, key: &Key, body: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&(key.as_bytes().len() as u64).to_be_bytes());
        hasher.update(key.as_bytes());
        hasher.update(body);
        let mut short = [0; MAC_BYTES];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..MAC_BYTES]);
        blake3_of(short)
    }
}

/// A short hash in the type whose comparison takes the same time whatever differs.
fn blake3_of(short: [u8; MAC_BYTES]) -> blake3::Hash {
    let mut hash = [0; 32];
    hash[..MAC_BYTES].copy_from_slice(&short);
    blake3::Hash::from_bytes(hash)
}

fn encode(context: &DotSet, out: &mut Vec<u8>) {
    let origins: Vec<Origin> = context.origins().collect();
    put_number(out, origins.len() as u64);
    for origin in origins {
        out.extend_from_slice(&origin.0.to_be_bytes());
        let runs = context.runs(origin);
        put_number(out, runs.len() as u64);
        let mut at = 0;
        for &(first, last) in runs {
            put_number(out, first - at);
            put_number(out, last - first);
            at = last;
        }
    }
}

fn decode(body: &[u8]) -> Option<Token> {
    let mut rest = body.get(1 + KEY_BYTES..)?;
    let (millis, counter) = (take(&mut rest)?, take(&mut rest)?);
    let stamp = Stamp { millis: u64::from_be_bytes(millis), counter: u16::from_be_bytes(counter) };
    let mut context = DotSet::default();
    for _ in 0..number(&mut rest)? {
        let origin = Origin(u64::from_be_bytes(take(&mut rest)?));
        let mut at: u64 = 0;
        for _ in 0..number(&mut rest)? {
            let first = at.checked_add(number(&mut rest)?)?;
            let last = first.checked_add(number(&mut rest)?)?;
            if first == 0 || last > Dot::SEQ_MAX {
                return None;
            }
            context.insert_run(origin, first, last);
            at = last;
        }
    }
    (rest.is_empty() && stamp.millis <= Stamp::MILLIS_MAX).then_some(Token { context, stamp })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = take::<1>(rest)?;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;

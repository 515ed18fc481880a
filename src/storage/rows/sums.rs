//! What the versions of a chunk, and of the whole store, come down to.

use std::ops::Bound;

use super::cursor::Cursor;
use super::{HEAD_BYTES, checksum_of};
use crate::model::{Summary, Sums, WallTime};
use crate::storage::{Batch, Read, StorageError, Table};

/// Begins the value of a chunk; sketches of the dots would be a format of their own.
const FORMAT_CHUNK: u8 = 1;

/// Adds what the versions of the chunk that begins at `start` come down to.
pub fn put_chunk(batch: &mut Batch, start: &[u8], sums: &Sums) {
    batch.put(Table::Chunks, start, encode_sums(start, sums));
}

/// A chunk's first key and its sums.
pub type ChunkRow = (Vec<u8>, Option<Sums>);

/// Every chunk's first key and sums; `None` for sums that cannot be read.
///
/// # Errors
/// Only when the disk is broken.
pub fn chunks(store: &(impl Read + ?Sized)) -> Result<Vec<ChunkRow>, StorageError> {
    let rows = store.scan(Table::Chunks, (Bound::Unbounded, Bound::Unbounded), usize::MAX, false)?;
    Ok(rows
        .into_iter()
        .map(|(start, value)| (decode_sums(&start, &value), start))
        .map(|(sums, start)| (start, sums))
        .collect())
}

const ROOT: &str = "root";

/// Adds the sums of the whole store. `hashed_with` names the key of the hashes.
pub fn put_root(batch: &mut Batch, hashed_with: u64, sums: &Sums) {
    let mut value = hashed_with.to_be_bytes().to_vec();
    value.extend_from_slice(&encode_sums(ROOT.as_bytes(), sums));
    batch.put(Table::Meta, ROOT, value);
}

/// The sums of the whole store and the name of the key they were hashed with; `None` before the first write, or
/// if the row cannot be read.
///
/// # Errors
/// Only when the disk is broken.
pub fn root(store: &(impl Read + ?Sized)) -> Result<Option<(u64, Sums)>, StorageError> {
    let Some(value) = store.get(Table::Meta, ROOT.as_bytes())? else { return Ok(None) };
    let Some((name, sums)) = value.split_first_chunk() else { return Ok(None) };
    Ok(decode_sums(ROOT.as_bytes(), sums).map(|sums| (u64::from_be_bytes(*name), sums)))
}

fn encode_sums(name: &[u8], sums: &Sums) -> Vec<u8> {
    let mut out = vec![0; HEAD_BYTES];
    out.extend_from_slice(&sums.keys.to_be_bytes());
    for part in [sums.live, sums.dead] {
        out.extend_from_slice(&part.count.to_be_bytes());
        out.extend_from_slice(&part.sum.to_be_bytes());
    }
    out.extend_from_slice(&sums.expiring.to_be_bytes());
    out.extend_from_slice(&sums.earliest.map_or(u64::MAX, |earliest| earliest.0).to_be_bytes());
    let sum = checksum_of(name, FORMAT_CHUNK, &out[HEAD_BYTES..]);
    out[0] = FORMAT_CHUNK;
    out[1..HEAD_BYTES].copy_from_slice(&sum.to_be_bytes());
    out
}

fn decode_sums(name: &[u8], bytes: &[u8]) -> Option<Sums> {
    let mut at = Cursor { bytes, at: 0 };
    if at.u8()? != FORMAT_CHUNK || at.u64()? != checksum_of(name, FORMAT_CHUNK, &bytes[HEAD_BYTES..]) {
        return None;
    }
    let keys = at.u64()?;
    let live = Summary { count: at.u64()?, sum: at.u128()? };
    let dead = Summary { count: at.u64()?, sum: at.u128()? };
    let expiring = at.u64()?;
    let earliest = Some(at.u64()?).filter(|millis| *millis != u64::MAX).map(WallTime);
    at.is_done().then_some(Sums { keys, live, dead, expiring, earliest })
}

//! Sets of dots, by origin, and the horizons below which versions were collected, by chunk.

use std::ops::Bound;

use super::cursor::Cursor;
use super::damaged;
use crate::model::{Dot, DotSet, Key, Origin, Stamp};
use crate::storage::{Batch, Read, StorageError, Table};

/// Adds the numbers of one origin in the table of a set of dots to `batch`: inclusive runs, ascending and apart.
/// No runs remove the row.
pub fn put_runs(batch: &mut Batch, table: Table, origin: Origin, runs: &[(u64, u64)]) {
    if runs.is_empty() {
        return batch.remove(table, origin.0.to_be_bytes());
    }
    let mut value = Vec::with_capacity(runs.len() * 16);
    for (first, last) in runs {
        value.extend_from_slice(&first.to_be_bytes());
        value.extend_from_slice(&last.to_be_bytes());
    }
    batch.put(table, origin.0.to_be_bytes(), value);
}

/// One origin's numbers: inclusive runs, ascending and apart.
pub type Runs = Vec<(u64, u64)>;

/// The set of dots that a table holds: [`Table::Seen`] or [`Table::Collected`].
///
/// # Errors
/// Only when the disk is broken, or holds what is no run list.
pub fn dot_set(store: &(impl Read + ?Sized), table: Table) -> Result<DotSet, StorageError> {
    let rows = store.scan(table, (Bound::Unbounded, Bound::Unbounded), usize::MAX, false)?;
    let mut set = DotSet::default();
    for (origin, runs) in rows {
        let (origin, runs) =
            decode_seen(&origin, &runs).ok_or_else(|| damaged("dots", "not a list of runs"))?;
        for (first, last) in runs {
            if first == 0 || last < first || last > Dot::SEQ_MAX {
                return Err(damaged("dots", "not a run of numbers"));
            }
            set.insert_run(origin, first, last);
        }
    }
    Ok(set)
}

/// Into how many chunks the keys fall, as far as horizons go.
pub const CHUNKS: u16 = 4096;

/// The chunk of a key.
pub fn chunk(key: &Key) -> u16 {
    let hash = xxhash_rust::xxh3::xxh3_64(key.as_bytes());
    u16::try_from(hash % u64::from(CHUNKS)).expect("a remainder is smaller than what it was divided by")
}

/// One origin's numbers in such a table.
///
/// # Errors
/// Only when the disk is broken, or holds what is no run list.
pub fn runs(store: &(impl Read + ?Sized), table: Table, origin: Origin) -> Result<Runs, StorageError> {
    let name = origin.0.to_be_bytes();
    let Some(value) = store.get(table, &name)? else { return Ok(Runs::new()) };
    let (_, runs) = decode_seen(&name, &value).ok_or_else(|| damaged("dots", "not a list of runs"))?;
    Ok(runs)
}

/// The greatest stamp of a version collected in a chunk.
///
/// # Errors
/// Only when the disk is broken, or holds what is no stamp.
pub fn horizon(store: &(impl Read + ?Sized), chunk: u16) -> Result<Stamp, StorageError> {
    let Some(value) = store.get(Table::Horizon, &chunk.to_be_bytes())? else { return Ok(Stamp::default()) };
    decode_stamp(&value).ok_or_else(|| damaged("horizon", "not a stamp"))
}

/// The horizons of all chunks in which anything was collected.
///
/// # Errors
/// Only when the disk is broken, or holds what is no chunk or no stamp.
pub fn horizons(store: &(impl Read + ?Sized)) -> Result<Vec<(u16, Stamp)>, StorageError> {
    let rows = store.scan(Table::Horizon, (Bound::Unbounded, Bound::Unbounded), usize::MAX, false)?;
    let decode = |(chunk, stamp): &(Vec<u8>, Vec<u8>)| {
        Some((u16::from_be_bytes(chunk.as_slice().try_into().ok()?), decode_stamp(stamp)?))
    };
    rows.iter().map(|row| decode(row).ok_or_else(|| damaged("horizon", "not a stamp of a chunk"))).collect()
}

/// Adds a chunk's horizon to `batch`.
pub fn put_horizon(batch: &mut Batch, chunk: u16, stamp: Stamp) {
    let mut value = stamp.millis.to_be_bytes().to_vec();
    value.extend_from_slice(&stamp.counter.to_be_bytes());
    batch.put(Table::Horizon, chunk.to_be_bytes(), value);
}

fn decode_stamp(bytes: &[u8]) -> Option<Stamp> {
    let mut at = Cursor { bytes, at: 0 };
    let stamp = Stamp { millis: at.u64()?, counter: at.u16()? };
    at.is_done().then_some(stamp)
}

fn decode_seen(origin: &[u8], runs: &[u8]) -> Option<(Origin, Runs)> {
    let origin = Origin(u64::from_be_bytes(origin.try_into().ok()?));
    let mut at = Cursor { bytes: runs, at: 0 };
    let mut out = Vec::with_capacity(runs.len() / 16);
    while !at.is_done() {
        out.push((at.u64()?, at.u64()?));
    }
    Some((origin, out))
}

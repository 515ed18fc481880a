//! What a client that was told a set of dots has not been told yet: the feed behind `/changes`.
//!
//! There is no log. A client's *cursor* is a set of dots, and what is missing from it is read off the live
//! records, each as it stands now. So a key's states come in their order, the last one always comes, states that
//! were replaced before the client asked may be left out, and a cursor means the same on every node. Pure; who
//! waits for what, and in which form it is sent, is left to the API.

use std::collections::BTreeSet;

use crate::model::{Dot, DotSet, Key, Origin};
use crate::storage::rows::{self, Record};
use crate::storage::{Read, StorageError, Table};

/// Longest cursor that is read or written, in bytes: a request's head must hold it, in base64.
pub const CURSOR_BYTES_MAX: usize = 24 << 10;
/// Dots read at a time.
const BATCH: usize = 64;
/// First byte of a cursor.
const FORMAT: u8 = 1;

/// How much one step may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most keys.
    pub keys_max: usize,
    /// A step takes no further key once it has this many bytes of values.
    pub bytes_max: usize,
}

/// What one look at the disk gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Look {
    /// What comes next.
    Step(Step),
    /// The cursor holds what this node has not covered yet. Going on from here could show a key's older state
    /// after its newer one.
    Behind,
}

/// Changes, and the cursor of a client that was told them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// Each key once, as it is now.
    pub changes: Vec<(Key, Record)>,
    /// The cursor after all of them.
    pub cursor: DotSet,
    /// Whether nothing is left.
    pub is_whole: bool,
}

/// The next changes after `cursor`, read from one state of the disk.
///
/// # Errors
/// Only when the disk is broken.
pub fn look(store: &dyn Read, cursor: &DotSet, bounds: Bounds) -> Result<Look, StorageError> {
    let seen = rows::dot_set(store, Table::Seen)?;
    if !seen.includes(cursor) {
        return Ok(Look::Behind);
    }
    let mut step = Step { cursor: cursor.clone(), ..Step::default() };
    let mut told = BTreeSet::new();
    let mut bytes = 0;
    for (origin, first, last) in seen.minus(cursor).iter() {
        let mut from = first;
        loop {
            let dots = rows::dots(store, Dot { origin, seq: from }, Dot { origin, seq: last }, BATCH)?;
            let is_last = dots.len() < BATCH;
            for (dot, key) in dots {
                if step.changes.len() >= bounds.keys_max || bytes >= bounds.bytes_max {
                    return Ok(Look::Step(step));
                }
                // Everything up to here is told, or was replaced by something with a dot of its own.
                step.cursor.insert_run(origin, from, dot.seq);
                from = dot.seq + 1;
                if told.insert(key.clone()) {
                    let record = rows::record(store, &key)?;
                    bytes += weight(&key, &record);
                    step.changes.push((key, record));
                }
            }
            if is_last {
                break;
            }
        }
        if from <= last {
            step.cursor.insert_run(origin, from, last);
        }
    }
    step.is_whole = true;
    Ok(Look::Step(step))
}

/// Everything that this disk has covered: the cursor of a client that wants to hear of later changes only.
///
/// # Errors
/// Only when the disk is broken.
pub fn now(store: &dyn Read) -> Result<DotSet, StorageError> {
    rows::dot_set(store, Table::Seen)
}

fn weight(key: &Key, record: &Record) -> usize {
    let value = match record {
        Record::Row(row) => row.value_bytes(),
        Record::Absent | Record::Rotten => 0,
    };
    key.as_bytes().len() + value
}

/// A cursor as bytes, or `None` if it has more than [`CURSOR_BYTES_MAX`].
pub fn encode(cursor: &DotSet) -> Option<Vec<u8>> {
    let mut out = vec![FORMAT];
    for origin in cursor.origins() {
        let runs = cursor.runs(origin);
        out.extend_from_slice(&origin.0.to_be_bytes());
        put_number(&mut out, runs.len() as u64);
        let mut before = 0;
        for &(first, last) in runs {
            put_number(&mut out, first - before);
            put_number(&mut out, last - first);
            before = last;
        }
        if out.len() > CURSOR_BYTES_MAX {
            return None;
        }
    }
    Some(out)
}

/// Reads what [`encode`] wrote; `None` for anything else.
pub fn decode(bytes: &[u8]) -> Option<DotSet> {
    if bytes.len() > CURSOR_BYTES_MAX {
        return None;
    }
    let mut rest = bytes.strip_prefix(&[FORMAT])?;
    let mut origins = Vec::new();
    while !rest.is_empty() {
        let (origin, after) = rest.split_first_chunk::<8>()?;
        rest = after;
        let count = take_number(&mut rest)?;
        let mut runs = Vec::new();
        let mut before: u64 = 0;
        for _ in 0..count {
            let first = before.checked_add(take_number(&mut rest)?)?;
            let last = first.checked_add(take_number(&mut rest)?)?;
            runs.push((first, last));
            before = last;
        }
        origins.push((Origin(u64::from_be_bytes(*origin)), runs));
    }
    DotSet::try_from(origins).ok()
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number: u64 = 0;
    for shift in (0..63).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;

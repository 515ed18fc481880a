//! Policy `siblings`: which versions of a key a merge and a write keep. Pure; a question about versions.
//!
//! Every version names what its writer had seen of the key, and so replaces; a version that no other one names stays.
//! So a version needs nothing beside it to be merged: streams, sessions, repairs and rebases exchange siblings one by
//! one, as they do with everything else, and a row that arrives in pieces never hides a value for good. What a
//! version replaces stands at the head of its value:
//!
//! ```text
//! format u8 | runs u16 | (origin 8, first 8, last 8) for each run | the client's bytes
//! ```
//!
//! Integers are big-endian. A version that does not begin like this was written before its key had this policy; it
//! replaces nothing.
//!
//! Promises that merging is commutative, associative and idempotent, that it never drops a version nobody replaced,
//! and that a write replaces exactly what it saw. This rests on contexts being *closed*: who names a version names all
//! that it replaced, too. Tokens are sealed at the door so that this is so. Leaves to others what is stored and sent.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};

use super::order;
use crate::model::{Dot, DotSet, Origin, Token, Version};
use crate::mutants;

/// Most values under one key before a node takes no more writes that add one. A merge keeps all it meets.
pub const SIBLINGS_MAX: usize = 32;
/// Most runs of dots that one version replaces. It is about the number of process runs that ever wrote the key and
/// whose writes are not collected everywhere.
pub const RUNS_MAX: usize = 160;
/// Longest head of a value, in bytes.
pub const HEAD_BYTES_MAX: usize = 3 + RUNS_MAX * RUN_BYTES;

const FORMAT: u8 = 0xE2;
const RUN_BYTES: usize = 24;

/// What a node knows beside the versions of a key.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The dots it has covered.
    pub seen: &'a DotSet,
    /// The join of all cuts ever collected at.
    pub collected: &'a DotSet,
}

/// What a write saw of its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Saw {
    /// Nothing: it adds a value.
    Nothing,
    /// What a token says.
    Token(Token),
    /// All that its node holds.
    Everything,
}

/// Both sides' versions without those that another one replaces, in dot order.
pub fn merge(ours: &[Version], theirs: &[Version]) -> Vec<Version> {
    // Two contents under one dot are a disk's lie; they still have one winner everywhere.
    let mut all: Vec<Version> = ours.to_vec();
    for version in theirs {
        match all.iter_mut().find(|held| held.dot == version.dot) {
            Some(held) if order::beats(version, held) => *held = version.clone(),
            Some(_) => {}
            None => all.push(version.clone()),
        }
    }
    let mut replaced = DotSet::default();
    all.iter().for_each(|version| replaced.union(&replaces(version)));
    all.retain(|version| !replaced.contains(version.dot));
    if mutants::is_on("siblings-last-only") {
        let last = order::greatest(&all).map(|version| version.dot);
        all.retain(|version| Some(version.dot) == last);
    }
    all.sort_by_key(|version| version.dot);
    all
}

/// What a reader of these versions knows of their key: they, and all that they replaced.
///
/// Numbers below a known one that the node has covered are counted in: those of this key are held or replaced, and
/// those of other keys mean nothing here. So a key that was written often by one node has one run, not one per write.
/// What is collected everywhere together with what replaced it is left out: nobody can bring it back.
pub fn context(versions: &[Version], known: Known<'_>) -> DotSet {
    let mut exact = DotSet::default();
    for version in versions {
        let replaced = replaces(version);
        let is_settled = known.collected.contains(version.dot);
        if mutants::is_on("context-open") {
            exact.insert(version.dot);
            continue;
        }
        exact.union(&if is_settled { replaced.minus(known.collected) } else { replaced });
        exact.insert(version.dot);
    }
    let mut out = exact.clone();
    for origin in exact.origins() {
        let last = exact.last(origin);
        for &(first, end) in known.seen.runs(origin).iter().take_while(|(first, _)| *first <= last) {
            out.insert_run(origin, first, end.min(last));
        }
    }
    out
}

/// The origins of these versions and of all that they replaced.
pub fn origins(versions: &[Version]) -> BTreeSet<Origin> {
    let named =
        |version: &Version| replaces(version).origins().chain([version.dot.origin]).collect::<Vec<_>>();
    versions.iter().flat_map(named).collect()
}

/// What a write that saw `saw` replaces, at hybrid time `millis`. A version that shows nothing any more is replaced by
/// any write: nobody can miss it.
pub fn replaced_by(saw: &Saw, versions: &[Version], known: Known<'_>, millis: u64) -> DotSet {
    let token = match saw {
        Saw::Everything => return context(versions, known),
        Saw::Token(_) if mutants::is_on("token-overreaches") => return context(versions, known),
        Saw::Nothing => DotSet::default(),
        Saw::Token(token) => token.context.clone(),
    };
    let is_gone = |version: &&Version| token.contains(version.dot) || !version.is_live_at(millis);
    let gone: Vec<Version> = versions.iter().filter(is_gone).cloned().collect();
    let mut out = token.clone();
    for version in &gone {
        // Closed also if the token was cut: who replaces a version replaces what that one did.
        out.union(&replaces(version));
        out.insert(version.dot);
    }
    let settled = gone.iter().filter(|version| known.collected.contains(version.dot));
    for version in settled {
        out = out.minus(&replaces(version).intersection(known.collected));
    }
    out
}

/// How many values a read at hybrid time `millis` would show after a write that replaces `replaced`.
pub fn count_after(versions: &[Version], replaced: &DotSet, millis: u64) -> usize {
    1 + versions.iter().filter(|old| !replaced.contains(old.dot) && old.is_live_at(millis)).count()
}

/// The value of a version that replaces `replaced`: its head, then the client's bytes.
///
/// # Panics
/// There are more than [`RUNS_MAX`] runs; the caller refuses such a write.
pub fn value(replaced: &DotSet, bytes: &Bytes) -> Bytes {
    let runs = replaced.run_count();
    assert!(runs <= RUNS_MAX, "the caller checks how much a write replaces");
    let mut out = BytesMut::with_capacity(3 + runs * RUN_BYTES + bytes.len());
    out.put_u8(FORMAT);
    out.put_u16(runs as u16);
    for (origin, first, last) in replaced.iter() {
        out.put_u64(origin.0);
        out.put_u64(first);
        out.put_u64(last);
    }
    out.put_slice(bytes);
    out.freeze()
}

/// The dots that a version replaces.
pub fn replaces(version: &Version) -> DotSet {
    read_head(&version.value).map_or_else(DotSet::default, |(replaced, _)| replaced)
}

/// The version as its client wrote it.
pub fn bare(version: &Version) -> Version {
    let at = read_head(&version.value).map_or(0, |(_, at)| at);
    Version { value: version.value.slice(at..), ..version.clone() }
}

/// Whether a node of ours can have written this version as a sibling.
pub fn is_well_formed(version: &Version) -> bool {
    let (replaced, at) = read_head(&version.value).unwrap_or_default();
    let len = version.value.len() - at;
    !replaced.contains(version.dot) && len <= Version::VALUE_BYTES_MAX && (!version.tombstone || len == 0)
}

/// What is replaced, and where the client's bytes begin; `None` for what no sibling begins like.
fn read_head(value: &[u8]) -> Option<(DotSet, usize)> {
    let (&[format, high, low], rest) = value.split_first_chunk::<3>()?;
    let count = usize::from(u16::from_be_bytes([high, low]));
    let runs = rest.get(..count * RUN_BYTES).filter(|_| format == FORMAT && count <= RUNS_MAX)?;
    let mut replaced = DotSet::default();
    for run in runs.chunks_exact(RUN_BYTES) {
        let number = |at: usize| u64::from_be_bytes(run[at..at + 8].try_into().expect("eight bytes"));
        let (origin, first, last) = (Origin(number(0)), number(8), number(16));
        if first == 0 || last < first || last > Dot::SEQ_MAX {
            return None;
        }
        replaced.insert_run(origin, first, last);
    }
    // Written one way only, so that equal sets are equal bytes.
    (replaced.run_count() == count).then_some((replaced, 3 + runs.len()))
}

#[cfg(test)]
#[path = "siblings_tests.rs"]
mod tests;

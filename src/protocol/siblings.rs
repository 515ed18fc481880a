//! Policy `siblings`: which versions of a key a merge and a write keep. Pure; a question about rows and contexts.
//!
//! A row's *context* is the set of dots that its holder knows to be written or replaced: the holder's `seen`, read
//! in the same transaction as the row, and the surplus stored beside the row. It includes the dots of the row's
//! own versions. A version that one side holds and the other side's context names without its holding it was
//! replaced there by a write that saw it, so it goes; one that the other side never heard of stays.
//!
//! Promises that merging is commutative, associative and idempotent, that it never drops a version nobody replaced,
//! and that a write replaces exactly what it names. Leaves to the replica what becomes of a row that is missing
//! altogether: that is repaired, not merged, because absence is no knowledge.

use super::order;
use crate::model::{Dot, DotSet, Row, Version};

/// Most values under one key before a node takes no more writes that add one. A merge keeps all it meets.
pub const SIBLINGS_MAX: usize = 32;

/// A row as its holder knows it.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The row, whose own context is the surplus beyond `seen`.
    pub row: &'a Row,
    /// What the holder had covered when the row was read.
    pub seen: &'a DotSet,
}

impl Side<'_> {
    /// Whether the holder knows of this write, be it held or replaced.
    fn knows(&self, dot: Dot) -> bool {
        self.seen.contains(dot) || self.row.context.contains(dot)
    }
}

/// What both sides together hold, as it is to be stored beside `seen`, the storing side's set.
pub fn merge(ours: Side<'_>, theirs: Side<'_>, seen: &DotSet) -> Row {
    let mut versions: Vec<Version> = Vec::with_capacity(ours.row.versions.len());
    for version in &ours.row.versions {
        match theirs.row.version(version.dot) {
            // Two contents under one dot are a disk's lie; they still have one winner everywhere.
            Some(other) if order::beats(other, version) => versions.push(other.clone()),
            Some(_) => versions.push(version.clone()),
            None if !theirs.knows(version.dot) => versions.push(version.clone()),
            None => {}
        }
    }
    let is_news = |version: &&Version| ours.row.version(version.dot).is_none() && !ours.knows(version.dot);
    versions.extend(theirs.row.versions.iter().filter(is_news).cloned());
    versions.sort_by_key(|version| version.dot);
    let mut context = ours.row.context.clone();
    context.union(&theirs.row.context);
    context.union(theirs.seen);
    context.union(ours.seen);
    Row { versions, context: context.minus(seen) }
}

/// A row as a side that has nothing under its key takes it, to be stored beside `seen`. Its versions stand even if
/// that side had seen them: what they were replaced by, if they were, would lie under the key.
pub fn taken_whole(theirs: Side<'_>, seen: &DotSet) -> Row {
    let mut context = theirs.row.context.clone();
    context.union(theirs.seen);
    Row { versions: theirs.row.versions.clone(), context: context.minus(seen) }
}

/// The row after a write that saw `saw`, to be stored beside `seen`, which includes the new version's dot.
/// What shows nothing any more, at hybrid time `millis`, is replaced by any write: nobody can miss it.
pub fn write(row: &Row, saw: &DotSet, new: Version, seen: &DotSet, millis: u64) -> Row {
    let stays = |old: &&Version| !saw.contains(old.dot) && old.is_live_at(millis);
    let mut versions: Vec<Version> = row.versions.iter().filter(stays).cloned().collect();
    versions.push(new);
    versions.sort_by_key(|version| version.dot);
    let mut context = row.context.clone();
    context.union(saw);
    Row { versions, context: context.minus(seen) }
}

/// How many values a read at hybrid time `millis` would show after a write that saw `saw`.
pub fn count_after(row: &Row, saw: &DotSet, millis: u64) -> usize {
    1 + row.versions.iter().filter(|old| !saw.contains(old.dot) && old.is_live_at(millis)).count()
}

#[cfg(test)]
#[path = "siblings_tests.rs"]
mod tests;

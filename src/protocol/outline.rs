//! Sets of dots as peers tell them to each other: in bounded messages, however many origins have come and gone.
//!
//! A small set goes whole. Of a large one only the *open* origins go, those of members' present runs, with one
//! digest of all the others, the *closed part*: who has the same closed part knows the set by that. Who has not
//! asks with digests of 256 ranges of origins, and is sent the ranges that differ, one bounded message at a time.
//! What is learned so is compared, never adopted.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::{DotSet, Origin};

/// A set of more runs than this does not go whole.
pub const WHOLE_RUNS_MAX: usize = 256;
/// Into how many ranges the origins are cut, by their first byte.
pub const RANGES: usize = 256;
/// Most runs in one part, so that it fits a frame unless one range alone does not.
pub const PART_RUNS_MAX: usize = 1024;

/// A set of dots as an opening tells it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outline {
    /// All of it.
    Whole(DotSet),
    /// The open origins' dots, and a digest of all others.
    Parted {
        /// Dots of open origins.
        open: DotSet,
        /// Digest of the dots of all origins that `open` does not name.
        closed: u64,
    },
}

/// Which of a node's sets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Which {
    /// What it has covered.
    Seen,
    /// The join of the cuts it ever collected at.
    Collected,
}

impl Outline {
    /// Outlines a set, given the origins that are some member's present one.
    pub fn of(set: &DotSet, open: &BTreeSet<Origin>) -> Outline {
        if set.run_count() <= WHOLE_RUNS_MAX {
            return Outline::Whole(set.clone());
        }
        let named = set.of_origins(|origin| open.contains(&origin));
        let closed = set.of_origins(|origin| !open.contains(&origin)).digest();
        Outline::Parted { open: named, closed }
    }

    /// The whole set, if it is sent whole or `base` has the same closed part.
    pub fn resolve(&self, base: &DotSet) -> Option<DotSet> {
        match self {
            Outline::Whole(set) => Some(set.clone()),
            Outline::Parted { open, closed } => {
                let mut set = base.of_origins(|origin| open.runs(origin).is_empty());
                if set.digest() != *closed {
                    return None;
                }
                set.union(open);
                Some(set)
            }
        }
    }

    /// What is certainly in the set.
    pub fn told(&self) -> &DotSet {
        match self {
            Outline::Whole(set) | Outline::Parted { open: set, .. } => set,
        }
    }
}

/// Digests of a set's ranges, [`RANGES`] of them.
pub fn range_digests(set: &DotSet) -> Vec<u64> {
    (0..=u8::MAX).map(|bucket| set.bucket(bucket).digest()).collect()
}

/// A stretch of the ranges of a set, as an answer gives it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The first range that it speaks of.
    pub first: u8,
    /// The last one.
    pub last: u8,
    /// Those of them that differ from what was asked with.
    pub differing: Vec<u8>,
    /// All that is in the differing ones.
    pub dots: DotSet,
}

/// Answers who has other digests, from the range `first` on, as far as one message goes.
pub fn part_of(set: &DotSet, digests: &[u64], first: u8) -> Part {
    let mut part = Part { first, last: u8::MAX, differing: Vec::new(), dots: DotSet::default() };
    for bucket in first..=u8::MAX {
        let range = set.bucket(bucket);
        if digests.get(usize::from(bucket)) == Some(&range.digest()) {
            continue;
        }
        let is_full = part.dots.run_count() + range.run_count() > PART_RUNS_MAX;
        if is_full && !part.differing.is_empty() {
            part.last = bucket - 1;
            break;
        }
        part.differing.push(bucket);
        part.dots.union(&range);
    }
    part
}

/// Somebody else's set on its way here, range by range.
#[derive(Clone, Debug)]
pub struct Assembly {
    base: DotSet,
    got: DotSet,
    next: u8,
}

impl Assembly {
    /// Begins from a set that may have much in common with it.
    pub fn new(base: DotSet) -> Assembly {
        Assembly { base, got: DotSet::default(), next: 0 }
    }

    /// What to ask with: the digests, and the first range that is still missing.
    pub fn question(&self) -> (Vec<u64>, u8) {
        (range_digests(&self.base), self.next)
    }

    /// Takes a part. `Some` once the set is whole; a part that was not asked for is ignored.
    pub fn take(&mut self, part: &Part) -> Option<DotSet> {
        if part.first != self.next || part.last < part.first {
            return None;
        }
        for bucket in part.first..=part.last {
            let from = if part.differing.contains(&bucket) { &part.dots } else { &self.base };
            self.got.union(&from.bucket(bucket));
        }
        match part.last.checked_add(1) {
            Some(next) => {
                self.next = next;
                None
            }
            None => Some(std::mem::take(&mut self.got)),
        }
    }
}

#[cfg(test)]
#[path = "outline_tests.rs"]
mod tests;

//! ORD: one winner. The documented order once more, written from the document and not from the node's code,
//! so that a mistake in one of the two shows.

use std::cmp::Ordering;

use reknit::model::{Version, VersionId};

use super::facts::{Facts, Floor, KeyNo, NodeNo, VersionNo};
use super::{dur, nores};

/// A version's place in the order of its key: later stamp, tombstone over value, greater ruling, older author,
/// greater dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Milliseconds, then counter.
    pub stamp: (u64, u16),
    /// Whether it is a delete.
    pub tombstone: bool,
    /// Votes, 0 for a client's own write.
    pub ruling: u16,
    /// When its author joined; unknown as long as only the client's answer told of the version.
    pub author: Option<u64>,
    /// Origin, then number.
    pub dot: (u64, u64),
}

impl Rank {
    /// Of a version that was seen whole.
    pub fn of(version: &Version) -> Rank {
        Rank {
            stamp: (version.stamp.millis, version.stamp.counter),
            tombstone: version.tombstone,
            ruling: version.ruling,
            author: Some(version.author_joined.0),
            dot: (version.dot.origin.0, version.dot.seq),
        }
    }

    /// Of a client's write that only its answer told of.
    pub fn of_written(id: &VersionId, tombstone: bool) -> Rank {
        Rank {
            stamp: (id.stamp.millis, id.stamp.counter),
            tombstone,
            ruling: 0,
            author: None,
            dot: (id.dot.origin.0, id.dot.seq),
        }
    }

    /// The order of two versions of one key; `None` where it hangs on an author that is not known yet.
    /// Two contents under one dot count as equal: DOT has already said what there is to say.
    pub fn compare(&self, other: &Rank) -> Option<Ordering> {
        let by_content = (self.stamp.cmp(&other.stamp))
            .then(self.tombstone.cmp(&other.tombstone))
            .then(self.ruling.cmp(&other.ruling));
        if by_content != Ordering::Equal || self.dot == other.dot {
            return Some(by_content);
        }
        let older_wins = other.author?.cmp(&self.author?);
        Some(older_wins.then(self.dot.cmp(&other.dot)))
    }

    /// Whether this version certainly loses against `other`.
    pub fn loses_to(&self, other: &Rank) -> bool {
        self.compare(other) == Some(Ordering::Less)
    }
}

/// What a place is known to have reached and does no longer hold.
pub struct Fall {
    /// ORD, or the graver promise that this breaks.
    pub code: &'static str,
    /// What should be there, or something that beats it.
    pub missing: VersionNo,
}

/// Judges `found` where `floor` or better must be. The gravest of three names wins: a resurrection, a lost
/// acknowledged write (one that `writer` acknowledged, or anyone), or just a step down. Where the record is gone
/// altogether it does not matter who acknowledged: no order of versions leads there.
pub fn fall(
    facts: &Facts,
    key: KeyNo,
    found: Option<VersionNo>,
    floor: Floor,
    writer: Option<NodeNo>,
) -> Option<Fall> {
    let top = floor.top.filter(|&top| facts.is_below(found, top))?;
    let is_aside = facts.aside.contains(facts.version(top).dot);
    if let Some(tombstone) = nores::resurrected(facts, found, floor) {
        return Some(Fall { code: "NORES", missing: tombstone });
    }
    if is_aside {
        return None;
    }
    if let Some(write) = dur::lost_write(facts, key, found, top, writer.filter(|_| found.is_some())) {
        return Some(Fall { code: "DUR", missing: write });
    }
    Some(Fall { code: "ORD", missing: top })
}

//! What a set of versions comes down to: counts, and sums of keyed hashes that two nodes compare.

use super::time::WallTime;

/// Count and sum of a set of versions. The sum is mod 2^128, so versions can be added and taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many versions.
    pub count: u64,
    /// Sum of their hashes.
    pub sum: u128,
}

/// What the versions under a range of keys come down to.
///
/// Tombstones are summed apart: nodes collect them at different moments, and equal live versions must look equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Keys with at least one version that is no tombstone, expired or not.
    pub keys: u64,
    /// The versions that are no tombstones.
    pub live: Summary,
    /// The tombstones.
    pub dead: Summary,
    /// How many of the live versions have a deadline.
    pub expiring: u64,
    /// No deadline is earlier than this; `None` while nothing has a deadline. A bound only: it is set right by the
    /// next recount, not by every write.
    pub earliest: Option<WallTime>,
}

impl Summary {
    /// Adds one version by its hash.
    pub fn add(&mut self, hash: u128) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(hash);
    }

    /// Adds all that `other` sums up.
    pub fn join(&mut self, other: Summary) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// Takes out all that `other` sums up. It must have been added: counts do not go below zero.
    pub fn part(&mut self, other: Summary) {
        self.count = self.count.saturating_sub(other.count);
        self.sum = self.sum.wrapping_sub(other.sum);
    }
}

impl Sums {
    /// Adds all that `other` sums up.
    pub fn join(&mut self, other: &Sums) {
        self.keys += other.keys;
        self.live.join(other.live);
        self.dead.join(other.dead);
        self.expiring += other.expiring;
        self.earliest = [self.earliest, other.earliest].into_iter().flatten().min();
    }

    /// Takes out all that `other` sums up.
    pub fn part(&mut self, other: &Sums) {
        self.keys = self.keys.saturating_sub(other.keys);
        self.live.part(other.live);
        self.dead.part(other.dead);
        self.expiring = self.expiring.saturating_sub(other.expiring);
        if self.expiring == 0 {
            self.earliest = None;
        }
    }

    /// How many versions, tombstones included.
    pub fn count(&self) -> u64 {
        self.live.count + self.dead.count
    }

    /// Whether both sum up the same versions, whatever bound on deadlines they carry.
    pub fn agrees(&self, other: &Sums) -> bool {
        let bare = |sums: &Sums| Sums { earliest: None, ..*sums };
        bare(self) == bare(other)
    }
}

//! What a store's live versions come down to: one sum that two nodes compare.
//!
//! The sum is over keyed hashes, so a client cannot choose keys whose differences cancel out. The key is drawn
//! from the cluster's secret and is the same on all its nodes.

use crate::model::{Entry, Key, Version};

/// Count and sum of a set of live versions. The sum is mod 2^128, so entries can be added and taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many versions.
    pub count: u64,
    /// Sum of their hashes.
    pub sum: u128,
}

/// The secret under which a cluster's versions are hashed.
#[derive(Clone)]
pub struct SummaryKey([u8; 32]);

impl SummaryKey {
    /// The key of a cluster with this secret; an open cluster has the empty one.
    pub fn new(cluster_secret: &[u8]) -> SummaryKey {
        SummaryKey(blake3::derive_key("reknit 2026-11 summary of versions", cluster_secret))
    }

    /// The keyed hash of a version under its key.
    pub fn hash(&self, key: &Key, version: &Version) -> u128 {
        let record = crate::storage::rows::encode_record(key, version);
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&(key.as_bytes().len() as u64).to_be_bytes());
        hasher.update(key.as_bytes());
        hasher.update(&record);
        let mut sum = [0; 16];
        sum.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        u128::from_be_bytes(sum)
    }
}

impl Summary {
    /// Adds one live version.
    pub fn add(&mut self, key: &SummaryKey, entry: &Entry) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(key.hash(&entry.key, &entry.version));
    }
}

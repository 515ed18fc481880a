//! How a version is hashed into the sums that two nodes compare.
//!
//! The hash is keyed, so a client cannot choose keys whose differences cancel out. The key is drawn from the
//! cluster's secret and is the same on all its nodes.

use super::history;
use crate::model::{Key, Sums, Version};
use crate::storage::rows;

/// A key begins a chunk if these bits of its hash are zero: one key in 256 does.
const BOUNDARY_MASK: u8 = 0xff;

/// The secret under which a cluster's versions are hashed.
#[derive(Clone, PartialEq, Eq)]
pub struct SummaryKey([u8; 32]);

impl std::fmt::Debug for SummaryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SummaryKey")
    }
}

impl SummaryKey {
    /// The key of a cluster with this secret; an open cluster has the empty one.
    pub fn new(cluster_secret: &[u8]) -> SummaryKey {
        SummaryKey(blake3::derive_key("reknit 2026-11 summary of versions", cluster_secret))
    }

    /// Names the key without giving it away: rows that were summed under another one are worth nothing.
    pub fn name(&self) -> u64 {
        first_eight(&blake3::keyed_hash(&self.0, b"name of this key"))
    }

    /// The keyed hash of a version under its key.
    pub fn hash(&self, key: &Key, version: &Version) -> u128 {
        let mut bytes = Vec::with_capacity(key.as_bytes().len() + version.value.len() + 128);
        bytes.extend_from_slice(&(key.as_bytes().len() as u32).to_be_bytes());
        bytes.extend_from_slice(key.as_bytes());
        rows::encode_version(&mut bytes, version);
        let mut sum = [0; 16];
        sum.copy_from_slice(&blake3::keyed_hash(&self.0, &bytes).as_bytes()[..16]);
        u128::from_be_bytes(sum)
    }

    /// Whether a key begins a chunk: a question that every node answers alike, and no client can foresee.
    pub fn is_boundary(&self, key: &Key) -> bool {
        blake3::keyed_hash(&self.0, key.as_bytes()).as_bytes()[0] & BOUNDARY_MASK == 0
    }

    /// What the versions of one row come down to. What lies below a checkpoint of a history counts as gone already.
    pub fn sums(&self, key: &Key, versions: &[Version]) -> Sums {
        let mut sums = Sums::default();
        let past = history::past(versions);
        for version in versions.iter().filter(|version| !past.contains(&version.dot)) {
            let hash = self.hash(key, version);
            if version.tombstone {
                sums.dead.add(hash);
                continue;
            }
            sums.keys = 1;
            sums.live.add(hash);
            sums.expiring += u64::from(version.expires_at.is_some());
            sums.earliest = [sums.earliest, version.expires_at].into_iter().flatten().min();
        }
        sums
    }
}

fn first_eight(hash: &blake3::Hash) -> u64 {
    u64::from_be_bytes(hash.as_bytes()[..8].try_into().expect("a hash has thirty-two bytes"))
}

//! What the session is compared with, on the same keys and differences.
//!
//! Two crates are run as they are. The seeds' algorithm is a model: its own tree code is not at hand, so the ranges are
//! those of a binary tree over sorted keys with ten keys to a leaf, and a request with its answer costs 300 bytes of
//! HTTP and what it carries; rows read are what rebuilding both trees for each request comes to.

use std::time::{Duration, Instant};

use anyhow::Result;
use merkle_search_tree::MerkleSearchTree;
use merkle_search_tree::diff::diff;
use negentropy::{Id, Negentropy, NegentropyStorageVector};
use reknit::model::Key;

use crate::stores::Kind;

/// What a rival took.
pub struct Cost {
    pub bytes: usize,
    pub round_trips: usize,
    pub cpu: Option<Duration>,
    /// What else a reader should know.
    pub note: String,
}

const HTTP_BYTES: usize = 300;
const HASH_TEXT_BYTES: usize = 64;
const LEAF_KEYS: usize = 10;

/// The seeds: root, then the children of each range that differs, then every key of each leaf that differs.
pub fn seeds(keys: &[Key], differing: &[usize], kind: Kind) -> Cost {
    let (mut bytes, mut requests) = (HTTP_BYTES + HASH_TEXT_BYTES, 1);
    let mut ranges = vec![(0, keys.len())];
    let has_difference = |from: usize, to: usize| {
        differing.partition_point(|number| *number < from) < differing.partition_point(|number| *number < to)
    };
    while let Some((from, to)) = ranges.pop() {
        if !has_difference(from, to) {
            continue;
        }
        requests += 1;
        bytes += HTTP_BYTES;
        if to - from <= LEAF_KEYS {
            // The leaf's keys, and then each of them by a request of its own.
            bytes += keys[from..to].iter().map(|key| key.as_bytes().len() + HTTP_BYTES).sum::<usize>();
            requests += to - from;
            continue;
        }
        let middle = usize::midpoint(from, to);
        let bounds =
            keys[from].as_bytes().len() + keys[to - 1].as_bytes().len() + keys[middle].as_bytes().len();
        bytes += 2 * HASH_TEXT_BYTES + bounds;
        ranges.extend([(from, middle), (middle, to)]);
    }
    let rows = 2 * keys.len() as u64 * requests as u64;
    let note = match kind {
        Kind::Missing => format!("model; {rows} rows read; one way only"),
        Kind::Changed => format!("model; {rows} rows read"),
    };
    Cost { bytes, round_trips: requests, cpu: None, note }
}

/// Crate `negentropy`: 32-byte ids in a sorted vector, which is made before the clock starts.
pub fn negentropy(keys: &[Key], differing: &[usize], kind: Kind) -> Result<Cost> {
    let mut sides = [
        NegentropyStorageVector::with_capacity(keys.len()),
        NegentropyStorageVector::with_capacity(keys.len()),
    ];
    let mut next = differing.iter().peekable();
    for (number, _) in keys.iter().enumerate() {
        let differs = next.next_if(|differing| **differing == number).is_some();
        // Ids are hashes of the versions, and times are those of the writes.
        let id = |salt: u64| Id::from_byte_array(spread(2 * number as u64 + salt));
        sides[0].insert(number as u64, id(0))?;
        match (differs, kind) {
            (false, _) => sides[1].insert(number as u64, id(0))?,
            (true, Kind::Changed) => sides[1].insert(number as u64, id(1))?,
            (true, Kind::Missing) => {}
        }
    }
    for side in &mut sides {
        side.seal()?;
    }
    let [first, second] = sides;
    let began = Instant::now();
    let (mut first, mut second) = (Negentropy::owned(first, 0)?, Negentropy::owned(second, 0)?);
    let mut query = first.initiate()?;
    let (mut bytes, mut round_trips, mut have, mut need) = (0, 0, Vec::new(), Vec::new());
    loop {
        let answer = second.reconcile(&query)?;
        bytes += query.len() + answer.len();
        round_trips += 1;
        match first.reconcile_with_ids(&answer, &mut have, &mut need)? {
            Some(next) => query = next,
            None => break,
        }
    }
    let found = have.len() + need.len();
    Ok(Cost { bytes, round_trips, cpu: Some(began.elapsed()), note: format!("{found} ids found") })
}

/// 32 bytes that look like a hash of the number.
fn spread(number: u64) -> [u8; 32] {
    let mut out = [0; 32];
    for (place, chunk) in (1_u64..).zip(out.chunks_mut(8)) {
        let mut word = number.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(word ^ (word >> 31)).to_be_bytes());
    }
    out
}

/// Crate `merkle-search-tree`: the whole list of pages goes over, whatever differs. It has no deletes.
pub fn merkle_search_tree(keys: &[Key], differing: &[usize], kind: Kind) -> Cost {
    let mut full: MerkleSearchTree<&[u8], u64> = MerkleSearchTree::default();
    let mut other: MerkleSearchTree<&[u8], u64> = MerkleSearchTree::default();
    let mut next = differing.iter().peekable();
    for (number, key) in keys.iter().enumerate() {
        let differs = next.next_if(|differing| **differing == number).is_some();
        full.upsert(key.as_bytes(), &1);
        match (differs, kind) {
            (false, _) => other.upsert(key.as_bytes(), &1),
            (true, Kind::Changed) => other.upsert(key.as_bytes(), &0),
            (true, Kind::Missing) => {}
        }
    }
    full.root_hash();
    other.root_hash();
    let began = Instant::now();
    let theirs = full.serialise_page_ranges().expect("the root was hashed just now");
    let bytes: usize = theirs.iter().map(|page| page.start().len() + page.end().len() + 16).sum();
    let ours = other.serialise_page_ranges().expect("the root was hashed just now");
    let ranges = diff(ours, theirs);
    let cpu = Some(began.elapsed());
    let covered: usize = ranges
        .iter()
        .map(|range| {
            let from = keys.partition_point(|key| key.as_bytes() < *range.start());
            keys.partition_point(|key| key.as_bytes() <= *range.end()) - from
        })
        .sum();
    let note = format!("its ranges cover {covered} keys");
    Cost { bytes, round_trips: 2, cpu, note }
}

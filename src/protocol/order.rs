//! Which of two versions of a key wins: a question about the two versions and nothing else.

use std::cmp::Ordering;

use crate::model::Version;
use crate::mutants;

/// The documented order; the greater version wins. Total: `Equal` means the same version, byte for byte.
///
/// By stamp, tombstone over value, ruling, older author, dot, and at last a hash of the whole version, so that
/// two contents under one dot (a disk that lied) still have one winner everywhere.
pub fn compare(a: &Version, b: &Version) -> Ordering {
    (a.stamp.cmp(&b.stamp))
        .then(a.tombstone.cmp(&b.tombstone))
        .then(a.ruling.cmp(&b.ruling))
        .then(b.author_joined.cmp(&a.author_joined))
        .then(a.dot.cmp(&b.dot))
        .then_with(|| if a == b { Ordering::Equal } else { content_hash(a).cmp(&content_hash(b)) })
}

/// The version that beats all others of a row.
pub fn greatest(versions: &[Version]) -> Option<&Version> {
    versions.iter().max_by(|a, b| compare(a, b))
}

/// Whether `new` takes the place of `old`.
pub fn beats(new: &Version, old: &Version) -> bool {
    compare(new, old) == Ordering::Greater
}

/// Whether two versions of a key are a timestamp collision: values with equal stamps, neither of them a ruling.
/// A tombstone of equal stamp wins and is no matter for a vote, and a ruling never is.
pub fn collide(a: &Version, b: &Version) -> bool {
    let is_client_value =
        |version: &Version| !version.tombstone && (version.ruling == 0 || mutants::is_on("vote-on-rulings"));
    a.stamp == b.stamp && a.dot != b.dot && is_client_value(a) && is_client_value(b)
}

/// What decided that `winner` takes the place of `loser`: the first thing in which they differ.
pub fn rule(winner: &Version, loser: &Version) -> &'static str {
    match () {
        () if winner.stamp != loser.stamp => "stamp",
        () if winner.tombstone != loser.tombstone => "tombstone",
        () if winner.ruling != loser.ruling => "ruling",
        () if winner.author_joined != loser.author_joined => "older author",
        () if winner.dot != loser.dot => "dot",
        () => "content",
    }
}

fn content_hash(version: &Version) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("reknit 2026-11 order of two contents under one dot");
    hasher.update(&[u8::from(version.confirms.is_some())]);
    if let Some(dot) = version.confirms {
        hasher.update(&dot.origin.0.to_be_bytes());
        hasher.update(&dot.seq.to_be_bytes());
    }
    hasher.update(&[u8::from(version.expires_at.is_some())]);
    hasher.update(&version.expires_at.map_or(0, |deadline| deadline.0).to_be_bytes());
    hasher.update(&(version.content_type.len() as u64).to_be_bytes());
    hasher.update(version.content_type.as_bytes());
    hasher.update(&version.value);
    hasher.finalize().into()
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "order_model_tests.rs"]
mod model_tests;

//! DUR: an acknowledged write, or one that beats it, is there as long as a disk that held it survives.
//!
//! There is no list of losses to keep. Each node has, per key, a floor: the greatest version that it provably
//! had on its disk, be it by its answers, its messages or its records. Destroying a disk takes that node's
//! floor down to what the disk holds now, and the other floors up to what the other disks hold. So what died
//! with the disk, puts and deletes alike, current and long overwritten, is asked for no longer, and what
//! arrives late all the same is asked for again from the moment some node had it.

use std::cmp::Ordering;

use super::facts::{Facts, KeyNo, NodeFacts, NodeNo, VersionNo};

/// The greatest acknowledged write above `found` and not above `top`, by `writer` if one is named.
pub fn lost_write(
    facts: &Facts,
    key: KeyNo,
    found: Option<VersionNo>,
    top: VersionNo,
    writer: Option<NodeNo>,
) -> Option<VersionNo> {
    let is_due = |write: VersionNo| {
        let order = facts.rank(write).compare(facts.rank(top));
        facts.is_below(found, write) && matches!(order, Some(Ordering::Less | Ordering::Equal))
    };
    let mut lost = None;
    for &(write, node) in &facts.key(key).acked {
        if writer.is_none_or(|writer| writer == node) && is_due(write) && facts.is_below(lost, write) {
            lost = Some(write);
        }
    }
    lost
}

/// On how many nodes the write `version` is, as far as they themselves have said: at most what a reply may claim.
pub fn holders(facts: &Facts, key: KeyNo, version: VersionNo) -> usize {
    facts.node_numbers().filter(|&node| holds(facts, key, version, node)).count()
}

/// Whether `node` has said that it holds `version` or better.
pub fn holds(facts: &Facts, key: KeyNo, version: VersionNo, node: NodeNo) -> bool {
    let floor = facts.floor(node, key);
    let dot = facts.version(version).dot;
    let has_said = |node: &NodeFacts| node.pulled.contains(dot) || node.claimed.contains(dot);
    floor.top.is_some_and(|top| !facts.rank(top).loses_to(facts.rank(version))) || has_said(facts.node(node))
}

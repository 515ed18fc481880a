//! Policy `history`: every write of a key is kept as a transaction of a graph, and a read shows a view of it.
//!
//! Merging is set union, so it is commutative, associative and idempotent whatever the graph looks like. Views are pure
//! functions of the graph: replicas that hold the same transactions show the same, with whatever strategy, and the
//! strategy can be changed later. What a view leaves out is listed, never lost. Leaves to the replica what is stored
//! and sent, and to the node who may write.

pub mod dag;
pub mod transaction;
pub mod view;

pub use dag::{Dag, Hidden};
pub use transaction::{Kind, PARENTS_MAX, Parent, Transaction, TransactionId};
pub use view::{Fate, State, View, state_at};

use crate::model::{DotSet, Row, Version};

/// Most transactions of one key before a node takes no more writes of it. A merge keeps all it meets.
pub const TRANSACTIONS_MAX: usize = 1024;
/// Most bytes of transactions of one key before a node takes no more writes of it.
pub const BYTES_MAX: usize = 8 << 20;

/// The graph of a row, as its holder can show it.
pub fn dag(row: &Row, seen: &DotSet) -> Dag {
    Dag::new(row.versions.iter().map(Transaction::read).collect(), None, seen)
}

/// Both sides' transactions. Two contents under one dot are a disk's lie; they still have one winner everywhere.
pub fn merge(ours: &[Version], theirs: &[Version]) -> Vec<Version> {
    let mut merged: std::collections::BTreeMap<_, Version> =
        ours.iter().map(|version| (version.dot, version.clone())).collect();
    for version in theirs {
        let is_better = |held: &Version| super::order::beats(version, held);
        if merged.get(&version.dot).is_none_or(is_better) {
            merged.insert(version.dot, version.clone());
        }
    }
    merged.into_values().collect()
}

#[cfg(test)]
#[path = "laws_tests.rs"]
mod laws_tests;
#[cfg(test)]
#[path = "traces_tests.rs"]
mod traces_tests;

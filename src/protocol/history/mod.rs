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
pub use transaction::{Kind, PARENTS_MAX, Parent, Transaction, TransactionId, VECTOR_MAX, Vector};
pub use view::{Fate, State, View, state_at};

use std::collections::BTreeSet;

use crate::model::{Dot, DotSet, Strategy, Version};

/// Most transactions of one key before a node takes no more writes of it. A merge keeps all it meets.
pub const TRANSACTIONS_MAX: usize = 1024;
/// Most bytes of transactions of one key before a node takes no more writes of it.
pub const BYTES_MAX: usize = 8 << 20;

/// The graph of a row, as its holder can show it.
pub fn dag(versions: &[Version], seen: &DotSet) -> Dag {
    Dag::new(versions.iter().map(Transaction::read).collect(), seen)
}

/// What a write on top of these transactions names: all their heads, but at most [`PARENTS_MAX`]; what is left over
/// stays a head beside it, for the next write. And all that they were made on top of, with what was set aside because
/// what it needs is gone: of a past that is too long only what is here or was not `collected`, since hardly anybody has
/// to be told where the rest belongs.
pub fn heads(versions: &[Version], seen: &DotSet, collected: &DotSet) -> (Vec<Parent>, Vector) {
    let dag = dag(versions, seen);
    let most = if crate::mutants::is_on("history-names-view") { 1 } else { PARENTS_MAX };
    let heads: Vec<usize> = dag.heads().into_iter().take(most).collect();
    let below: Vec<&Transaction> =
        dag.ancestors(heads.iter().copied()).into_iter().map(|at| dag.transaction(at)).collect();
    let told = || below.iter().filter_map(|transaction| transaction.vector.as_ref()).flat_map(Vector::dots);
    let aside = (0..versions.len()).filter(|at| dag.hidden(*at) == Some(Hidden::Aside));
    let aside: Vec<Dot> = aside.map(|at| dag.transaction(at).dot).collect();
    let here = || below.iter().map(|transaction| transaction.dot).chain(aside.iter().copied());
    let mut vector: Vector = here().chain(told()).collect();
    if vector.len() > VECTOR_MAX {
        vector = here().chain(told().filter(|dot| !collected.contains(*dot))).collect();
    }
    (heads.into_iter().map(|at| dag.transaction(at).as_parent()).collect(), vector)
}

/// Transactions that make no difference to any view any more: the past of the latest checkpoint. Nodes truncate them
/// at different moments, so they are in no sum.
pub fn past(versions: &[Version]) -> BTreeSet<Dot> {
    if versions.len() < 2 || !versions.iter().any(Version::may_be_checkpoint) {
        return BTreeSet::new();
    }
    let dag = dag(versions, &DotSet::default());
    let past = dag.checkpoints().next().map_or_else(BTreeSet::new, |at| dag.past(at));
    past.into_iter().map(|at| dag.transaction(at).dot).collect()
}

/// What can be truncated if nobody can write beside `stable` any more: the past of the latest checkpoint that is in it
/// with all its past.
pub fn truncatable(dag: &Dag, stable: &DotSet) -> BTreeSet<Dot> {
    let is_stable = |at: &usize| stable.contains(dag.transaction(*at).dot);
    let pasts = dag.checkpoints().filter(is_stable).map(|at| dag.past(at));
    let past = pasts.into_iter().find(|past| past.iter().all(is_stable)).unwrap_or_default();
    past.into_iter().map(|at| dag.transaction(at).dot).collect()
}

/// What a read shows of these transactions: the graph, and its view.
pub fn read(versions: &[Version], strategy: Strategy) -> (Dag, View) {
    let dag = dag(versions, &DotSet::default());
    let view = View::of(&dag, strategy);
    (dag, view)
}

/// Whether a write of `bytes` more bytes has room beside these transactions: the limit that it would pass, if not.
pub fn full(versions: &[Version], bytes: usize) -> Option<usize> {
    let held: usize = versions.iter().map(|version| version.value.len()).sum();
    if versions.len() >= TRANSACTIONS_MAX {
        return Some(TRANSACTIONS_MAX);
    }
    (held + bytes > BYTES_MAX).then_some(BYTES_MAX)
}

/// Whether a node of ours can have written this version as a transaction: what it writes must end where a value may.
pub fn is_well_formed(version: &Version) -> bool {
    Transaction::read(version).bytes.len() <= Version::VALUE_BYTES_MAX
}

/// Whether this transaction is one of these, or one of these says that it was made on top of it. A long past leaves out
/// what was collected.
pub fn knows(versions: &[Version], dot: Dot) -> bool {
    versions.iter().any(|version| {
        let one = Transaction::read(version);
        one.dot == dot
            || one.vector.is_some_and(|vector| vector.covers(dot))
            || one.parents.iter().any(|parent| parent.dot == dot)
    })
}

/// How many of these transactions nothing was made on top of.
pub fn ends(versions: &[Version]) -> usize {
    let named: BTreeSet<Dot> =
        versions.iter().flat_map(transaction::parents).map(|parent| parent.dot).collect();
    versions.iter().filter(|version| !named.contains(&version.dot)).count()
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

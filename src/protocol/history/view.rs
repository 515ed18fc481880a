//! What a history shows: a pure function of its graph, chosen by the strategy.
//!
//! With the common part P, the older author's branch N (the network's updates) and the younger one's L (the local
//! ones), the five views are P N, P L, P N L, P L N, and P alone with a conflict.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::dag::{Dag, Hidden};
use super::transaction::{Kind, Transaction, TransactionId};
use crate::model::{Dot, Origin, Strategy, Version, WallTime};

/// The value that a view ends with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// The bytes.
    pub bytes: Bytes,
    /// Their media type, from the last transaction that gave one.
    pub content_type: String,
    /// From the last full write.
    pub expires_at: Option<WallTime>,
}

/// What a strategy makes of a graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// The transactions of the view, in the order in which they take effect.
    pub order: Vec<usize>,
    /// Those of them that have no effect: patches of a generation that was deleted before them.
    pub skipped: BTreeSet<usize>,
    /// The value; `None` if it was deleted, or there never was one.
    pub state: Option<State>,
    /// The heads of the graph, the older author's first.
    pub heads: Vec<usize>,
    /// Whether somebody has to choose between the heads before the key is whole again.
    pub conflict: bool,
}

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is part of the view.
    Kept,
    /// It is in the graph and not in the view: nothing is lost silently.
    Discarded,
    /// An ancestor has not come yet.
    Awaiting,
    /// It cannot be told where it belongs.
    Aside,
}

impl Fate {
    /// The word for it in listings.
    pub fn word(self) -> &'static str {
        match self {
            Fate::Kept => "kept",
            Fate::Discarded => "discarded",
            Fate::Awaiting => "awaiting",
            Fate::Aside => "aside",
        }
    }
}

impl View {
    /// The view of a graph.
    pub fn of(dag: &Dag, strategy: Strategy) -> View {
        let heads = dag.heads();
        let conflict = strategy == Strategy::Fail && heads.len() > 1;
        let order = match strategy {
            Strategy::PreferNetwork => follow(dag, |children| children.first().copied()),
            Strategy::PreferLocal => follow(dag, |children| children.last().copied()),
            Strategy::LocalOverNetwork => all(dag, false),
            Strategy::NetworkOverLocal => all(dag, true),
            Strategy::Fail => common_part(dag),
        };
        let (state, skipped) = replay(dag, &order);
        View { order, skipped, state, heads, conflict }
    }

    /// What became of the transaction at this place of the graph.
    pub fn fate(&self, dag: &Dag, at: usize) -> Fate {
        match dag.hidden(at) {
            Some(Hidden::Awaiting) => Fate::Awaiting,
            Some(Hidden::Aside) => Fate::Aside,
            None if self.order.contains(&at) && !self.skipped.contains(&at) => Fate::Kept,
            None => Fate::Discarded,
        }
    }

    /// A dot that names several heads together; nobody ever writes under it.
    fn name(&self, dag: &Dag) -> Dot {
        let mut ids: Vec<TransactionId> = self.heads.iter().map(|at| dag.transaction(*at).id).collect();
        ids.sort();
        let mut hasher = blake3::Hasher::new_derive_key("reknit 2026-11 name of several heads");
        for id in ids {
            hasher.update(&id.0.to_be_bytes());
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Dot { origin: Origin(u64::from_be_bytes(bytes)), seq: 0 }
    }

    /// How many transactions of the graph the view leaves out.
    pub fn discarded(&self, dag: &Dag) -> usize {
        dag.shown().len() - self.order.len() + self.skipped.len()
    }

    /// The view as one version, as a read shows it. A head's id covers all it was made on top of, so the view of
    /// one head is named after it, and that of several after all of them.
    pub fn version(&self, dag: &Dag) -> Option<Version> {
        let state = self.state.as_ref()?;
        let stamp = self.heads.iter().map(|at| dag.transaction(*at).stamp).max()?;
        let Transaction { dot, author_joined, .. } = *dag.transaction(*self.heads.first()?);
        let dot = if self.heads.len() == 1 { dot } else { self.name(dag) };
        Some(Version {
            stamp,
            dot,
            author_joined,
            ruling: 0,
            confirms: None,
            tombstone: false,
            expires_at: state.expires_at,
            content_type: state.content_type.clone(),
            value: state.bytes.clone(),
        })
    }
}

/// The value right after the transaction at `at`: that of its ancestors and itself, the older author's branch first.
pub fn state_at(dag: &Dag, at: usize) -> Option<State> {
    replay(dag, &with_ancestors(dag, at)).0
}

/// From the beginning to a head, always to the child that `choose` takes.
fn follow(dag: &Dag, choose: impl Fn(&[usize]) -> Option<usize>) -> Vec<usize> {
    let first = choose(dag.roots());
    std::iter::successors(first, |&at| choose(dag.children(at))).collect()
}

/// Every transaction once: after each its children by rank, each as soon as all its parents are out.
fn all(dag: &Dag, is_reversed: bool) -> Vec<usize> {
    let mut out = Vec::with_capacity(dag.shown().len());
    let mut missing: Vec<usize> = (0..dag.transactions().len()).map(|at| dag.parents(at).len()).collect();
    let mut todo: Vec<usize> = Vec::new();
    // What is next lies on top.
    let stack = |todo: &mut Vec<usize>, ready: Vec<usize>| match is_reversed {
        true => todo.extend(ready),
        false => todo.extend(ready.into_iter().rev()),
    };
    stack(&mut todo, dag.roots().to_vec());
    while let Some(at) = todo.pop() {
        out.push(at);
        let mut ready = Vec::new();
        for &child in dag.children(at) {
            missing[child] -= 1;
            if missing[child] == 0 {
                ready.push(child);
            }
        }
        stack(&mut todo, ready);
    }
    out
}

fn common_part(dag: &Dag) -> Vec<usize> {
    dag.common().map_or_else(Vec::new, |at| with_ancestors(dag, at))
}

fn with_ancestors(dag: &Dag, at: usize) -> Vec<usize> {
    let part = dag.ancestors([at]);
    all(dag, false).into_iter().filter(|at| part.contains(at)).collect()
}

/// Applies transactions one after the other. A delete empties the value, and what follows is a new generation: a
/// patch belongs to it only if its writer had seen the delete, or a full write that came after it.
fn replay(dag: &Dag, order: &[usize]) -> (Option<State>, BTreeSet<usize>) {
    let mut draft: Option<Draft> = None;
    let mut skipped = BTreeSet::new();
    // Of each transaction, whether it was made on top of the last delete, or of a full write after it.
    let mut is_of_generation = vec![true; dag.transactions().len()];
    for &at in order {
        let transaction = dag.transaction(at);
        match transaction.kind {
            Kind::Delete => {
                draft = None;
                is_of_generation.fill(false);
                mark_all_on_top(dag, at, &mut is_of_generation);
            }
            Kind::Full => {
                draft = Some(Draft::of(transaction));
                mark_all_on_top(dag, at, &mut is_of_generation);
            }
            Kind::Patch { offset } => {
                if is_of_generation[at] || crate::mutants::is_on("history-mixes-generations") {
                    draft.get_or_insert_with(|| Draft::below(transaction)).patch(offset, &transaction.bytes);
                } else {
                    skipped.insert(at);
                }
            }
        }
    }
    (draft.map(Draft::finish), skipped)
}

/// Marks a transaction and all that was made on top of it. Where one is marked, so is all on top of it.
fn mark_all_on_top(dag: &Dag, at: usize, marks: &mut [bool]) {
    let mut todo = vec![at];
    while let Some(at) = todo.pop() {
        if !std::mem::replace(&mut marks[at], true) {
            todo.extend(dag.children(at));
        }
    }
}

/// A value in the making: its bytes are copied with the first patch, and not with each.
struct Draft {
    state: State,
    patched: Option<Vec<u8>>,
}

impl Draft {
    fn of(full: &Transaction) -> Draft {
        Draft { state: State { bytes: full.bytes.clone(), ..Draft::below(full).state }, patched: None }
    }

    /// Nothing yet, with what a transaction says besides its bytes.
    fn below(first: &Transaction) -> Draft {
        let content_type = first.content_type.clone();
        Draft {
            state: State { bytes: Bytes::new(), content_type, expires_at: first.expires_at },
            patched: None,
        }
    }

    fn patch(&mut self, offset: u64, patch: &[u8]) {
        let bytes = self.patched.get_or_insert_with(|| self.state.bytes.to_vec());
        // What ends beyond the largest value is read as no patch.
        let offset = usize::try_from(offset).expect("offsets are bounded where they are read");
        let end = offset + patch.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(patch);
    }

    fn finish(self) -> State {
        match self.patched {
            Some(bytes) => State { bytes: bytes.into(), ..self.state },
            None => self.state,
        }
    }
}

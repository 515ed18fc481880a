//! The graph of a key's transactions: who was made on top of whom, and which of them can be shown yet.
//!
//! A transaction is *shown* once all its ancestors are: one whose parent is still on its way waits, and one whose
//! parent will not come, or that names what cannot be a set of heads, is set aside. Everything here is a function of
//! the set of transactions, the checkpoint and `seen`, so replicas that hold the same show the same.

use std::collections::{BTreeMap, BTreeSet};

use super::transaction::Transaction;
use crate::model::{Dot, DotSet};

/// Why a transaction is not shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hidden {
    /// An ancestor has not come yet.
    Awaiting,
    /// An ancestor was covered and is not here, or its parents cannot be the heads that anybody saw.
    Aside,
}

/// The transactions of one key.
#[derive(Debug)]
pub struct Dag {
    /// In dot order; every number below is a place in it.
    transactions: Vec<Transaction>,
    by_dot: BTreeMap<Dot, usize>,
    hidden: BTreeMap<usize, Hidden>,
    /// Shown parents of shown transactions.
    parents: Vec<Vec<usize>>,
    /// Shown children of shown transactions, in the order of rank: the older author's first.
    children: Vec<Vec<usize>>,
    /// Shown transactions without shown parents, in the order of rank.
    roots: Vec<usize>,
    /// Shown transactions, parents before children.
    order: Vec<usize>,
}

impl Dag {
    /// Links transactions. `checkpoint` is the one whose ancestors were truncated, if any were; `seen` tells a
    /// parent on its way from one that will not come.
    pub fn new(mut transactions: Vec<Transaction>, checkpoint: Option<Dot>, seen: &DotSet) -> Dag {
        transactions.sort_by_key(|transaction| transaction.dot);
        let by_dot = transactions.iter().enumerate().map(|(at, transaction)| (transaction.dot, at)).collect();
        let count = transactions.len();
        let mut dag = Dag {
            transactions,
            by_dot,
            hidden: BTreeMap::new(),
            parents: vec![Vec::new(); count],
            children: vec![Vec::new(); count],
            roots: Vec::new(),
            order: Vec::new(),
        };
        dag.show_all(checkpoint, seen);
        dag.rank();
        dag
    }

    /// All transactions, in dot order.
    pub fn transactions(&self) -> &[Transaction] {
        &self.transactions
    }

    /// The transaction at this place.
    pub fn transaction(&self, at: usize) -> &Transaction {
        &self.transactions[at]
    }

    /// Why a transaction is not shown; `None` if it is.
    pub fn hidden(&self, at: usize) -> Option<Hidden> {
        self.hidden.get(&at).copied()
    }

    /// Shown transactions, parents before children.
    pub fn shown(&self) -> &[usize] {
        &self.order
    }

    /// Shown transactions without parents, the older author's first.
    pub fn roots(&self) -> &[usize] {
        &self.roots
    }

    /// The shown children of a transaction, the older author's first.
    pub fn children(&self, at: usize) -> &[usize] {
        &self.children[at]
    }

    /// The shown parents of a transaction.
    pub fn parents(&self, at: usize) -> &[usize] {
        &self.parents[at]
    }

    /// Shown transactions that nothing shown was made on top of, the older author's first.
    pub fn heads(&self) -> Vec<usize> {
        let mut heads: Vec<usize> =
            self.order.iter().copied().filter(|&at| self.children[at].is_empty()).collect();
        heads.sort_by_key(|&at| self.rank_of(at));
        heads
    }

    /// The shown transactions that these were made on top of, themselves included.
    pub fn ancestors(&self, of: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut todo: Vec<usize> = of.into_iter().collect();
        while let Some(at) = todo.pop() {
            if found.insert(at) {
                todo.extend(&self.parents[at]);
            }
        }
        found
    }

    /// The nearest transaction that lies on every path from the empty beginning to every head; `None` is the empty
    /// beginning itself.
    pub fn common(&self) -> Option<usize> {
        // Dominators in one pass, since parents come first: `above` is the next dominator, `depth` how many there are.
        let mut above: Vec<Option<usize>> = vec![None; self.transactions.len()];
        let mut depth: Vec<usize> = vec![0; self.transactions.len()];
        for &at in &self.order {
            above[at] = meet(&above, &depth, &self.parents[at]);
            depth[at] = above[at].map_or(1, |dominator| depth[dominator] + 1);
        }
        meet(&above, &depth, &self.heads())
    }

    /// Shows what can be shown, parents first, and says of the rest why not.
    fn show_all(&mut self, checkpoint: Option<Dot>, seen: &DotSet) {
        let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); self.transactions.len()];
        let mut missing: Vec<usize> = vec![0; self.transactions.len()];
        let mut todo: Vec<usize> = Vec::new();
        for (at, transaction) in self.transactions.iter().enumerate() {
            if Some(transaction.dot) != checkpoint {
                for parent in &transaction.parents {
                    missing[at] += 1;
                    match self.by_dot.get(&parent.dot) {
                        Some(&held) if self.transactions[held].id == parent.id => dependents[held].push(at),
                        None if !seen.contains(parent.dot) => {
                            self.hidden.entry(at).or_insert(Hidden::Awaiting);
                        }
                        Some(_) | None => {
                            self.hidden.insert(at, Hidden::Aside);
                        }
                    }
                }
            }
            if missing[at] == 0 {
                todo.push(at);
            }
        }
        while let Some(at) = todo.pop() {
            let parents: Vec<usize> = match Some(self.transactions[at].dot) == checkpoint {
                true => Vec::new(),
                false => {
                    self.transactions[at].parents.iter().map(|parent| self.by_dot[&parent.dot]).collect()
                }
            };
            if !self.is_antichain(&parents) {
                self.hidden.insert(at, Hidden::Aside);
                continue;
            }
            self.parents[at] = parents;
            self.order.push(at);
            for &child in &dependents[at] {
                missing[child] -= 1;
                if missing[child] == 0 {
                    todo.push(child);
                }
            }
        }
        self.hide_descendants(&dependents);
    }

    /// What was made on top of something hidden is hidden for the same reason.
    fn hide_descendants(&mut self, dependents: &[Vec<usize>]) {
        for reason in [Hidden::Aside, Hidden::Awaiting] {
            let of_reason = |(&at, &hidden): (&usize, &Hidden)| (hidden == reason).then_some(at);
            let mut todo: Vec<usize> = self.hidden.iter().filter_map(of_reason).collect();
            while let Some(at) = todo.pop() {
                for &child in &dependents[at] {
                    if self.hidden.get(&child) != Some(&Hidden::Aside)
                        && self.hidden.get(&child) != Some(&reason)
                    {
                        self.hidden.insert(child, reason);
                        todo.push(child);
                    }
                }
            }
        }
    }

    /// Whether none of these was made on top of another one.
    fn is_antichain(&self, places: &[usize]) -> bool {
        if places.len() < 2 {
            return true;
        }
        let above = self.ancestors(places.iter().flat_map(|&at| self.parents[at].iter().copied()));
        !places.iter().any(|at| above.contains(at))
    }

    fn rank(&mut self) {
        let mut order = self.order.clone();
        order.sort_by_key(|&at| self.rank_of(at));
        for at in order {
            if self.parents[at].is_empty() {
                self.roots.push(at);
            }
            for &parent in &self.parents[at] {
                self.children[parent].push(at);
            }
        }
    }

    fn rank_of(&self, at: usize) -> (crate::model::WallTime, Dot) {
        (self.transactions[at].author_joined, self.transactions[at].dot)
    }
}

/// The nearest dominator that all of these have in common; none of them at all have the empty beginning.
fn meet(above: &[Option<usize>], depth: &[usize], places: &[usize]) -> Option<usize> {
    let mut places = places.iter().copied();
    let mut met = places.next()?;
    for mut other in places {
        while met != other {
            if depth[met] >= depth[other] {
                met = above[met]?;
            } else {
                other = above[other]?;
            }
        }
    }
    Some(met)
}

//! The graph of a key's transactions: who was made on top of whom, and which of them can be shown yet.
//!
//! A patch is *shown* once all its ancestors are: one whose parent is still on its way waits, and one whose parent will
//! not come, or that names what cannot be a set of heads, is set aside. A full write or a delete needs nothing below it
//! and is shown at once; it stands on what is here of its past, which it tells whole. That may be more than the parents
//! that it names: what its writer had set aside lies below it too, also where it can be shown.
//! Everything here is a function of the set of transactions, so replicas that hold the same show the same; `seen` only
//! tells what waits from what is set aside.
//!
//! A full write or a delete that lies on every path from the beginning to every head is a *checkpoint*: its past makes
//! no difference to any view, and is truncated once nobody can write beside it any more.

use std::collections::{BTreeMap, BTreeSet};

use super::transaction::{Parent, Transaction, Vector};
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
    /// Links transactions. `seen` tells a parent on its way from one that will not come.
    pub fn new(mut transactions: Vec<Transaction>, seen: &DotSet) -> Dag {
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
        dag.show_all(seen);
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

    /// Where the transaction with this dot is.
    pub fn place(&self, dot: Dot) -> Option<usize> {
        self.by_dot.get(&dot).copied()
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
        self.on_every_path().first().copied()
    }

    /// Below which transactions nothing makes a difference any more, the latest first. What cannot be shown yet may need
    /// what lies below one of them.
    pub fn checkpoints(&self) -> impl Iterator<Item = usize> + '_ {
        let needs = |&at: &usize| {
            let dot = self.transactions[at].dot;
            let is_open = |parent: &&Parent| self.held(parent).is_none_or(|at| self.hidden.contains_key(&at));
            let missing = self.transactions[at].parents.iter().filter(is_open);
            missing.map(move |parent| (dot, parent.dot))
        };
        let needed: Vec<(Dot, Dot)> = self.hidden.keys().flat_map(needs).collect();
        let is_free = move |vector: &Vector| {
            needed.iter().all(|(dot, parent)| vector.covers(*dot) || !vector.covers(*parent))
        };
        self.on_every_path()
            .into_iter()
            .filter(move |at| self.transactions[*at].vector.as_ref().is_some_and(&is_free))
    }

    /// All that a transaction was made on top of, as far as it is here: what is shown, and what it tells as its past and
    /// cannot be shown, because some of that past is gone.
    pub fn past(&self, at: usize) -> BTreeSet<usize> {
        let mut past = self.ancestors(self.parents[at].iter().copied());
        if let Some(vector) = &self.transactions[at].vector {
            let is_below = |hidden: &usize| vector.covers(self.transactions[*hidden].dot);
            past.extend(self.hidden.keys().copied().filter(is_below));
        }
        past
    }

    /// The transactions that lie on every path from the empty beginning to every head, the nearest to the heads first.
    fn on_every_path(&self) -> Vec<usize> {
        // Dominators in one pass, since parents come first: `above` is the next dominator, `depth` how many there are.
        let mut above: Vec<Option<usize>> = vec![None; self.transactions.len()];
        let mut depth: Vec<usize> = vec![0; self.transactions.len()];
        for &at in &self.order {
            above[at] = meet(&above, &depth, &self.parents[at]);
            depth[at] = above[at].map_or(1, |dominator| depth[dominator] + 1);
        }
        std::iter::successors(meet(&above, &depth, &self.heads()), |&at| above[at]).collect()
    }

    /// Shows what can be shown, parents first, and says of the rest why not.
    fn show_all(&mut self, seen: &DotSet) {
        let count = self.transactions.len();
        let Links { mut below, mut open } = self.link(seen);
        let mut above: Vec<Places> = vec![Places::none(count); count];
        let mut settled = Places::none(count);
        let mut todo: Vec<usize> = (0..count).filter(|&at| open[at] == 0).collect();
        while let Some(at) = todo.pop().or_else(|| self.in_a_circle(&settled)) {
            if settled.contains(at) {
                continue;
            }
            let covered = self.covered(at);
            let waits_for: Vec<usize> = covered.iter().filter(|&other| !settled.contains(other)).collect();
            if open[at] == 0 && !waits_for.is_empty() {
                open[at] = waits_for.len();
                waits_for.into_iter().for_each(|other| below[other].push(at));
                continue;
            }
            settled.insert(at);
            self.settle(at, &covered, &mut above);
            let reason = self.hidden.get(&at).copied();
            for child in std::mem::take(&mut below[at]) {
                if let Some(reason) = reason
                    && self.transactions[child].vector.is_none()
                    && self.hidden.get(&child) != Some(&Hidden::Aside)
                {
                    self.hidden.insert(child, reason);
                }
                open[child] -= 1;
                if open[child] == 0 {
                    todo.push(child);
                }
            }
        }
        // Only nonsense is made on top of itself.
        let circles = (0..count).filter(|&at| !settled.contains(at));
        self.hidden.extend(circles.map(|at| (at, Hidden::Aside)));
    }

    /// Where nothing else is left to settle: the first whose parents are settled, although it says that some of what was
    /// made on top of it is its past. Such a lie must not hide what others wrote.
    fn in_a_circle(&self, settled: &Places) -> Option<usize> {
        let is_based = |at: &usize| {
            let mut parents = self.transactions[*at].parents.iter().filter_map(|parent| self.held(parent));
            parents.all(|parent| settled.contains(parent))
        };
        let tells_all = |at: &usize| self.transactions[*at].vector.is_some();
        (0..self.transactions.len()).filter(|&at| !settled.contains(at)).filter(tells_all).find(is_based)
    }

    /// Shows a transaction all of whose links lead to settled ones, unless something keeps it hidden. `above` is all that
    /// each shown one was made on top of, itself included.
    fn settle(&mut self, at: usize, covered: &Places, above: &mut [Places]) {
        if self.hidden.contains_key(&at) {
            return;
        }
        let is_shown = |place: &usize| above[*place].contains(*place);
        let named = self.transactions[at].parents.iter().filter_map(|parent| self.held(parent));
        let mut parents: Vec<usize> = named.filter(is_shown).collect();
        let mut all = Places::none(above.len());
        parents.iter().for_each(|&parent| all.union(&above[parent]));
        let is_whole = parents.len() == self.transactions[at].parents.len() && !parents.is_empty();
        if !(is_whole && crate::mutants::is_on("stands-on-named")) {
            parents.extend(covered.iter().filter(is_shown).filter(|&place| !all.contains(place)));
        }
        let mut lower = Places::none(above.len());
        for grandparent in parents.iter().flat_map(|&parent| &self.parents[parent]) {
            lower.union(&above[*grandparent]);
        }
        let is_latest = |parent: &usize| !lower.contains(*parent);
        if self.transactions[at].vector.is_none() && !parents.iter().all(is_latest) {
            self.hidden.insert(at, Hidden::Aside);
            return;
        }
        parents.retain(is_latest);
        parents.iter().for_each(|&parent| all.union(&above[parent]));
        all.insert(at);
        above[at] = all;
        self.parents[at] = parents;
        self.order.push(at);
    }

    /// What this one tells as its past, as far as it is here.
    fn covered(&self, at: usize) -> Places {
        let mut covered = Places::none(self.transactions.len());
        for last in self.transactions[at].vector.iter().flat_map(Vector::dots) {
            let first = self.transactions.partition_point(|one| one.dot < Dot { seq: 0, ..last });
            let end = self.transactions.partition_point(|one| one.dot <= last);
            (first..end).filter(|&place| place != at).for_each(|place| covered.insert(place));
        }
        covered
    }

    /// After which parents every transaction has to be settled; what lacks one and cannot stand without it is hidden.
    fn link(&mut self, seen: &DotSet) -> Links {
        let count = self.transactions.len();
        let mut links = Links { below: vec![Vec::new(); count], open: vec![0; count] };
        for at in 0..count {
            for parent in self.transactions[at].parents.clone() {
                match self.held(&parent) {
                    Some(held) => links.add(held, at),
                    None if self.transactions[at].vector.is_some() => {}
                    None if seen.contains(parent.dot) || self.by_dot.contains_key(&parent.dot) => {
                        self.hidden.insert(at, Hidden::Aside);
                    }
                    None => drop(self.hidden.entry(at).or_insert(Hidden::Awaiting)),
                }
            }
        }
        links
    }

    /// Where a parent is, if it is here and what it was said to be.
    fn held(&self, parent: &Parent) -> Option<usize> {
        self.by_dot.get(&parent.dot).copied().filter(|&at| self.transactions[at].id == parent.id)
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

/// Which transactions have to be settled before which.
struct Links {
    /// For each, those that wait for it.
    below: Vec<Vec<usize>>,
    /// For how many each waits.
    open: Vec<usize>,
}

impl Links {
    fn add(&mut self, first: usize, then: usize) {
        self.below[first].push(then);
        self.open[then] += 1;
    }
}

/// A set of places of one graph.
#[derive(Clone, Debug)]
struct Places(Vec<u64>);

impl Places {
    fn none(count: usize) -> Places {
        Places(vec![0; count.div_ceil(64)])
    }

    fn contains(&self, place: usize) -> bool {
        self.0[place / 64] & (1 << (place % 64)) != 0
    }

    fn insert(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    fn union(&mut self, other: &Places) {
        self.0.iter_mut().zip(&other.0).for_each(|(ours, theirs)| *ours |= theirs);
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let bits = |word: usize| (0..64).map(move |bit| word * 64 + bit);
        (0..self.0.len())
            .filter(|&word| self.0[word] != 0)
            .flat_map(bits)
            .filter(|&place| self.contains(place))
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

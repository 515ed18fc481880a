//! Histories: every transaction that a node had it still has, unless it lies below a checkpoint that nothing was
//! written beside; everybody ends with all of them, and no view mixes generations.
//!
//! Keeps its own facts, because an order of versions says nothing about a key whose versions all stay.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use reknit::model::{Dot, DotSet, Key, Policies, Policy, Request, Strategy, Version};
use reknit::protocol::history::{self, Dag, Kind, Transaction, Vector, View};

use super::Dump;

/// What is known of all histories.
#[derive(Debug, Default)]
pub struct Histories {
    policies: Policies,
    keys: BTreeMap<Key, Facts>,
    /// Whether a disk was replaced: then a transaction may be left whose parent is gone for good.
    was_replaced: bool,
    /// Whether somebody came (back) from beside the members that count: then it may have written beside a checkpoint.
    was_behind: bool,
}

/// What is known of one history.
#[derive(Debug, Default)]
struct Facts {
    /// What clients asked for: kind, offset, bytes.
    asked: BTreeSet<(&'static str, u64, Bytes)>,
    /// Every transaction met.
    whole: BTreeMap<Dot, Version>,
    /// What was durable at each node.
    held: BTreeMap<String, BTreeSet<Dot>>,
}

impl Facts {
    /// What a dump shows of this history.
    fn known(&self, records: &Dump, key: &Key) -> Known {
        let versions = records.get(key).map_or(&[][..], Vec::as_slice);
        let (dag, _) = history::read(versions, Strategy::Fail);
        let held = versions.iter().map(|version| version.dot).collect();
        let mut below = Vector::default();
        for at in dag.shown() {
            self.below(dag.transaction(*at)).dots().for_each(|dot| below.insert(dot));
        }
        Known { held, below, collected: records.collected.clone() }
    }

    /// All that lies below a transaction that can stand without it. A long vector leaves out what was collected before
    /// it was written, so those of what it covers count as well.
    fn below(&self, transaction: &Transaction) -> Vector {
        let mut below = transaction.vector.clone().unwrap_or_default();
        loop {
            let before = below.clone();
            let covered = self.whole.values().filter(|version| before.covers(version.dot));
            let vectors = covered.filter_map(|version| Transaction::read(version).vector);
            vectors.for_each(|vector| vector.dots().for_each(|dot| below.insert(dot)));
            if below == before {
                return below;
            }
        }
    }
}

/// A promise that was broken: which, of which key, and how.
pub type Broken = (&'static str, Key, String);

impl Histories {
    /// Keys of which prefixes have histories.
    pub fn set_policies(&mut self, policies: Policies) {
        self.policies = policies;
    }

    /// Whether a key has one.
    pub fn has(&self, key: &Key) -> bool {
        matches!(self.policies.of(key), Policy::History(_))
    }

    /// A client asks for a write.
    pub fn asked(&mut self, request: &Request) {
        let (key, asked) = match request {
            Request::Put { key, value, .. } => (key, ("full", 0, value.clone())),
            Request::Patch { key, offset, value, .. } => (key, ("patch", *offset, value.clone())),
            Request::Delete { key, .. } => (key, ("delete", 0, Bytes::new())),
            _ => return,
        };
        self.keys.entry(key.clone()).or_default().asked.insert(asked);
    }

    /// A client was told that the transaction with this dot is durable at `node`.
    pub fn acked(&mut self, node: &str, key: &Key, dot: Dot) {
        self.keys.entry(key.clone()).or_default().held.entry(node.to_owned()).or_default().insert(dot);
    }

    /// A message or a disk shows that `node` holds this version.
    pub fn shown(&mut self, node: &str, key: &Key, version: &Version) -> Option<Broken> {
        let facts = self.keys.entry(key.clone()).or_default();
        facts.held.entry(node.to_owned()).or_default().insert(version.dot);
        match facts.whole.get(&version.dot) {
            Some(known) if known == version => return None,
            Some(_) => return Some(("DOT", key.clone(), format!("{} names two transactions", version.dot))),
            None => {}
        }
        facts.whole.insert(version.dot, version.clone());
        let transaction = Transaction::read(version);
        let offset = if let Kind::Patch { offset } = transaction.kind { offset } else { 0 };
        let asked = (transaction.kind.word(), offset, transaction.bytes.clone());
        let text = || format!("{} is {asked:?}, which nobody asked for", version.dot);
        (!facts.asked.contains(&asked)).then(|| ("NOINV", key.clone(), text()))
    }

    /// A node is held against another one, which collected without it.
    pub fn is_behind(&mut self) {
        self.was_behind = true;
    }

    /// Nothing that was on the disk of `node` is known to be there any more.
    pub fn forget(&mut self, node: &str) {
        self.was_replaced = true;
        for facts in self.keys.values_mut() {
            facts.held.remove(node);
        }
    }

    /// The records of one node or disk.
    pub fn dumped(&mut self, node: &str, records: &Dump) -> Vec<Broken> {
        let mut broken = Vec::new();
        for (key, facts) in &self.keys {
            let found = facts.known(records, key);
            let held = facts.held.get(node).into_iter().flatten();
            if let Some(lost) = held.copied().find(|dot| !found.covers(*dot)) {
                broken.push(("HIST", key.clone(), format!("lost transaction {lost}")));
            }
        }
        for (key, versions) in records {
            if self.has(key) {
                broken.extend(versions.iter().filter_map(|version| self.shown(node, key, version)));
            }
        }
        broken
    }

    /// The records of all nodes that had their chance to converge.
    pub fn judge(&self, running: &BTreeMap<String, Dump>) -> Vec<Broken> {
        let mut broken = Vec::new();
        for (key, facts) in &self.keys {
            let held = facts.held.iter().filter(|(node, _)| running.contains_key(*node));
            let all: BTreeSet<Dot> = held.flat_map(|(_, dots)| dots.iter().copied()).collect();
            // Who left for good may have taken along what no link carried.
            let is_whole = facts.held.values().flatten().all(|dot| all.contains(dot));
            for (node, records) in running {
                let found = facts.known(records, key);
                if let Some(lost) = all.iter().find(|dot| !found.covers(**dot)) {
                    broken.push(("HIST", key.clone(), format!("{node} does not have transaction {lost}")));
                }
                let versions = records.get(key).map_or(&[][..], Vec::as_slice);
                let text = self.judge_graph(versions, is_whole);
                broken.extend(text.map(|text| ("HIST", key.clone(), format!("{node}: {text}"))));
            }
        }
        broken
    }

    fn judge_graph(&self, versions: &[Version], is_whole: bool) -> Option<String> {
        let (dag, view) = history::read(versions, Strategy::Fail);
        if let Some(hidden) = (0..versions.len()).find(|at| dag.hidden(*at).is_some())
            && !self.was_replaced
            && is_whole
        {
            return Some(format!("{} is not shown although everything is here", dag.transaction(hidden).dot));
        }
        let did_all_know = !self.was_replaced && !self.was_behind && is_whole;
        if let Some(text) = beside(&dag).filter(|_| did_all_know) {
            return Some(text);
        }
        let mut origins = BTreeSet::new();
        for head in &view.heads {
            // A run writes on top of all that it holds, its own last write among it.
            let origin = dag.transaction(*head).dot.origin;
            if !origins.insert(origin) {
                return Some(format!("{origin} has left two heads"));
            }
        }
        Strategy::ALL.into_iter().find_map(|strategy| mixed(&dag, &View::of(&dag, strategy)))
    }
}

/// A patch in effect although a delete stands before it that its writer did not know of, nor anything after it.
fn mixed(dag: &Dag, view: &View) -> Option<String> {
    let mut generation: Option<Vec<usize>> = None;
    for &at in &view.order {
        match dag.transaction(at).kind {
            Kind::Delete => generation = Some(vec![at]),
            Kind::Full => generation.iter_mut().for_each(|generation| generation.push(at)),
            Kind::Patch { .. } => {
                let is_in = |generation: &Vec<usize>| {
                    let below = ancestors(dag, at);
                    generation.iter().any(|opener| below.contains(opener))
                };
                if !view.skipped.contains(&at) && generation.as_ref().is_some_and(|known| !is_in(known)) {
                    return Some(format!("{} takes effect on a later generation", dag.transaction(at).dot));
                }
            }
        }
    }
    None
}

fn ancestors(dag: &Dag, at: usize) -> BTreeSet<usize> {
    let place = |dot: Dot| dag.transactions().iter().position(|transaction| transaction.dot == dot);
    let mut found = BTreeSet::new();
    let mut todo = vec![at];
    while let Some(at) = todo.pop() {
        let parents = dag.transaction(at).parents.iter().filter_map(|parent| place(parent.dot));
        todo.extend(parents.filter(|parent| found.insert(*parent)));
    }
    found
}

/// What a dump shows of a history: its transactions, and those that may have been truncated below one of them. Whether
/// that was a checkpoint [`beside`] asks: who lost what he had may write beside one later.
struct Known {
    held: BTreeSet<Dot>,
    below: Vector,
    collected: DotSet,
}

impl Known {
    fn covers(&self, dot: Dot) -> bool {
        self.held.contains(&dot) || self.below.covers(dot) && self.collected.contains(dot)
    }
}

/// What was written beside a transaction whose past was truncated, if something was.
fn beside(dag: &Dag) -> Option<String> {
    let lacks = |at: &usize| {
        let held = dag.transactions();
        let parents = &dag.transaction(*at).parents;
        parents.iter().any(|parent| held.iter().all(|one| one.dot != parent.dot))
    };
    let bottom = dag.shown().iter().copied().find(lacks)?;
    let is_above = |at: &&usize| dag.ancestors([**at]).contains(&bottom);
    let other = dag.shown().iter().filter(|at| !dag.past(bottom).contains(at)).find(|at| !is_above(at))?;
    let (bottom, other) = (dag.transaction(bottom).dot, dag.transaction(*other).dot);
    Some(format!("what lay below {bottom} is gone, and {other} was written beside it"))
}

#[cfg(test)]
#[path = "hist_tests.rs"]
mod tests;

//! Siblings: a value goes only where a write that saw it came, stays gone once it went, and everybody ends with the
//! same ones.
//!
//! Keeps its own facts, because no order of versions says which of them stay. What a version replaces is read from
//! the version; what it *may* replace is known from what its client had seen.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use reknit::model::{Condition, Dot, DotSet, Key, Policies, Policy, Request, Version};
use reknit::protocol::siblings;

use super::Dump;
use super::hist::Broken;

/// What is known of all keys of policy `siblings`.
#[derive(Debug, Default)]
pub struct Siblings {
    policies: Policies,
    keys: BTreeMap<Key, Facts>,
    /// What was set aside somewhere: nobody is asked for it any more.
    aside: DotSet,
}

/// What is known of one key.
#[derive(Debug, Default)]
struct Facts {
    /// What clients put.
    asked: BTreeSet<Bytes>,
    is_deleted: bool,
    /// Writes that clients asked for and that show nothing one day.
    hiders: usize,
    /// Every version met.
    whole: BTreeMap<Dot, Version>,
    /// What was durable at each node.
    held: BTreeMap<String, BTreeSet<Dot>>,
    /// What the clients of acknowledged writes had seen, where that is known.
    saw: BTreeMap<Dot, DotSet>,
    /// What acknowledged writes replaced, as far as they have not been seen themselves.
    acked: BTreeMap<Dot, DotSet>,
}

/// What the client of a write has seen of its key, as far as its request says so.
pub fn saw(request: &Request) -> Option<DotSet> {
    match request {
        Request::Put { condition: Condition::Saw(token), .. }
        | Request::Delete { condition: Condition::Saw(token), .. } => Some(token.context.clone()),
        Request::Put { condition: Condition::None, .. } => Some(DotSet::default()),
        // A delete without a token means what its node has, whatever that is.
        _ => None,
    }
}

impl Siblings {
    /// Keys of which prefixes have siblings.
    pub fn set_policies(&mut self, policies: Policies) {
        self.policies = policies;
    }

    /// Whether a key has them.
    pub fn has(&self, key: &Key) -> bool {
        self.policies.of(key) == Policy::Siblings
    }

    /// A client asks for a write.
    pub fn asked(&mut self, request: &Request) {
        match request {
            Request::Put { key, value, ttl, .. } => {
                let facts = self.keys.entry(key.clone()).or_default();
                facts.asked.insert(value.clone());
                facts.hiders += usize::from(ttl.is_some());
            }
            Request::Delete { key, .. } => {
                let facts = self.keys.entry(key.clone()).or_default();
                facts.is_deleted = true;
                facts.hiders += 1;
            }
            _ => {}
        }
    }

    /// A client that had seen `saw` was told that the version with this dot is durable at `node`.
    pub fn acked(&mut self, node: &str, key: &Key, dot: Dot, saw: Option<DotSet>) -> Option<Broken> {
        let facts = self.keys.entry(key.clone()).or_default();
        let replaced =
            saw.clone().unwrap_or_else(|| facts.held.get(node).into_iter().flatten().copied().collect());
        facts.acked.insert(dot, replaced);
        facts.hold(node, dot);
        facts.saw.insert(dot, saw?);
        facts.judge_write(dot).map(|text| ("SIB", key.clone(), text))
    }

    /// There is this version, whether or not whoever sends it still holds it.
    pub fn met(&mut self, key: &Key, version: &Version) {
        let facts = self.keys.entry(key.clone()).or_default();
        facts.whole.entry(version.dot).or_insert_with(|| version.clone());
    }

    /// A message or a disk shows that `node` holds this version.
    pub fn shown(&mut self, node: &str, key: &Key, version: &Version) -> Option<Broken> {
        let facts = self.keys.entry(key.clone()).or_default();
        facts.hold(node, version.dot);
        match facts.whole.get(&version.dot) {
            Some(known) if known == version => return None,
            Some(_) => return Some(("DOT", key.clone(), format!("{} names two siblings", version.dot))),
            None => {}
        }
        facts.whole.insert(version.dot, version.clone());
        let is_asked = match version.tombstone {
            true => facts.is_deleted,
            false => facts.asked.contains(&siblings::bare(version).value),
        };
        if !is_asked {
            return Some(("NOINV", key.clone(), format!("nobody asked for {}", version.dot)));
        }
        facts.judge_write(version.dot).map(|text| ("SIB", key.clone(), text))
    }

    /// Nothing that was on the disk of `node` is known to be there any more.
    pub fn forget(&mut self, node: &str) {
        for facts in self.keys.values_mut() {
            facts.held.remove(node);
        }
    }

    /// The records of one node or disk.
    pub fn dumped(&mut self, node: &str, records: &Dump) -> Vec<Broken> {
        self.aside.union(&records.aside);
        let mut broken = Vec::new();
        for (key, versions) in records {
            if self.has(key) {
                broken.extend(versions.iter().filter_map(|version| self.shown(node, key, version)));
            }
        }
        for (key, facts) in &self.keys {
            let versions = records.get(key).map_or(&[][..], Vec::as_slice);
            let text = facts.judge_node(node, versions, &self.aside, &records.collected);
            broken.extend(text.map(|text| ("SIB", key.clone(), text)));
        }
        broken
    }

    /// The records of all nodes that had their chance to converge.
    pub fn judge(&self, running: &BTreeMap<String, Dump>) -> Vec<Broken> {
        let mut broken = Vec::new();
        for (key, facts) in &self.keys {
            let held = facts.held.iter().filter(|(node, _)| running.contains_key(*node));
            let all: BTreeSet<Dot> = held.flat_map(|(_, dots)| dots.iter().copied()).collect();
            let mut everything = facts.replaced_by(facts.whole.values());
            everything.union(&self.aside);
            running.values().for_each(|dump| everything.union(&facts.replaced_unseen(&dump.collected)));
            let must = all.iter().filter(|dot| facts.is_kept(**dot) && !everything.contains(**dot));
            let must: BTreeSet<Dot> = must.copied().collect();
            let gone = facts.replaced_by(facts.whole.values().filter(|version| all.contains(&version.dot)));
            for (node, records) in running {
                let found: BTreeSet<Dot> =
                    records.get(key).into_iter().flatten().map(|version| version.dot).collect();
                if let Some(lost) = must.difference(&found).next() {
                    broken.push(("SIB", key.clone(), format!("{node} does not have sibling {lost}")));
                }
                if let Some(back) = found.iter().find(|dot| gone.contains(**dot)) {
                    let text = format!("{node} still has {back}, which a write that saw it replaced");
                    broken.push(("SIB", key.clone(), text));
                }
            }
        }
        broken
    }
}

impl Facts {
    fn hold(&mut self, node: &str, dot: Dot) {
        self.held.entry(node.to_owned()).or_default().insert(dot);
    }

    fn replaced_by<'a>(&self, versions: impl Iterator<Item = &'a Version>) -> DotSet {
        let mut out = DotSet::default();
        versions.for_each(|version| out.union(&siblings::replaces(version)));
        out
    }

    /// What was replaced by writes that were collected before anybody else saw them.
    fn replaced_unseen(&self, collected: &DotSet) -> DotSet {
        let is_unseen = |dot: &Dot| collected.contains(*dot) && !self.whole.contains_key(dot);
        let mut out = DotSet::default();
        let unseen = self.acked.iter().filter(|(dot, _)| is_unseen(dot));
        unseen.for_each(|(_, replaced)| out.union(replaced));
        out
    }

    /// Whether a version stays until another one replaces it: neither time nor collection takes it away.
    fn is_kept(&self, dot: Dot) -> bool {
        self.whole.get(&dot).is_some_and(|version| !version.tombstone && version.expires_at.is_none())
    }

    /// What is wrong with what a node holds now, given what it held.
    fn judge_node(
        &self,
        node: &str,
        versions: &[Version],
        aside: &DotSet,
        collected: &DotSet,
    ) -> Option<String> {
        let held = self.held.get(node)?;
        let found: BTreeSet<Dot> = versions.iter().map(|version| version.dot).collect();
        // A rebase takes away what the peer saw replaced, so anybody's version counts as a reason.
        let mut everything = self.replaced_by(self.whole.values());
        everything.union(aside);
        everything.union(&self.replaced_unseen(collected));
        let is_lost = |dot: &&Dot| self.is_kept(**dot) && !found.contains(dot) && !everything.contains(**dot);
        if let Some(lost) = held.iter().find(is_lost) {
            return Some(format!("lost sibling {lost}, which nothing replaced"));
        }
        let own = self.replaced_by(held.iter().filter_map(|dot| self.whole.get(dot)));
        let back = found.iter().find(|dot| own.contains(**dot))?;
        Some(format!("has {back} although it had a write that saw and replaced it"))
    }

    /// Whether a write replaced what its client had seen, and nothing that was shown beside it.
    fn judge_write(&self, dot: Dot) -> Option<String> {
        let (version, saw) = (self.whole.get(&dot)?, self.saw.get(&dot)?);
        let replaced = siblings::replaces(version);
        // What shows nothing any more is replaced by any write, and with it what it had replaced.
        let mut may = saw.clone();
        // Who saw a version may replace what that one had replaced: a token leaves out what is collected.
        for version in self.whole.values().filter(|version| saw.contains(version.dot)) {
            may.union(&siblings::replaces(version));
        }
        let mut hiders = 0;
        for version in self.whole.values().filter(|version| !self.is_kept(version.dot)) {
            hiders += 1;
            may.insert(version.dot);
            may.union(&siblings::replaces(version));
        }
        // One that was never met may be what was replaced, too.
        if hiders == self.hiders
            && let Some(other) =
                self.whole.keys().find(|other| replaced.contains(**other) && !may.contains(**other))
        {
            return Some(format!("{dot} replaced {other}, which its client had not seen"));
        }
        let mut others = DotSet::default();
        for version in self.whole.values().filter(|version| version.dot != dot) {
            others.union(&siblings::replaces(version));
        }
        let is_missed = |other: &&Dot| {
            saw.contains(**other)
                && !replaced.contains(**other)
                && !others.contains(**other)
                && **other != dot
        };
        let missed = self.whole.keys().find(is_missed)?;
        Some(format!("{dot} did not replace {missed}, which its client had seen"))
    }
}

#[cfg(test)]
#[path = "sib_tests.rs"]
mod tests;

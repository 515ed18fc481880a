//! Exact sets of dots: per origin, the runs of numbers that are in.
//!
//! A node's `seen` promises: for every dot in it, the node durably holds that version or one of the same key
//! that beats it. Nothing is rounded: a hole stays a hole until a holder fills it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::version::{Dot, Origin};

/// A set of dots, exact and canonical: equal sets are equal values with equal hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(Origin, Vec<(u64, u64)>)>", into = "Vec<(Origin, Vec<(u64, u64)>)>")]
pub struct DotSet {
    /// Inclusive runs, ascending, with at least one number missing between two of them. Never an empty list.
    origins: BTreeMap<Origin, Vec<(u64, u64)>>,
}

/// Origins that are not ascending, or a run list that is not ascending, apart, and from 1 to [`Dot::SEQ_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a canonical list of runs")]
pub struct BadRuns;

impl DotSet {
    /// Whether `dot` is in the set.
    pub fn contains(&self, dot: Dot) -> bool {
        let Some(runs) = self.origins.get(&dot.origin) else { return false };
        let after = runs.partition_point(|&(first, _)| first <= dot.seq);
        after > 0 && dot.seq <= runs[after - 1].1
    }

    /// Adds a dot; says whether it was new.
    pub fn insert(&mut self, dot: Dot) -> bool {
        if self.contains(dot) {
            return false;
        }
        self.insert_run(dot.origin, dot.seq, dot.seq);
        true
    }

    /// Adds the numbers `first..=last` of `origin`.
    pub fn insert_run(&mut self, origin: Origin, first: u64, last: u64) {
        assert!(0 < first && first <= last, "runs count from 1 and are not empty");
        let runs = self.origins.entry(origin).or_default();
        // Everything that touches first-1 ..= last+1 melts into one run.
        let from = runs.partition_point(|&(_, end)| end.saturating_add(1) < first);
        let to = runs.partition_point(|&(start, _)| start <= last.saturating_add(1));
        let mut merged = (first, last);
        if from < to {
            merged = (first.min(runs[from].0), last.max(runs[to - 1].1));
        }
        runs.splice(from..to, [merged]);
    }

    /// Adds every dot of `other`.
    pub fn union(&mut self, other: &DotSet) {
        for (origin, runs) in &other.origins {
            for &(first, last) in runs {
                self.insert_run(*origin, first, last);
            }
        }
    }

    /// The dots of this set that `other` lacks.
    pub fn minus(&self, other: &DotSet) -> DotSet {
        let mut out = DotSet::default();
        for (origin, runs) in &self.origins {
            let left = subtract(runs, other.origins.get(origin).map_or(&[], Vec::as_slice));
            if !left.is_empty() {
                out.origins.insert(*origin, left);
            }
        }
        out
    }

    /// Whether every dot of `other` is in this set.
    pub fn includes(&self, other: &DotSet) -> bool {
        other.minus(self).is_empty()
    }

    /// The dots that are in both sets.
    pub fn intersection(&self, other: &DotSet) -> DotSet {
        self.minus(&self.minus(other))
    }

    /// Takes one dot out.
    pub fn remove(&mut self, dot: Dot) {
        let Some(runs) = self.origins.get_mut(&dot.origin) else { return };
        *runs = subtract(runs, &[(dot.seq, dot.seq)]);
        if runs.is_empty() {
            self.origins.remove(&dot.origin);
        }
    }

    /// The dots of the origins for which `wanted` says so.
    pub fn of_origins(&self, wanted: impl Fn(Origin) -> bool) -> DotSet {
        let origins = self.origins.iter().filter(|(origin, _)| wanted(**origin));
        DotSet { origins: origins.map(|(origin, runs)| (*origin, runs.clone())).collect() }
    }

    /// How many runs the set is written as.
    pub fn run_count(&self) -> usize {
        self.origins.values().map(Vec::len).sum()
    }

    /// The part of the set whose origins begin with this byte.
    pub fn bucket(&self, bucket: u8) -> DotSet {
        let (first, last) = (u64::from(bucket) << 56, u64::from(bucket) << 56 | (u64::MAX >> 8));
        let origins = self.origins.range(Origin(first)..=Origin(last));
        DotSet { origins: origins.map(|(origin, runs)| (*origin, runs.clone())).collect() }
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// How many dots are in the set.
    pub fn count(&self) -> u64 {
        self.origins
            .values()
            .flatten()
            .fold(0, |sum: u64, (first, last)| sum.saturating_add(last - first + 1))
    }

    /// How many origins have a dot in the set.
    pub fn origin_count(&self) -> usize {
        self.origins.len()
    }

    /// The runs of one origin.
    pub fn runs(&self, origin: Origin) -> &[(u64, u64)] {
        self.origins.get(&origin).map_or(&[], Vec::as_slice)
    }

    /// Every run in dot order: origin, first number, last number.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, u64, u64)> + '_ {
        self.origins
            .iter()
            .flat_map(|(origin, runs)| runs.iter().map(|&(first, last)| (*origin, first, last)))
    }

    /// Every origin in order.
    pub fn origins(&self) -> impl Iterator<Item = Origin> + '_ {
        self.origins.keys().copied()
    }

    /// The greatest number of `origin` in the set; 0 when there is none.
    pub fn last(&self, origin: Origin) -> u64 {
        self.runs(origin).last().map_or(0, |&(_, last)| last)
    }

    /// Whether a number below the greatest of `origin` is missing.
    pub fn has_hole(&self, origin: Origin) -> bool {
        let runs = self.runs(origin);
        runs.len() > 1 || runs.first().is_some_and(|&(first, _)| first > 1)
    }

    /// A digest: equal sets have equal digests, and unequal ones differ as far as 64 bits can tell.
    pub fn digest(&self) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
        for (origin, runs) in &self.origins {
            hasher.update(&origin.0.to_be_bytes());
            hasher.update(&(runs.len() as u64).to_be_bytes());
            for (first, last) in runs {
                hasher.update(&first.to_be_bytes());
                hasher.update(&last.to_be_bytes());
            }
        }
        hasher.digest()
    }
}

fn subtract(runs: &[(u64, u64)], holes: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    let mut holes = holes.iter().copied().peekable();
    for &(first, last) in runs {
        let mut from = first;
        while holes.next_if(|&(_, hole_last)| hole_last < from).is_some() {}
        loop {
            match holes.peek() {
                Some(&(hole_first, hole_last)) if hole_first <= last => {
                    if from < hole_first {
                        out.push((from, hole_first - 1));
                    }
                    from = hole_last.saturating_add(1);
                    if hole_last > last {
                        // This hole reaches into the next run too.
                        break;
                    }
                    holes.next();
                }
                _ => {
                    if from <= last {
                        out.push((from, last));
                    }
                    break;
                }
            }
        }
    }
    out
}

impl TryFrom<Vec<(Origin, Vec<(u64, u64)>)>> for DotSet {
    type Error = BadRuns;

    fn try_from(origins: Vec<(Origin, Vec<(u64, u64)>)>) -> Result<DotSet, BadRuns> {
        if !origins.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return Err(BadRuns);
        }
        for (_, runs) in &origins {
            let mut free_from = 1;
            for &(first, last) in runs {
                if first < free_from || last < first {
                    return Err(BadRuns);
                }
                free_from = last.saturating_add(2);
            }
            if runs.is_empty() || free_from > Dot::SEQ_MAX + 2 {
                return Err(BadRuns);
            }
        }
        Ok(DotSet { origins: origins.into_iter().collect() })
    }
}

impl From<DotSet> for Vec<(Origin, Vec<(u64, u64)>)> {
    fn from(set: DotSet) -> Self {
        set.origins.into_iter().collect()
    }
}

impl FromIterator<Dot> for DotSet {
    fn from_iter<T: IntoIterator<Item = Dot>>(dots: T) -> DotSet {
        let mut set = DotSet::default();
        for dot in dots {
            set.insert(dot);
        }
        set
    }
}

#[cfg(test)]
#[path = "dots_tests.rs"]
mod tests;

//! What a node remembers of how it decided between versions that met here, so that people can ask why a value won.
//!
//! A row keeps the winner only; this keeps the name of what lost, and the rule that decided. It is memory, not storage: a
//! restart forgets it, and only the last decisions of the keys that were last decided about are kept.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::order;
use crate::model::{Decision, Key, Version};

/// Most keys of which decisions are remembered; beyond it the one first remembered is forgotten.
pub const KEYS_MAX: usize = 4096;
/// Most decisions remembered of one key.
pub const OF_KEY_MAX: usize = 8;

/// The decisions of one node.
#[derive(Debug, Default)]
pub struct Decisions {
    by_key: BTreeMap<Key, VecDeque<Decision>>,
    /// The keys in the order in which they were first remembered.
    order: VecDeque<Key>,
}

impl Decisions {
    /// Remembers that `winner` stays and `loser` goes.
    pub fn note(&mut self, key: &Key, winner: &Version, loser: &Version) {
        if !self.by_key.contains_key(key) {
            if self.order.len() >= KEYS_MAX {
                let oldest = self.order.pop_front().expect("it is full");
                self.by_key.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        let rule = order::rule(winner, loser);
        let decisions = self.by_key.entry(key.clone()).or_default();
        decisions.push_back(Decision { winner: named(winner), loser: named(loser), rule });
        if decisions.len() > OF_KEY_MAX {
            decisions.pop_front();
        }
    }

    /// What is remembered of a key, the latest first.
    pub fn of(&self, key: &Key) -> Vec<Decision> {
        self.by_key.get(key).into_iter().flatten().rev().cloned().collect()
    }
}

/// A version by its head alone: values are not kept twice.
fn named(version: &Version) -> Version {
    Version { value: Bytes::new(), ..version.clone() }
}

#[cfg(test)]
#[path = "decisions_tests.rs"]
mod tests;

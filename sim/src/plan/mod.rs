//! Draws what shall happen from a seed: whole lives of clusters, and the background load of stories.
//!
//! Promises plans that are explicit to the last operation and equal for equal seeds on every machine. Every entity
//! (a node's power, a clock, an operation, a client) has dice of its own.

pub mod catalogue;
mod clients;
pub mod dice;
mod faults;
pub mod kinds;
mod materialise;
mod surroundings;

use std::time::Duration;

use dice::Dice;
use kinds::Kinds;

pub use clients::{OPERATIONS, STORM};
pub use materialise::materialise;

use crate::scenario::Scenario;

/// How long a drawn life lasts; then the faults end and the checks begin.
pub const LIFE: Duration = Duration::from_secs(60);

/// Faults that lives have only when asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Disks are wiped, restored from backups and cloned. What only one disk held may then be gone.
    pub disk_loss: bool,
    /// Nodes join late, leave and are removed.
    pub membership: bool,
}

/// The life of a cluster that this seed stands for.
pub fn life(seed: u64) -> Scenario {
    let mut dice = Dice::of(seed, "faults");
    life_with(seed, Faults { disk_loss: dice.chance(40), membership: dice.chance(30) })
}

/// The life that this seed stands for, with further kinds of faults.
pub fn life_with(seed: u64, faults: Faults) -> Scenario {
    let mut dice = Dice::of(seed, "shape");
    let kinds = Kinds::draw(seed);
    let many = dice.weighted(&[(15, 2), (55, 3), (15, 4), (15, 5)]);
    let names = ["a", "b", "c", "d", "e", "f", "g"].map(str::to_owned);
    let mut story = Scenario::quiet("life", names[..many].to_vec());
    if faults.membership {
        let later = dice.number(0, 2) as usize;
        story.later = names[many..many + later].to_vec();
    }
    story.seed = Some(seed);
    story.about = format!("A life drawn from seed {seed}: {many} nodes, {}.", kinds.title());
    story.config = surroundings::config(seed);
    story.network = surroundings::network(seed, &kinds);
    let all: Vec<String> = story.all_nodes().cloned().collect();
    story.clocks = surroundings::clocks(seed, &kinds, &all);
    story.disks = surroundings::disks(seed, &kinds);
    story.timeline = faults::draw(seed, &kinds, faults, &story);
    let operations = clients::draw(seed, &kinds, &story, &story.timeline);
    // Stable: of a fault and an operation at the same instant, the fault comes first.
    story.timeline.extend(operations);
    story.timeline.sort_by_key(|timed| timed.at);
    story
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

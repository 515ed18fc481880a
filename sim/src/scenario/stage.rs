//! Which nodes are up while a story runs, so that steps which make no sense are found before the run.

use std::collections::BTreeMap;

use super::{Scenario, Step};

/// Where a node stands in a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It runs, or will within the first second.
    On,
    /// It is stopped with its memory kept.
    Paused,
    /// Its power is off.
    Off,
    /// It is one of `cluster.later` and did not join yet.
    Later,
    /// It left.
    Left,
}

impl Power {
    fn word(self) -> &'static str {
        match self {
            Power::On => "running",
            Power::Paused => "paused",
            Power::Off => "powered off",
            Power::Later => "not started yet: it waits for a join",
            Power::Left => "gone: it left",
        }
    }
}

/// All nodes of a story at one moment of it.
#[derive(Clone, Debug)]
pub struct Stage {
    nodes: BTreeMap<String, Power>,
}

impl Stage {
    /// The beginning of this story.
    pub fn of(scenario: &Scenario) -> Stage {
        let first = scenario.nodes.iter().map(|node| (node.clone(), Power::On));
        let later = scenario.later.iter().map(|node| (node.clone(), Power::Later));
        Stage { nodes: first.chain(later).collect() }
    }

    /// Where this node stands.
    pub fn power(&self, node: &str) -> Power {
        self.nodes.get(node).copied().unwrap_or(Power::Later)
    }

    /// The nodes that run, in order of their names.
    pub fn running(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|(_, power)| **power == Power::On).map(|(node, _)| node.as_str())
    }

    /// All nodes in order of their names, and where they stand.
    pub fn all(&self) -> impl Iterator<Item = (&str, Power)> {
        self.nodes.iter().map(|(node, power)| (node.as_str(), *power))
    }

    /// Plays one step.
    ///
    /// # Errors
    /// Why it makes no sense now. The stage is then as before.
    pub fn play(&mut self, step: &Step) -> Result<(), String> {
        use Power::{Later, Left, Off, On, Paused};
        match step {
            Step::Put { node, .. } | Step::Delete { node, .. } | Step::Get { node, .. } => {
                self.need(node, &[On, Paused, Off, Left], "a client cannot ask it")
            }
            Step::Crash { node, .. } => self.turn(node, &[On, Paused], Off, "it cannot crash"),
            Step::Restart(node) => self.turn(node, &[Off], On, "it cannot restart"),
            Step::Pause(node) => self.turn(node, &[On], Paused, "it cannot pause"),
            Step::Resume(node) => self.turn(node, &[Paused], On, "it cannot resume"),
            Step::Wipe(node) => self.need(node, &[Off, Left], "only a powered-off disk can be wiped"),
            Step::Restore(node) => self.need(node, &[Off, Left], "only a powered-off disk can be restored"),
            Step::Backup(node) => self.need(node, &[On, Paused, Off, Left], "it has no disk to copy"),
            Step::Clone { from, to } => {
                if from == to {
                    return Err(format!("{from} cannot be cloned to itself"));
                }
                self.need(from, &[On, Paused, Off, Left], "it has no disk to copy")?;
                self.need(to, &[Off, Left, Later], "only a powered-off disk can be replaced")
            }
            Step::Join(node) => self.turn(node, &[Later, Left], On, "it cannot join"),
            Step::Leave(node) => self.turn(node, &[On], Left, "it cannot leave"),
            Step::Remove(node) => self.need(node, &[On, Paused, Off, Left], "there is nothing to remove"),
            Step::Partition(sides) => self.partition(sides),
            Step::Cut { from, to } if from == to => Err(format!("{from} cannot be cut from itself")),
            Step::Expect(_)
            | Step::Isolate(_)
            | Step::Cut { .. }
            | Step::Heal
            | Step::Skew(..)
            | Step::Jump(..)
            | Step::Freeze(_)
            | Step::Thaw(_)
            | Step::SetLoss(_)
            | Step::SetDuplicate(_)
            | Step::SetDelay(_)
            | Step::SetBandwidth(_)
            | Step::Clog(_)
            | Step::Unclog(_)
            | Step::Slow(..)
            | Step::Rot(..)
            | Step::IsolateOn(..)
            | Step::Configure(..)
            | Step::StopWorkload => Ok(()),
        }
    }

    fn need(&self, node: &str, allowed: &[Power], so: &str) -> Result<(), String> {
        let power = self.power(node);
        if allowed.contains(&power) { Ok(()) } else { Err(format!("{node} is {}, so {so}", power.word())) }
    }

    fn turn(&mut self, node: &str, allowed: &[Power], to: Power, so: &str) -> Result<(), String> {
        self.need(node, allowed, so)?;
        self.nodes.insert(node.to_owned(), to);
        Ok(())
    }

    fn partition(&self, sides: &[Vec<String>]) -> Result<(), String> {
        let mut listed: Vec<&String> = sides.iter().flatten().collect();
        listed.sort();
        if let Some(twice) = listed.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("{} stands on two sides of the partition", twice[0]));
        }
        // A node without power may be left out: nobody can talk to it anyway.
        let up = self.nodes.iter().filter(|(_, power)| matches!(power, Power::On | Power::Paused));
        match up.map(|(node, _)| node).find(|node| !listed.contains(node)) {
            Some(node) => {
                Err(format!("{node} stands on no side of the partition, which lists every node that is up"))
            }
            None => Ok(()),
        }
    }
}

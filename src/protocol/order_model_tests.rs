//! Every course that a timestamp collision can take, in a small world: three nodes, two values of one stamp, a delete,
//! the votes of both writers, power losses and a partition that comes and goes, in every order that there is.
//!
//! The nodes here are as simple as can be, but they decide with the code that real nodes decide with
//! ([`super::beats`], [`super::collide`]). At every state each node has only ever gone up in the order; and from every
//! state, once everybody hears everything, all hold the same version: the greatest of all that is left.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::model::{Dot, Origin, Stamp, WallTime};

/// The writes of the world. Rulings come from the writers of the two values, for either of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Write {
    /// At node 0, whose author is the older one.
    Red,
    /// At node 1, with the same stamp.
    Blue,
    /// At node 2: with the same stamp too, or a later one if it holds a value already.
    Delete { later: bool },
    /// By this node: red is confirmed, or blue.
    Ruling { by: u8, red: bool, votes: u16 },
}

fn version(write: Write) -> Version {
    let (node, seq, later, ruling, confirms) = match write {
        Write::Red => (0, 1, false, 0, None),
        Write::Blue => (1, 1, false, 0, None),
        Write::Delete { later } => (2, 1, later, 0, None),
        Write::Ruling { by, red, votes } => (by, 2, false, votes, Some(dot(u8::from(!red), 1))),
    };
    let red = matches!(write, Write::Red | Write::Ruling { red: true, .. });
    let tombstone = matches!(write, Write::Delete { .. });
    Version {
        stamp: Stamp { millis: 1_000, counter: u16::from(later) },
        dot: dot(node, seq),
        // A ruling keeps the age of the author whose value it confirms.
        author_joined: WallTime(if tombstone { 3 } else { 1 + u64::from(!red) }),
        ruling,
        confirms,
        tombstone,
        expires_at: None,
        content_type: "text/plain".into(),
        value: if tombstone {
            ""
        } else if red {
            "red"
        } else {
            "blue"
        }
        .into(),
    }
}

fn dot(node: u8, seq: u64) -> Dot {
    Dot { origin: Origin(u64::from(node) + 1), seq }
}

/// A node: what it holds, and which of the two values came first as long as it remembers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Place {
    holds: Option<Write>,
    first: Option<bool>,
    has_met_both: bool,
    has_asked: bool,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct World {
    places: [Place; 3],
    /// Versions under way, and to whom.
    wire: BTreeSet<(Write, u8)>,
    written: [bool; 3],
    /// Node 2 is cut off.
    is_split: bool,
    splits: u8,
    crashes: u8,
}

const CRASHES_MAX: u8 = 1;
const SPLITS_MAX: u8 = 1;

impl World {
    fn can_talk(&self, a: u8, b: u8) -> bool {
        !self.is_split || (a == 2) == (b == 2)
    }

    /// A node takes a version: its own, or one that came.
    fn take(&mut self, at: u8, write: Write) {
        let place = &mut self.places[usize::from(at)];
        if let Write::Red | Write::Blue = write {
            let collides = place.holds.is_some_and(|held| collide(&version(held), &version(write)));
            place.has_met_both |= collides;
            // A write over a value of the same stamp that it beats came second.
            if !collides && place.holds.is_none() {
                place.first = Some(write == Write::Red);
            }
        }
        if place.holds.is_none_or(|held| beats(&version(write), &version(held))) {
            if let Some(held) = place.holds {
                assert_eq!(compare(&version(held), &version(write)), Ordering::Less, "a node goes up only");
            }
            place.holds = Some(write);
        }
    }

    fn write(&mut self, at: u8, write: Write) {
        self.take(at, write);
        for other in (0..3).filter(|other| *other != at) {
            self.wire.insert((write, other));
        }
    }

    /// Everything that can happen next.
    fn next(&self) -> Vec<World> {
        let mut out = Vec::new();
        let mut with = |change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            out.push(world);
        };
        for (at, write) in [(0, Write::Red), (1, Write::Blue)] {
            // A node whose row holds something stamps its write later: then there is no collision to look at.
            if !self.written[usize::from(at)] && self.places[usize::from(at)].holds.is_none() {
                with(&|world| {
                    world.written[usize::from(at)] = true;
                    world.write(at, write);
                });
            }
        }
        if !self.written[2] {
            let later = self.places[2].holds.is_some();
            with(&|world| {
                world.written[2] = true;
                world.write(2, Write::Delete { later });
            });
        }
        for &(write, to) in &self.wire {
            let from = version(write).dot.origin.0 as u8 - 1;
            if self.can_talk(from, to) {
                with(&|world| {
                    world.wire.remove(&(write, to));
                    world.take(to, write);
                });
            }
            // A message may be lost.
            with(&|world| {
                world.wire.remove(&(write, to));
            });
        }
        for at in 0..2 {
            let place = &self.places[usize::from(at)];
            if place.has_met_both && !place.has_asked {
                with(&|world| world.vote(at));
            }
        }
        if self.crashes < CRASHES_MAX {
            for at in 0..3 {
                with(&|world| world.crash(at));
            }
        }
        if self.splits < SPLITS_MAX || self.is_split {
            with(&|world| {
                world.splits += u8::from(!world.is_split);
                world.is_split = !world.is_split;
            });
        }
        out
    }

    /// A writer asks whom it can reach, and confirms what most held first, if its row is still one of the two.
    fn vote(&mut self, at: u8) {
        self.places[usize::from(at)].has_asked = true;
        let reached = (0..3).filter(|other| self.can_talk(at, *other));
        let firsts: Vec<bool> = reached.filter_map(|other| self.places[usize::from(other)].first).collect();
        let red = firsts.iter().filter(|red| **red).count();
        let blue = firsts.len() - red;
        let is_open = matches!(self.places[usize::from(at)].holds, Some(Write::Red | Write::Blue));
        if firsts.is_empty() || !is_open {
            return;
        }
        // Ties go to the older author.
        let votes = red.max(blue) as u16;
        self.write(at, Write::Ruling { by: at, red: red >= blue, votes });
    }

    /// Power is lost: what is on the disk stays, what is in memory and what is under way from here goes.
    fn crash(&mut self, at: u8) {
        self.crashes += 1;
        let place = &mut self.places[usize::from(at)];
        (place.first, place.has_met_both) = (None, false);
        self.wire.retain(|(write, _)| version(*write).dot.origin.0 as u8 - 1 != at);
    }

    /// What all come to once everybody hears everything that is left.
    fn settled(&self) -> World {
        let mut world = self.clone();
        world.is_split = false;
        for (write, to) in std::mem::take(&mut world.wire) {
            world.take(to, write);
        }
        for _ in 0..2 {
            for from in 0..3 {
                let Some(held) = world.places[from].holds else { continue };
                (0..3).for_each(|to| world.take(to, held));
            }
        }
        world
    }
}

#[test]
fn every_course_of_a_collision_ends_with_one_version_everywhere() {
    let mut seen: BTreeSet<World> = BTreeSet::new();
    let mut todo = vec![World::default()];
    let mut endings: BTreeMap<Option<Write>, u64> = BTreeMap::new();
    while let Some(world) = todo.pop() {
        if !seen.insert(world.clone()) {
            continue;
        }
        let settled = world.settled();
        let holds = settled.places.each_ref().map(|place| place.holds);
        assert!(holds[0] == holds[1] && holds[1] == holds[2], "{world:?} ends as {holds:?}");
        let held = world.places.iter().filter_map(|place| place.holds);
        let left = held.chain(world.wire.iter().map(|(write, _)| *write));
        let best = left.max_by(|a, b| compare(&version(*a), &version(*b)));
        assert_eq!(holds[0], best, "{world:?}");
        *endings.entry(best).or_default() += 1;
        todo.extend(world.next());
    }

    let rulings = endings.keys().filter(|write| matches!(write, Some(Write::Ruling { .. }))).count();
    println!("{} states, {} different endings, {rulings} of them rulings", seen.len(), endings.len());
    assert!(rulings >= 4, "both values are confirmed, by both writers");
    assert!(endings.contains_key(&Some(Write::Delete { later: false })), "a delete of the same stamp wins");
}

//! What clients do in a life: a few hot keys and many fresh ones, and races for the same key at different nodes.

use std::time::Duration;

use reknit::model::{Ack, Key, Policies, Policy};

use super::LIFE;
use super::catalogue::percent;
use super::dice::{Dice, readable};
use super::kinds::{Kind, Kinds};
use super::surroundings;
use super::surroundings::TIMERS;
use crate::scenario::stage::{Power, Stage};
use crate::scenario::{Draw, Scenario, Step, Timed, WriteOptions};

/// Fewest and most operations of one life.
pub const OPERATIONS: (u64, u64) = (100, 250);

/// Writes of one storm.
pub const STORM: u64 = 200;
/// Most hot keys of one life.
const HOT_KEYS_MAX: u64 = 8;
/// How often somebody is there when a node is back with an old disk.
const RETURNS_PERCENT: u32 = 70;
/// The first operation; the nodes may have found each other by then or not.
const FIRST: Duration = Duration::from_millis(300);

/// What one seed's clients are like.
struct Habits {
    hot_keys: u64,
    hot_percent: u32,
    delete_percent: u32,
    race_percent: u32,
    ttl_percent: u32,
    ack_percent: u32,
    large: bool,
    longest_delay: Duration,
}

impl Habits {
    fn draw(seed: u64, kinds: &Kinds, story: &Scenario) -> Habits {
        let mut dice = Dice::of(seed, "clients");
        let (Draw::Each(delay) | Draw::Once(delay)) = &story.network.delay;
        Habits {
            hot_keys: dice.number(1, HOT_KEYS_MAX),
            hot_percent: *dice.pick(&[30, 50, 50, 80]),
            delete_percent: *dice.pick(&[5, 30, 60]),
            race_percent: *dice.pick(&[30, 45, 60]),
            ttl_percent: if kinds.has(Kind::Ttl) { *dice.pick(&[0, 0, 10, 30]) } else { 0 },
            ack_percent: if kinds.has(Kind::Ack) { *dice.pick(&[0, 10, 40]) } else { 0 },
            large: kinds.has(Kind::Odd) && dice.chance(5),
            longest_delay: *delay.end(),
        }
    }
}

/// All operations of this life, in time order; `faults` are its faults, in time order.
pub fn draw(seed: u64, kinds: &Kinds, story: &Scenario, faults: &[Timed]) -> Vec<Timed> {
    let habits = Habits::draw(seed, kinds, story);
    let many = Dice::of(seed, "operations").number(OPERATIONS.0, OPERATIONS.1);
    let slot = readable((LIFE - FIRST) / u32::try_from(many).expect("a few hundred"));
    let mut stage = Stage::of(story);
    let mut coming = faults.iter().peekable();
    let mut fresh: Vec<Vec<u8>> = Vec::new();
    let mut steps: Vec<Timed> = Vec::new();
    let mut operation = 0;
    while (steps.len() as u64) < many {
        let mut dice = Dice::of(seed, &format!("operation/{operation}"));
        // Slots keep the times in order, so that a delete can name a key that was put before it; races fill some.
        let at = FIRST
            + slot * u32::try_from(steps.len()).expect("a few hundred")
            + dice.between(Duration::ZERO, slot);
        while let Some(fault) = coming.next_if(|fault| fault.at <= at) {
            stage.play(&fault.step).expect("drawn faults make sense");
        }
        let mut writer = Writer {
            kinds,
            habits: &habits,
            dice: &mut dice,
            operation,
            values: 0,
            policies: &story.config.policies,
        };
        let step = writer.step(&stage, &mut fresh);
        let rival = writer.rival(&stage, &step);
        let again = writer.again(&stage, &step);
        steps.push(Timed { at, step });
        steps.extend(again.map(|(later, step)| Timed { at: (at + later).min(LIFE), step }));
        steps.extend(rival.map(|(later, step)| Timed { at: (at + later).min(LIFE), step }));
        operation += 1;
    }
    steps.extend(storm(seed, kinds, story));
    steps.extend(returns(seed, story, faults));
    steps.sort_by_key(|timed| timed.at);
    steps
}

/// Who is back with an old disk is asked at once to patch a log that the others may have truncated, and they write it
/// anew before or after a session has brought its base back.
fn returns(seed: u64, story: &Scenario, faults: &[Timed]) -> Vec<Timed> {
    let policies = &story.config.policies;
    let keys = (1..=HOT_KEYS_MAX).map(|number| format!("h/{number}").into_bytes());
    let logs: Vec<Vec<u8>> = keys.filter(|key| has_history(policies, key)).collect();
    let mut dice = Dice::of(seed, "returns");
    let mut steps = Vec::new();
    for (at, fault) in faults.iter().enumerate() {
        let Step::Restore(node) = &fault.step else { continue };
        let is_back = |timed: &&Timed| matches!(&timed.step, Step::Restart(other) if other == node);
        let Some(back) = faults[at..].iter().find(is_back).filter(|_| !logs.is_empty()) else { continue };
        let others: Vec<&String> = story.nodes.iter().filter(|other| *other != node).collect();
        if others.is_empty() || !dice.chance(RETURNS_PERCENT) {
            continue;
        }
        let (key, number) = (dice.pick(&logs).clone(), steps.len());
        let mut put = |node: &str, later: Duration, offset| {
            let (node, key, value) = (node.to_owned(), key.clone(), format!("back{number}-{node}"));
            let step =
                Step::Put { node, key, value, options: WriteOptions { offset, ..WriteOptions::default() } };
            steps.push(Timed { at: (back.at + later).min(LIFE), step });
        };
        let patched = dice.log_between(Duration::from_millis(1), Duration::from_millis(200));
        let offset = dice.number(0, 8);
        put(node, patched, Some(offset));
        let other: &&String = dice.pick(&others);
        put(other, patched + dice.log_between(Duration::from_millis(20), TIMERS[3] * 2), None);
    }
    steps
}

fn has_history(policies: &Policies, key: &[u8]) -> bool {
    let key = Key::new(key.to_vec());
    key.is_ok_and(|key| matches!(policies.of(&key), Policy::History(_)))
}

/// Very many writes at one moment.
fn storm(seed: u64, kinds: &Kinds, story: &Scenario) -> Vec<Timed> {
    let mut dice = Dice::of(seed, "storm");
    if !kinds.has(Kind::Storm) || !dice.chance(percent(Kind::Storm)) {
        return Vec::new();
    }
    let at = dice.between(FIRST * 5, LIFE - FIRST);
    let (node, deletes) = (dice.pick(&story.nodes).clone(), dice.chance(50));
    let options = WriteOptions::default;
    let write = |number: u64| {
        let (node, key) = (node.clone(), format!("s/{number}").into_bytes());
        match deletes {
            true => Step::Delete { node, key, options: options() },
            false => Step::Put { node, key, value: format!("storm{number}"), options: options() },
        }
    };
    // Where a stream carries one entry at a time over a slow disk, all of them would take longer than agreement may.
    let is_trickle = surroundings::config(seed).stream_credit == Some(1);
    let writes = if is_trickle { STORM / 4 } else { STORM };
    (0..writes).map(|number| Timed { at, step: write(number) }).collect()
}

/// Draws one operation and what races it.
struct Writer<'a> {
    kinds: &'a Kinds,
    habits: &'a Habits,
    dice: &'a mut Dice,
    operation: u64,
    values: u64,
    policies: &'a Policies,
}

impl Writer<'_> {
    fn step(&mut self, stage: &Stage, fresh: &mut Vec<Vec<u8>>) -> Step {
        let node = self.node(stage, None);
        let hot = self.dice.chance(self.habits.hot_percent);
        let hot_key = format!("h/{}", self.dice.number(1, self.habits.hot_keys)).into_bytes();
        let known = if fresh.is_empty() { hot_key.clone() } else { self.recent(fresh) };
        match self.dice.number(0, 99) {
            0..20 => {
                let asked = if self.dice.chance(self.habits.ack_percent) {
                    *self.dice.pick(&[Ack::Nodes(2), Ack::Majority])
                } else {
                    Ack::Local
                };
                Step::Get { node, key: if hot { hot_key } else { known }, asked }
            }
            kind if kind < 20 + u64::from(self.habits.delete_percent) * 8 / 10 => {
                self.delete(node, if hot { hot_key } else { known })
            }
            _ if hot => self.put(node, hot_key),
            _ => {
                let key = self.fresh_key();
                fresh.push(key.clone());
                self.put(node, key)
            }
        }
    }

    /// A second write to the same key at another node: at once, a message's time later, or a round of sync later.
    fn rival(&mut self, stage: &Stage, step: &Step) -> Option<(Duration, Step)> {
        let (Step::Put { node, key, .. } | Step::Delete { node, key, .. }) = step else { return None };
        if !self.dice.chance(self.habits.race_percent) {
            return None;
        }
        let node = self.node(stage, Some(node));
        let later = match self.dice.number(0, 3) {
            0 => Duration::ZERO,
            1 => Duration::from_micros(100),
            2 => self.dice.between(Duration::ZERO, self.habits.longest_delay),
            _ => self.dice.between(Duration::ZERO, TIMERS[3] * 2),
        };
        let step = match self.dice.chance(self.habits.delete_percent) {
            true => self.delete(node, key.clone()),
            false => self.put(node, key.clone()),
        };
        Some((later, step))
    }

    /// A client that heard nothing, or does not care, does the same at another node.
    fn again(&mut self, stage: &Stage, step: &Step) -> Option<(Duration, Step)> {
        let is_write = matches!(step, Step::Put { .. } | Step::Delete { .. });
        if !self.kinds.has(Kind::Retry) || !is_write || !self.dice.chance(percent(Kind::Retry)) {
            return None;
        }
        let mut again = step.clone();
        if let Step::Put { node, .. } | Step::Delete { node, .. } = &mut again {
            *node = self.node(stage, Some(node.as_str()));
        }
        let later =
            if self.dice.chance(30) { Duration::ZERO } else { self.dice.log_between(TIMERS[0], TIMERS[3]) };
        Some((later, again))
    }

    /// Mostly a node that runs: a refused client teaches little.
    fn node(&mut self, stage: &Stage, but: Option<&str>) -> String {
        let running: Vec<&str> = stage.running().filter(|node| Some(*node) != but).collect();
        let started = stage.all().filter(|(_, power)| *power != Power::Later).map(|(node, _)| node);
        let started: Vec<&str> = started.filter(|node| Some(*node) != but).collect();
        let choices = if running.is_empty() || self.dice.chance(10) { &started } else { &running };
        (*self.dice.pick(choices)).to_owned()
    }

    fn recent(&mut self, fresh: &[Vec<u8>]) -> Vec<u8> {
        const RECENT: usize = 20;
        self.dice.pick(&fresh[fresh.len().saturating_sub(RECENT)..]).clone()
    }

    fn fresh_key(&mut self) -> Vec<u8> {
        let key = format!("f/{}", self.operation);
        if !self.kinds.has(Kind::Odd) || !self.dice.chance(15) {
            return key.into_bytes();
        }
        let plain = key.clone().into_bytes();
        match self.dice.number(0, 5) {
            0 => format!("{key}/").into_bytes(),
            1 => [&plain[..], b"\xff\xfe"].concat(),
            2 => [&plain[..], &[b'x'; 255]].concat(),
            3 => format!("_ts:{}:{key}", self.operation).into_bytes(),
            4 => format!("{key}?a#b%2F c").into_bytes(),
            _ => format!("h/1/{}", self.operation).into_bytes(),
        }
    }

    fn put(&mut self, node: String, key: Vec<u8>) -> Step {
        self.values += 1;
        let mut value = format!("v{}.{}", self.operation, self.values);
        if self.kinds.has(Kind::Odd) && self.dice.chance(5) {
            // Around a packet; and once in a while more than a frame, which then travels in parts.
            const FRAME: usize = 64 * 1024;
            let large = self.habits.large && self.dice.chance(10);
            let bytes = if large { FRAME + 1_000 } else { *self.dice.pick(&[64, 1_024, 1_500]) };
            value = format!("{value}-{}", "x".repeat(bytes));
        }
        let mut options = self.options(true);
        if has_history(self.policies, &key) {
            // It would be refused, and no life needs many refusals.
            options.ttl = None;
            options.offset = self.dice.chance(50).then(|| self.dice.number(0, 8));
        }
        options.saw = self.has_siblings(&key) && self.dice.chance(60);
        Step::Put { node, key, value, options }
    }

    fn delete(&mut self, node: String, key: Vec<u8>) -> Step {
        let mut options = self.options(false);
        options.saw = self.has_siblings(&key) && self.dice.chance(50);
        Step::Delete { node, key, options }
    }

    fn has_siblings(&self, key: &[u8]) -> bool {
        Key::new(key.to_vec()).is_ok_and(|key| self.policies.of(&key) == Policy::Siblings)
    }

    fn options(&mut self, with_ttl: bool) -> WriteOptions {
        let mut options = WriteOptions::default();
        if self.dice.chance(self.habits.ack_percent) {
            options.ack = *self.dice.pick(&[Ack::Nodes(2), Ack::Majority]);
        }
        if with_ttl && self.dice.chance(self.habits.ttl_percent) {
            options.ttl = Some(self.dice.log_between(Duration::from_millis(100), LIFE));
        }
        options
    }
}

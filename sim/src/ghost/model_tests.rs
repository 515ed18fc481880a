//! A tiny cluster that is correct by its smallness lives random lives. The ghost must believe all of them, and
//! must catch every life with one thing changed, by the right name.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use reknit::model::{
    Ack, Condition, Dot, Entry, Key, Origin, Refusal, Reply, Request, Stamp, Version, WallTime,
};
use reknit::protocol::{DotSet, Message, order};

use super::{Ghost, OpId};
use crate::check::clock::ClockBounds;
use crate::check::ord::Rank;
use crate::check::{Dump, Phase};
use crate::random::stream;

const NODES: [&str; 3] = ["a", "b", "c"];
const SKEW_MAX: u64 = 200;
const LIVES: u64 = 400;

/// What a world tells the ghost, kept so that one thing in it can be changed.
#[derive(Clone)]
enum Told {
    Invoked(OpId, usize, Request),
    Answered(OpId, Reply),
    Lost(OpId),
    Sent(usize, Message),
    Dumped(usize, Dump),
    Replaced(usize, Dump, Vec<(usize, Dump)>),
    Ended(BTreeMap<String, Dump>),
}

/// One version under each key.
type Records = BTreeMap<Key, Version>;

fn dump(records: &Records) -> Dump {
    records.iter().map(|(key, version)| (key.clone(), vec![version.clone()])).collect()
}

/// A node of the model: a map whose changes are durable at once, and a clock.
#[derive(Clone, Default)]
struct Replica {
    records: Records,
    backup: Records,
    high_water: Stamp,
    origin: u64,
    seq: u64,
}

struct Life {
    dice: ChaCha8Rng,
    at: Duration,
    nodes: [Replica; NODES.len()],
    origins: u64,
    ops: u64,
    /// Messages that are under way, to whom.
    wire: Vec<(usize, Message)>,
    told: Vec<(Duration, Told)>,
}

impl Life {
    fn live(seed: u64) -> Life {
        let mut life = Life {
            dice: stream(seed, "model"),
            at: Duration::ZERO,
            nodes: Default::default(),
            origins: 0,
            ops: 0,
            wire: Vec::new(),
            told: Vec::new(),
        };
        (0..NODES.len()).for_each(|node| life.begin(node));
        for _ in 0..120 {
            life.at += Duration::from_millis(life.dice.random_range(0..40));
            life.step();
        }
        life.wire.clear();
        life.converge();
        let running =
            NODES.iter().zip(&life.nodes).map(|(name, node)| (name.to_string(), dump(&node.records)));
        let running = running.collect();
        life.tell(Told::Ended(running));
        life
    }

    fn step(&mut self) {
        let node = self.dice.random_range(0..NODES.len());
        let key = Key::from_path(&format!("k{}", self.dice.random_range(0..4))).unwrap();
        match self.dice.random_range(0..100) {
            0..30 => self.write(node, key, false),
            30..45 => self.write(node, key, true),
            45..60 => self.read(node, key),
            60..75 => self.push(node),
            75..90 => self.deliver(),
            90..93 => self.dump(node),
            93..95 => self.begin(node),
            95..96 => self.nodes[node].backup = self.nodes[node].records.clone(),
            96..97 => self.replace(node, Records::new()),
            97..98 => self.replace(node, self.nodes[node].backup.clone()),
            98.. => self.refuse(node, key),
            _ => unreachable!(),
        }
    }

    /// A new run with a new origin. Its clock's mark is as durable as its records.
    fn begin(&mut self, node: usize) {
        self.origins += 1;
        (self.nodes[node].origin, self.nodes[node].seq) = (self.origins, 0);
    }

    fn write(&mut self, node: usize, key: Key, is_delete: bool) {
        let wall = self.wall(node);
        let (condition, ack, timeout) = (Condition::None, Ack::Local, Duration::ZERO);
        let value = if is_delete { String::new() } else { format!("value {}", self.ops) };
        let content_type = if is_delete { "" } else { "text/plain" }.to_owned();
        let ttl = (!is_delete && self.dice.random_bool(0.1)).then_some(Duration::from_millis(300));
        let request = match is_delete {
            true => Request::Delete { key: key.clone(), condition, ack, timeout },
            false => Request::Put {
                key: key.clone(),
                value: value.clone().into(),
                content_type: content_type.clone(),
                ttl,
                condition,
                ack,
                timeout,
            },
        };
        let op = self.ask(node, request);
        let (is_lost, is_done) = (self.dice.random_bool(0.15), self.dice.random_bool(0.5));
        if is_lost && !is_done {
            return self.tell(Told::Lost(op));
        }
        let at = &mut self.nodes[node];
        let row = at.records.get(&key).map_or(Stamp::default(), |version| version.stamp);
        let stamp = Stamp { millis: wall, counter: 0 }.max(at.high_water).max(row).next();
        at.seq += 1;
        let version = Version {
            stamp,
            dot: Dot { origin: Origin(at.origin), seq: at.seq },
            author_joined: WallTime(node as u64 / 2),
            ruling: 0,
            confirms: None,
            tombstone: is_delete,
            expires_at: ttl.map(|ttl| WallTime(stamp.millis).after(ttl)),
            content_type,
            value: value.into(),
        };
        let reply = Reply::Written { id: version.id(), acked: 1 };
        self.merge(node, &Entry { key, version });
        self.tell(if is_lost { Told::Lost(op) } else { Told::Answered(op, reply) });
    }

    fn read(&mut self, node: usize, key: Key) {
        let now = self.wall(node).max(self.nodes[node].high_water.millis);
        let op = self.ask(node, Request::Get { key: key.clone() });
        let version = self.nodes[node].records.get(&key).filter(|version| version.is_live_at(now)).cloned();
        if self.dice.random_bool(0.3) {
            // The node goes on while the answer is on its way.
            self.write(node, key, self.ops.is_multiple_of(2));
        }
        self.tell(Told::Answered(op, Reply::Value(version)));
    }

    fn refuse(&mut self, node: usize, key: Key) {
        let (condition, ack, timeout) = (Condition::Exists, Ack::Local, Duration::ZERO);
        let op = self.ask(node, Request::Delete { key, condition, ack, timeout });
        self.tell(Told::Answered(op, Reply::Refused(Refusal::Condition { found: None })));
    }

    fn push(&mut self, node: usize) {
        let to = (node + self.dice.random_range(1..NODES.len())) % NODES.len();
        let some = self.nodes[node].records.iter().filter(|_| self.dice.random_bool(0.5));
        let entries = some.map(|(key, version)| Entry { key: key.clone(), version: version.clone() });
        let message = Message::Push { entries: entries.collect() };
        self.tell(Told::Sent(node, message.clone()));
        self.wire.push((to, message));
    }

    /// Any message that is under way arrives, perhaps not for the last time.
    fn deliver(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        let which = self.dice.random_range(0..self.wire.len());
        let (to, message) = self.wire[which].clone();
        if self.dice.random_bool(0.8) {
            self.wire.remove(which);
        }
        if let Message::Push { entries } = message {
            self.take(to, &entries);
        }
    }

    fn take(&mut self, to: usize, entries: &[Entry]) {
        let mut dots = DotSet::default();
        for entry in entries {
            self.merge(to, entry);
            dots.insert(entry.version.dot);
        }
        self.tell(Told::Sent(to, Message::Durable { dots }));
    }

    fn merge(&mut self, node: usize, entry: &Entry) {
        let at = &mut self.nodes[node];
        at.high_water = at.high_water.max(entry.version.stamp);
        let wins = at.records.get(&entry.key).is_none_or(|old| order::beats(&entry.version, old));
        if wins {
            at.records.insert(entry.key.clone(), entry.version.clone());
        }
    }

    fn dump(&mut self, node: usize) {
        self.tell(Told::Dumped(node, dump(&self.nodes[node].records)));
    }

    fn replace(&mut self, node: usize, records: Records) {
        let others = (0..NODES.len()).filter(|&other| other != node);
        let others = others.map(|other| (other, dump(&self.nodes[other].records))).collect();
        self.nodes[node].high_water = records.values().map(|version| version.stamp).max().unwrap_or_default();
        self.nodes[node].records = records.clone();
        self.begin(node);
        self.tell(Told::Replaced(node, dump(&records), others));
    }

    fn converge(&mut self) {
        for _ in 0..2 {
            for from in 0..NODES.len() {
                let records = self.nodes[from].records.iter();
                let entries: Vec<Entry> = records
                    .map(|(key, version)| Entry { key: key.clone(), version: version.clone() })
                    .collect();
                self.tell(Told::Sent(from, Message::Push { entries: entries.clone() }));
                (0..NODES.len()).for_each(|to| self.take(to, &entries));
            }
        }
    }

    /// Coarse, so that stamps of different nodes are often equal.
    fn wall(&self, node: usize) -> u64 {
        let behind = SKEW_MAX / 2 * node as u64;
        (10_000 + self.at.as_millis() as u64 - behind) / 50 * 50
    }

    fn ask(&mut self, node: usize, request: Request) -> OpId {
        self.ops += 1;
        self.tell(Told::Invoked(OpId(self.ops), node, request));
        OpId(self.ops)
    }

    fn tell(&mut self, told: Told) {
        self.told.push((self.at, told));
    }
}

fn judge(told: &[(Duration, Told)]) -> Ghost {
    let mut ghost = Ghost::new();
    ghost.set_clock_bounds(ClockBounds {
        epoch: WallTime(10_000),
        behind_max: Duration::from_millis(SKEW_MAX + 50),
        ahead_max: Duration::ZERO,
        drift_max: Duration::from_secs(60),
    });
    for (at, told) in told {
        match told {
            Told::Invoked(op, node, request) => ghost.invoked(*at, *op, NODES[*node], request),
            Told::Answered(op, reply) => ghost.answered(*at, *op, reply),
            Told::Lost(op) => ghost.lost(*at, *op),
            Told::Sent(node, message) => ghost.sent(*at, NODES[*node], message),
            Told::Dumped(node, records) => ghost.dumped(*at, NODES[*node], records),
            Told::Replaced(node, records, others) => {
                let others: Vec<_> =
                    others.iter().map(|(node, records)| (NODES[*node], records.clone())).collect();
                ghost.disk_replaced(*at, NODES[*node], records, &others);
            }
            Told::Ended(running) => ghost.judge_phase(*at, Phase::Quiet, running),
        }
    }
    ghost
}

/// Changes the end of each life with `change`, which may find nothing to change, and expects `code`.
#[track_caller]
fn caught(code: &str, change: impl Fn(&Versions, &mut BTreeMap<String, Dump>) -> bool) {
    let mut changed = 0;
    for seed in 0..LIVES {
        let mut told = Life::live(seed).told;
        let versions = Versions::of(&told);
        let Some((_, Told::Ended(running))) = told.last_mut() else { unreachable!("a life ends") };
        if change(&versions, running) {
            changed += 1;
            let ghost = judge(&told);
            assert!(
                ghost.violations().iter().any(|violation| violation.code == code),
                "seed {seed}: {:?}",
                ghost.violations()
            );
        }
    }
    assert!(changed > LIVES / 4, "only {changed} lives had something to change");
}

/// The versions of a life that left a node, by key.
struct Versions(BTreeMap<Key, Vec<Version>>);

impl Versions {
    fn of(told: &[(Duration, Told)]) -> Versions {
        let mut out: BTreeMap<Key, Vec<Version>> = BTreeMap::new();
        for (_, told) in told {
            if let Told::Sent(_, Message::Push { entries }) = told {
                for Entry { key, version } in entries {
                    out.entry(key.clone()).or_default().push(version.clone());
                }
            }
        }
        Versions(out)
    }

    fn older(&self, key: &Key, than: &Version) -> Option<&Version> {
        self.0[key].iter().find(|version| order::beats(than, version) && !version.tombstone)
    }
}

#[test]
fn correct_lives_are_believed_and_reach_the_rare_paths() {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..LIVES {
        let ghost = judge(&Life::live(seed).told);
        assert_eq!(ghost.violations(), [], "seed {seed}");
        for (name, count) in ghost.counts() {
            *sums.entry(name).or_default() += count;
        }
    }
    for name in ["ties_by_tombstone", "ties_by_author", "ties_by_dot", "disks_replaced", "unknown_outcomes"] {
        assert!(sums[name] > 0, "{name} never happened");
    }
}

#[test]
fn a_record_that_is_gone_everywhere_is_a_lost_write() {
    caught("DUR", |_, running| {
        let Some(key) = running["a"].keys().next().cloned() else { return false };
        running.values_mut().for_each(|dump| drop(dump.remove(&key)));
        true
    });
}

#[test]
fn a_value_in_place_of_a_later_tombstone_is_a_resurrection() {
    caught("NORES", |versions, running| {
        let deleted =
            running["a"].iter().map(|(key, row)| (key, &row[0])).filter(|(_, version)| version.tombstone);
        let mut older =
            deleted.filter_map(|(key, top)| Some((key.clone(), versions.older(key, top)?.clone())));
        let Some((key, older)) = older.next() else { return false };
        running.values_mut().for_each(|dump| drop(dump.insert(key.clone(), vec![older.clone()])));
        true
    });
}

#[test]
fn a_value_that_changed_is_invented_and_shares_its_dot() {
    for code in ["NOINV", "DOT", "CONV"] {
        caught(code, |_, running| {
            let values = running.get_mut("b").unwrap().values_mut();
            let Some(version) = values.flatten().find(|version| !version.tombstone) else { return false };
            version.value = Bytes::from_static(b"nobody wrote this");
            true
        });
    }
}

#[test]
fn a_dot_under_two_keys_is_noticed() {
    caught("DOT", |_, running| {
        let mut dots = running["a"].values().flatten().map(|version| version.dot);
        let (Some(first), Some(second)) = (dots.next(), dots.next()) else { return false };
        running.values_mut().flat_map(|dump| dump.values_mut()).flatten().for_each(|version| {
            if version.dot == first {
                version.dot = second;
            }
        });
        true
    });
}

#[test]
fn a_node_that_kept_an_older_version_differs() {
    caught("CONV", |versions, running| {
        let mut older = running["a"]
            .iter()
            .filter_map(|(key, top)| Some((key.clone(), versions.older(key, &top[0])?.clone())));
        let Some((key, older)) = older.next() else { return false };
        running.get_mut("c").unwrap().insert(key, vec![older]);
        true
    });
}

#[test]
fn the_shadow_order_is_the_order() {
    for seed in 0..200 {
        let told = Life::live(seed).told;
        for versions in Versions::of(&told).0.values() {
            for a in versions {
                for b in versions {
                    assert_eq!(Rank::of(a).compare(&Rank::of(b)), Some(order::compare(a, b)), "{a:?} {b:?}");
                }
            }
        }
    }
}

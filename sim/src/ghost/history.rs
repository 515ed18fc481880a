//! Hand-made histories as compact text: what a world would have told the ghost, a line each, 100 ms apart.
//!
//! ```text
//! put a k=red @10 a1 [ttl=50]   a client writes at node a, and is told of version a1
//! put? a k=red @10 a1        the same, but no answer ever comes
//! put! a k=red               the same, but it is refused
//! delete a k @11 a2          likewise, and delete? and delete!
//! get a k = a1               a client reads at node a; or `= nothing`
//! ask 1 a k                  it asks now
//! told 1 a1                  and is answered now (with a version of what it asked)
//! write 1 a k=red @10 a1     a client writes now
//! acked 1 a1 2               and is told now that it is on 2 nodes
//! fake x k=blue @10 a1       nobody asked for version x, which has the dot of a1; also `confirms=b1 ruling=2 joined=98`
//! push a a1 a2               a message with entries leaves node a; durable, pull: it says that it has these dots
//! holds a: a1 b1             the records of node a
//! wipe a: ; b: b1            a's disk now holds nothing; the others' hold this
//! clocks 100 0               epoch 0, and clocks up to this many ms behind and ahead of true time
//! error a                    node a logs an error
//! end a: a1 ; b: a1          the quiet phase ends with these records
//! ```
//! A version is named after its dot: `a1` is the first write of origin a, whose node joined first; b joined next.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use reknit::model::{
    Ack, Condition, Dot, Entry, Key, Mode, Origin, Refusal, Reply, Request, Stamp, Version, WallTime,
};
use reknit::node::{Event, Level};
use reknit::protocol::outline::Outline;
use reknit::protocol::{DotSet, Message};

use super::{Ghost, OpId};
use crate::check::clock::ClockBounds;
use crate::check::{Dump, Phase, Violation};

/// Tells the ghost a history; what it says to it.
pub fn judge(history: &str) -> Ghost {
    let mut teller = Teller { ghost: Ghost::new(), versions: BTreeMap::new(), op: 100, at: Duration::ZERO };
    for line in history.lines().map(str::trim).filter(|line| !line.is_empty()) {
        teller.at += Duration::from_millis(100);
        teller.tell(line);
    }
    teller.ghost
}

/// The codes of all violations, in the order in which they were noticed.
pub fn codes(ghost: &Ghost) -> Vec<&'static str> {
    ghost.violations().iter().map(|violation: &Violation| violation.code).collect()
}

struct Teller {
    ghost: Ghost,
    versions: BTreeMap<String, Entry>,
    op: u64,
    at: Duration,
}

/// Words, and the `name=value` options among them.
struct Line<'a> {
    words: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl Teller {
    fn tell(&mut self, text: &str) {
        let (verb, rest) = text.split_once(' ').unwrap();
        match verb {
            "holds" => {
                let (node, records) = self.disk(rest);
                self.ghost.dumped(self.at, &node, &records);
            }
            "wipe" => {
                let mut disks = rest.split(';').map(|disk| self.disk(disk)).collect::<Vec<_>>();
                let (node, records) = disks.remove(0);
                let others: Vec<_> = disks.iter().map(|(node, dump)| (node.as_str(), dump.clone())).collect();
                self.ghost.disk_replaced(self.at, &node, &records, &others);
            }
            "end" => {
                let running = rest.split(';').map(|disk| self.disk(disk)).collect();
                self.ghost.judge_phase(self.at, Phase::Quiet, &running);
            }
            _ => self.tell_words(verb, &line(rest)),
        }
    }

    fn tell_words(&mut self, verb: &str, line: &Line<'_>) {
        let words = &line.words;
        match verb {
            "put" | "put?" | "put!" | "delete" | "delete?" | "delete!" => self.write(verb, line),
            "get" => {
                let op = self.next_op();
                self.ghost.invoked(self.at, op, words[0], &get(words[1]));
                self.ghost.answered(self.at, op, &self.read(words[3]));
            }
            "ask" => self.ghost.invoked(self.at, OpId(words[0].parse().unwrap()), words[1], &get(words[2])),
            "told" => {
                let reply = self.read(words[1]);
                self.ghost.answered(self.at, OpId(words[0].parse().unwrap()), &reply);
            }
            "write" => {
                let entry = entry(&Line { words: words[2..].to_vec(), options: line.options.clone() });
                let op = OpId(words[0].parse().unwrap());
                self.ghost.invoked(self.at, op, words[1], &request(&entry, line));
                self.versions.insert(words[4].to_owned(), entry);
            }
            "acked" => {
                let (id, acked) = (self.versions[words[1]].version.id(), words[2].parse().unwrap());
                let reply = Reply::Written { id, acked };
                self.ghost.answered(self.at, OpId(words[0].parse().unwrap()), &reply);
            }
            "fake" => {
                let entry = entry(&Line { words: words[1..].to_vec(), options: line.options.clone() });
                self.versions.insert(words[0].to_owned(), entry);
            }
            "push" => {
                let entries = words[1..].iter().map(|name| self.versions[*name].clone()).collect();
                self.ghost.sent(self.at, words[0], &Message::Push { entries });
            }
            "durable" => {
                self.ghost.sent(self.at, words[0], &Message::Durable { dots: self.dots(&words[1..]) });
            }
            "pull" => {
                let seen = Outline::Whole(self.dots(&words[1..]));
                self.ghost.sent(self.at, words[0], &Message::Pull { session: 1, seen, credit: 1, since: 0 });
            }
            "clocks" => {
                let millis = |word: &str| Duration::from_millis(word.parse().unwrap());
                self.ghost.set_clock_bounds(ClockBounds {
                    epoch: WallTime(0),
                    behind_max: millis(words[0]),
                    ahead_max: millis(words[1]),
                    drift_max: Duration::from_secs(60),
                });
            }
            "error" => {
                let event = Event { level: Level::Error, name: "odd", text: "look".into() };
                self.ghost.event(self.at, words[0], &event);
            }
            _ => panic!("no such line: {verb}"),
        }
    }

    fn write(&mut self, verb: &str, line: &Line<'_>) {
        let op = self.next_op();
        let node = line.words[0];
        let refused = verb.ends_with('!');
        let mut words = line.words[1..].to_vec();
        if refused {
            words.extend(["@1", "z1"]);
        }
        let entry = entry(&Line { words: words.clone(), options: line.options.clone() });
        self.ghost.invoked(self.at, op, node, &request(&entry, line));
        if refused {
            self.ghost.answered(self.at, op, &Reply::Refused(Refusal::Mode(Mode::ReadOnly)));
            return;
        }
        let reply = Reply::Written { id: entry.version.id(), acked: 1 };
        match verb.ends_with('?') {
            true => self.ghost.lost(self.at, op),
            false => self.ghost.answered(self.at, op, &reply),
        }
        self.versions.insert(words[2].to_owned(), entry);
    }

    fn read(&self, name: &str) -> Reply {
        match name {
            "nothing" => Reply::Value(None),
            name => Reply::Value(Some(self.versions[name].version.clone())),
        }
    }

    /// `a: a1 b1`
    fn disk(&self, text: &str) -> (String, Dump) {
        let (node, names) = text.split_once(':').unwrap();
        let entries = names.split_whitespace().map(|name| self.versions[name].clone());
        let mut records = Dump::new();
        entries.for_each(|Entry { key, version }| records.entry(key).or_default().push(version));
        (node.trim().to_owned(), records)
    }

    fn dots(&self, names: &[&str]) -> DotSet {
        let mut dots = DotSet::default();
        for name in names {
            dots.insert(self.versions[*name].version.dot);
        }
        dots
    }

    fn next_op(&mut self) -> OpId {
        self.op += 1;
        OpId(self.op)
    }
}

fn line(text: &str) -> Line<'_> {
    let is_option =
        |word: &&str| ["ttl=", "ruling=", "confirms=", "joined="].iter().any(|name| word.starts_with(name));
    let (options, words): (Vec<_>, Vec<_>) = text.split_whitespace().partition(is_option);
    Line { words, options: options.into_iter().map(|word| word.split_once('=').unwrap()).collect() }
}

/// `k=red @10 a1`, or `k @10 a1` for a tombstone.
fn entry(line: &Line<'_>) -> Entry {
    let (key, value) = match line.words[0].split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (line.words[0], None),
    };
    let millis = line.words[1].strip_prefix('@').unwrap().parse().unwrap();
    let dot = dot(line.words[2]);
    let option = |name| line.options.get(name).map(|value: &&str| value.parse::<u64>().unwrap());
    let version = Version {
        stamp: Stamp { millis, counter: 0 },
        dot,
        author_joined: WallTime(option("joined").unwrap_or(dot.origin.0)),
        ruling: option("ruling").unwrap_or(0) as u16,
        confirms: line.options.get("confirms").map(|name| self::dot(name)),
        tombstone: value.is_none(),
        expires_at: option("ttl").map(|ttl| WallTime(millis + ttl)),
        content_type: value.map_or(String::new(), |_| "text/plain".to_owned()),
        value: Bytes::copy_from_slice(value.unwrap_or_default().as_bytes()),
    };
    Entry { key: Key::from_path(key).unwrap(), version }
}

/// `a1`
fn dot(name: &str) -> Dot {
    let (origin, seq) = name.split_at(1);
    Dot { origin: Origin(origin.as_bytes()[0].into()), seq: seq.parse().unwrap() }
}

fn request(entry: &Entry, line: &Line<'_>) -> Request {
    let key = entry.key.clone();
    let (condition, ack, timeout) = (Condition::None, Ack::Local, Duration::ZERO);
    if entry.version.tombstone {
        return Request::Delete { key, condition, ack, timeout };
    }
    let ttl = line.options.get("ttl").map(|millis| Duration::from_millis(millis.parse().unwrap()));
    let (value, content_type) = (entry.version.value.clone(), entry.version.content_type.clone());
    Request::Put { key, value, content_type, ttl, condition, ack, timeout }
}

fn get(key: &str) -> Request {
    Request::Get { key: Key::from_path(key).unwrap() }
}

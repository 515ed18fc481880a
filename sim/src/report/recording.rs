//! Everything that a picture of a run needs, gathered while the run is lived.
//!
//! A [`Recorder`] watches; afterwards its [`Recording`] is a plain value that the page and the exports are made
//! from. It knows more than the trace: what each node holds, how wrong its clock is, which keys a message is
//! about. Watching changes nothing of what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use reknit::model::{Dot, Key, Stamp, Version};
use xxhash_rust::xxh3::xxh3_64;

use crate::check::Dump;
use crate::random::nanos;
use crate::trace::{Event, Fact, Watch};

/// Most messages that are kept. A life has some ten thousand; what comes on top is counted.
pub const MESSAGES_MAX: usize = 400_000;
/// Most events of any other kind that are kept.
pub const EVENTS_MAX: usize = 200_000;
/// Most keys of one message that are kept: a stream's step can hold thousands.
const KEYS_OF_MESSAGE_MAX: usize = 64;
/// Most bytes of a value that are shown.
const VALUE_SHOWN_MAX: usize = 48;
/// A wall clock that is off by less than this from what was last said of it is not worth another word.
const OFFSET_STEP_MILLIS: i64 = 10;

/// A message under way.
#[derive(Clone, Debug)]
pub struct Flight {
    /// When it was sent.
    pub at: Duration,
    /// By whom.
    pub from: usize,
    /// To whom.
    pub to: usize,
    /// Which kind; a place in [`Recording::kinds`].
    pub kind: usize,
    /// Length of the frame.
    pub bytes: usize,
    /// When its copies arrive.
    pub arrives: [Option<Duration>; 2],
    /// Keys of the rows in it; places in [`Recording::keys`].
    pub keys: Vec<usize>,
    /// The network flipped bits of it.
    pub is_damaged: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was handed over.
    Arrived,
    /// The network lost it.
    Lost,
    /// The link was cut when it was sent.
    Cut,
    /// The link was cut while it was under way.
    CutOnItsWay,
    /// Its receiver had no power.
    NobodyThere,
    /// It arrived with flipped bits.
    Damaged,
}

impl Fate {
    /// All fates in the order of their numbers.
    pub const ALL: [Fate; 6] =
        [Fate::Arrived, Fate::Lost, Fate::Cut, Fate::CutOnItsWay, Fate::NobodyThere, Fate::Damaged];

    /// As the page has it.
    pub fn word(self) -> &'static str {
        match self {
            Fate::Arrived => "arrived",
            Fate::Lost => "lost by the network",
            Fate::Cut => "the link was cut",
            Fate::CutOnItsWay => "the link was cut while it was under way",
            Fate::NobodyThere => "its receiver had no power",
            Fate::Damaged => "arrived with flipped bits",
        }
    }
}

/// Something that is no message: faults, log lines, phases, broken promises.
#[derive(Clone, Debug)]
pub struct Happening {
    /// When.
    pub at: Duration,
    /// At which node, if at one.
    pub node: Option<usize>,
    /// What kind of thing: `start`, `crash`, `log`, …
    pub what: &'static str,
    /// In words.
    pub text: String,
}

/// What a client asked, and what came of it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Names the request.
    pub id: u64,
    /// When it was asked.
    pub at: Duration,
    /// Which node.
    pub node: usize,
    /// `put`, `get`, `delete`, `leave`, …
    pub verb: String,
    /// A place in [`Recording::keys`].
    pub key: Option<usize>,
    /// What was to be written.
    pub value: String,
    /// When it was answered, and with which HTTP status; nothing if nobody answered.
    pub answered: Option<(Duration, u16)>,
    /// What the answer said.
    pub answer: String,
}

/// From now on a node holds these versions of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Since when, as far as anyone looked.
    pub at: Duration,
    /// Which node.
    pub node: usize,
    /// A place in [`Recording::keys`].
    pub key: usize,
    /// Places in [`Recording::versions`]; none if the key is gone.
    pub versions: Vec<usize>,
}

/// A version, as far as a picture shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its hybrid time.
    pub stamp: Stamp,
    /// Its name.
    pub dot: Dot,
    /// The beginning of its value.
    pub value: String,
    /// Whether it is a delete.
    pub is_tombstone: bool,
}

/// All that was seen of a run.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The nodes' names.
    pub names: Vec<String>,
    /// Kinds of messages.
    pub kinds: Vec<String>,
    /// Keys that anything was about.
    pub keys: Vec<Key>,
    /// Versions that any node held.
    pub versions: Vec<Shown>,
    /// Messages in the order in which they were sent.
    pub flights: Vec<Flight>,
    /// Everything else in order.
    pub happenings: Vec<Happening>,
    /// Requests in order.
    pub asks: Vec<Asked>,
    /// What nodes hold, change by change.
    pub held: Vec<Held>,
    /// A digest of all that a node holds whenever it changed; 0 is nothing at all.
    pub roots: Vec<(Duration, usize, u32)>,
    /// How many keys are not the same on all nodes with power, whenever that changed.
    pub apart: Vec<(Duration, usize)>,
    /// By how many milliseconds a wall clock is ahead, whenever that changed.
    pub offsets: Vec<(Duration, usize, i64)>,
    /// Which links are cut, from whom to whom, whenever that changed.
    pub cuts: Vec<(Duration, BTreeSet<(usize, usize)>)>,
    /// What happened beyond the bounds.
    pub left_out: u64,
    key_places: BTreeMap<Key, usize>,
    version_places: BTreeMap<(Stamp, Dot, u64), usize>,
    open_asks: BTreeMap<u64, usize>,
    now: Vec<Node>,
    differing: BTreeSet<usize>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    has_power: bool,
    /// When it came and went.
    powers: Vec<(Duration, bool)>,
    holds: BTreeMap<usize, Vec<usize>>,
    root: u64,
    offset: Option<i64>,
}

/// Watches a run for a [`Recording`].
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Mutex<Recording>>);

impl Recorder {
    /// A recorder of a cluster of these nodes.
    pub fn new(names: Vec<String>) -> Recorder {
        let now = vec![Node::default(); names.len()];
        let apart = vec![(Duration::ZERO, 0)];
        Recorder(Arc::new(Mutex::new(Recording { names, now, apart, ..Recording::default() })))
    }

    /// What was recorded so far.
    pub fn recording(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().expect("nobody panics with the lock")
    }
}

impl Watch for Recorder {
    fn saw(&mut self, at: Duration, node: Option<usize>, event: &Event<'_>) {
        self.recording().saw(at, node, event);
    }

    fn looks_closer(&self) -> bool {
        true
    }

    fn learned(&mut self, at: Duration, node: Option<usize>, fact: &Fact<'_>) {
        self.recording().learned(at, node, fact);
    }
}

impl Recording {
    fn saw(&mut self, at: Duration, node: Option<usize>, event: &Event<'_>) {
        match *event {
            Event::Send { to, kind, bytes, sum: _, arrives } => {
                self.send(at, (node.unwrap_or_default(), to), (kind, bytes), arrives);
            }
            Event::Ask { id, verb, key } => self.ask(at, node.unwrap_or_default(), (id, verb, key)),
            Event::Answer { id, status, stamp: _, dot: _ } => {
                if let Some(place) = self.open_asks.get(&id) {
                    self.asks[*place].answered = Some((at, status));
                }
            }
            Event::NoAnswer { id } => drop(self.open_asks.remove(&id)),
            Event::Start { start } => {
                self.power(at, node, true);
                let text = if start == 1 { "starts" } else { "starts again" };
                self.happens(at, node, "start", text.to_owned());
            }
            Event::Crash { boundary } => {
                self.power(at, node, false);
                self.happens(at, node, "crash", format!("loses its power ({})", boundary.replace('-', " ")));
            }
            Event::Left => {
                self.power(at, node, false);
                self.happens(at, node, "left", "has left".to_owned());
            }
            Event::Pause => self.happens(at, node, "pause", "is paused".to_owned()),
            Event::Resume => self.happens(at, node, "resume", "runs on".to_owned()),
            Event::Disk { deed } => self.happens(at, node, "disk", format!("disk: {deed}")),
            Event::Clock { deed, millis } => {
                let by = if millis == 0 { String::new() } else { format!(" {millis:+} ms") };
                self.happens(at, node, "clock", format!("wall clock: {deed}{by}"));
            }
            Event::Links { deed } => self.happens(at, node, "links", deed.to_owned()),
            Event::Phase { name } => self.happens(at, node, "phase", name.to_owned()),
            Event::Reject { from } => {
                let text = format!("rejects a frame of {}", self.names[from]);
                self.happens(at, node, "log", text);
            }
            Event::Log { level, name, text } => {
                self.happens(at, node, "log", format!("{level} {name}: {text}"));
            }
            Event::Agree { after_millis } => {
                let text = format!("the replicas agree, {after_millis} ms after the quiet began");
                self.happens(at, node, "agree", text);
            }
            Event::Broken { code, text } => self.happens(at, node, "broken", format!("{code}: {text}")),
            Event::Digest { .. } => {}
        }
    }

    fn learned(&mut self, at: Duration, node: Option<usize>, fact: &Fact<'_>) {
        match *fact {
            Fact::Carries { keys, is_damaged } => {
                let keys = keys.iter().take(KEYS_OF_MESSAGE_MAX).map(|key| self.key(key)).collect();
                if let Some(flight) = self.flights.last_mut().filter(|flight| flight.at == at) {
                    (flight.keys, flight.is_damaged) = (keys, is_damaged);
                }
            }
            Fact::Writes { id, value } => {
                if let Some(place) = self.open_asks.get(&id) {
                    self.asks[*place].value = excerpt(value);
                }
            }
            Fact::Says { id, text } => {
                if let Some(place) = self.open_asks.remove(&id) {
                    self.asks[place].answer = text.to_owned();
                }
            }
            Fact::Holds(records) => self.holds(at, node.unwrap_or_default(), records),
            Fact::Offset(millis) => {
                let node = node.unwrap_or_default();
                let known = self.now[node].offset;
                if known.is_none_or(|known| (millis - known).abs() >= OFFSET_STEP_MILLIS) {
                    self.now[node].offset = Some(millis);
                    self.offsets.push((at, node, millis));
                }
            }
            Fact::Cuts(ref cuts) => self.cuts.push((at, cuts.clone())),
        }
    }

    fn send(
        &mut self,
        at: Duration,
        (from, to): (usize, usize),
        (kind, bytes): (&str, usize),
        arrives: (Option<u64>, Option<u64>),
    ) {
        if self.flights.len() >= MESSAGES_MAX {
            self.left_out += 1;
            return;
        }
        let kind = self.kinds.iter().position(|known| known == kind).unwrap_or_else(|| {
            self.kinds.push(kind.to_owned());
            self.kinds.len() - 1
        });
        let arrives = [arrives.0, arrives.1].map(|at| at.map(Duration::from_nanos));
        self.flights.push(Flight { at, from, to, kind, bytes, arrives, keys: Vec::new(), is_damaged: false });
    }

    fn ask(&mut self, at: Duration, node: usize, (id, verb, key): (u64, &str, Option<&Key>)) {
        if self.asks.len() >= EVENTS_MAX {
            self.left_out += 1;
            return;
        }
        let key = key.map(|key| self.key(key));
        self.open_asks.insert(id, self.asks.len());
        let (value, answer) = (String::new(), String::new());
        self.asks.push(Asked { id, at, node, verb: verb.to_owned(), key, value, answered: None, answer });
    }

    fn happens(&mut self, at: Duration, node: Option<usize>, what: &'static str, text: String) {
        if self.happenings.len() >= EVENTS_MAX {
            self.left_out += 1;
            return;
        }
        self.happenings.push(Happening { at, node, what, text });
    }

    fn power(&mut self, at: Duration, node: Option<usize>, has_power: bool) {
        let Some(node) = node else { return };
        self.now[node].has_power = has_power;
        self.now[node].powers.push((at, has_power));
        let everything = (0..self.keys.len()).collect();
        self.compare(at, everything);
    }

    fn holds(&mut self, at: Duration, node: usize, records: &Dump) {
        let mut next = BTreeMap::new();
        for (key, held) in records {
            let place = self.key(key);
            let versions: Vec<usize> = held.iter().map(|version| self.version(version)).collect();
            next.insert(place, versions);
        }
        let last = std::mem::take(&mut self.now[node].holds);
        let gone = last.keys().filter(|key| !next.contains_key(key)).map(|key| (*key, Vec::new()));
        let new = next.iter().filter(|(key, versions)| last.get(key) != Some(versions));
        let changes: Vec<(usize, Vec<usize>)> =
            gone.chain(new.map(|(key, versions)| (*key, versions.clone()))).collect();
        self.now[node].holds = next;
        if changes.is_empty() {
            return;
        }
        for (key, versions) in &changes {
            let old = last.get(key).map_or(0, |versions| self.digest(*key, versions));
            let new = if versions.is_empty() { 0 } else { self.digest(*key, versions) };
            self.now[node].root ^= old ^ new;
            if self.held.len() < EVENTS_MAX {
                self.held.push(Held { at, node, key: *key, versions: versions.clone() });
            } else {
                self.left_out += 1;
            }
        }
        let root = self.now[node].root;
        // A colour is enough; nothing at all is white.
        self.roots.push((at, node, if root == 0 { 0 } else { (root >> 40) as u32 | 1 }));
        self.compare(at, changes.into_iter().map(|(key, _)| key).collect());
    }

    fn digest(&self, key: usize, versions: &[usize]) -> u64 {
        let mut bytes = self.keys[key].as_bytes().to_vec();
        for version in versions {
            let Shown { stamp, dot, .. } = &self.versions[*version];
            bytes.extend_from_slice(&stamp.millis.to_le_bytes());
            bytes.extend_from_slice(&stamp.counter.to_le_bytes());
            bytes.extend_from_slice(&dot.origin.0.to_le_bytes());
            bytes.extend_from_slice(&dot.seq.to_le_bytes());
        }
        xxh3_64(&bytes)
    }

    /// Looks again whether these keys are the same everywhere.
    fn compare(&mut self, at: Duration, keys: Vec<usize>) {
        for key in keys {
            let mut held = self.now.iter().filter(|node| node.has_power).map(|node| node.holds.get(&key));
            let first = held.next().flatten();
            if held.all(|other| other == first) {
                self.differing.remove(&key);
            } else {
                self.differing.insert(key);
            }
        }
        let count = self.differing.len();
        match self.apart.last_mut() {
            Some((_, known)) if *known == count => {}
            Some((when, known)) if *when == at => *known = count,
            _ => self.apart.push((at, count)),
        }
    }

    fn key(&mut self, key: &Key) -> usize {
        if let Some(place) = self.key_places.get(key) {
            return *place;
        }
        self.key_places.insert(key.clone(), self.keys.len());
        self.keys.push(key.clone());
        self.keys.len() - 1
    }

    fn version(&mut self, version: &Version) -> usize {
        let name = (version.stamp, version.dot, xxh3_64(&version.value));
        let next = self.versions.len();
        let place = *self.version_places.entry(name).or_insert(next);
        if place == next {
            self.versions.push(Shown {
                stamp: version.stamp,
                dot: version.dot,
                value: excerpt(&version.value),
                is_tombstone: version.tombstone,
            });
        }
        place
    }

    /// The place of a key that something was about.
    pub fn key_place(&self, key: &Key) -> Option<usize> {
        self.key_places.get(key).copied()
    }

    /// What became of a message, as far as the first copy of it goes.
    pub fn fate(&self, flight: &Flight) -> Fate {
        let is_cut = |at| {
            let last = self.cuts.partition_point(|(since, _)| *since <= at);
            last > 0 && self.cuts[last - 1].1.contains(&(flight.from, flight.to))
        };
        let Some(there) = flight.arrives[0] else {
            return if is_cut(flight.at) { Fate::Cut } else { Fate::Lost };
        };
        if is_cut(there) {
            Fate::CutOnItsWay
        } else if !self.has_power(flight.to, there) {
            Fate::NobodyThere
        } else if flight.is_damaged {
            Fate::Damaged
        } else {
            Fate::Arrived
        }
    }

    /// Whether a node has power at that time.
    pub fn has_power(&self, node: usize, at: Duration) -> bool {
        let powers = &self.now[node].powers;
        let last = powers.partition_point(|(since, _)| *since <= at);
        last > 0 && powers[last - 1].1
    }
}

/// The beginning of a value, on one line.
fn excerpt(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(&value[..value.len().min(VALUE_SHOWN_MAX)]);
    let mut line: String = text.chars().map(|c| if c.is_control() { '·' } else { c }).collect();
    if value.len() > VALUE_SHOWN_MAX {
        line.push_str(&format!("… ({} bytes)", value.len()));
    }
    line
}

/// Whole microseconds, as all pictures have them.
pub fn micros(at: Duration) -> u64 {
    nanos(at) / 1_000
}

#[cfg(test)]
#[path = "recording_tests.rs"]
mod tests;

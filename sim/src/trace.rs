//! What happened, event by event: always as a hash, on request as lines, and to whoever watches.
//!
//! Two runs with the same hash did the same things at the same times with the same bytes. The lines are JSON
//! in a fixed field order, byte-equal for equal seeds.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use reknit::model::Key;
use reknit::node::Level;
use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::Xxh3Default;

use crate::check::Dump;
use crate::random::nanos;

/// How many bytes of events are gathered before they are hashed.
const GATHERED_BYTES_MAX: usize = 4096;

/// Something that happened. Nodes are numbers, in the order of the scenario's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// A part of the run begins: `faults`, `heal`, `quiet`, `hold`, `power-cycle`, `idle`, `check`.
    Phase {
        /// Which.
        name: &'a str,
    },
    /// The power is on.
    Start {
        /// How often it was started, this time included.
        start: u64,
    },
    /// The power failed.
    Crash {
        /// Where in its turn.
        boundary: &'a str,
    },
    /// Its process stopped, memory kept.
    Pause,
    /// It runs on.
    Resume,
    /// It left, and its process ended.
    Left,
    /// Something was done to a disk: `wipe`, `backup`, `restore`, `clone`.
    Disk {
        /// What.
        deed: &'a str,
    },
    /// Something was done to a wall clock: `skew`, `jump`, `freeze`, `thaw`.
    Clock {
        /// What.
        deed: &'a str,
        /// By how much.
        millis: i64,
    },
    /// Something was done to the links; in the words of the scenario.
    Links {
        /// What.
        deed: &'a str,
    },
    /// A client asked.
    Ask {
        /// Which request.
        id: u64,
        /// In the words of the scenario.
        verb: &'a str,
        /// The key, if it is about one.
        #[serde(serialize_with = "percent_encoded")]
        key: Option<&'a Key>,
    },
    /// A client was answered.
    Answer {
        /// Which request.
        id: u64,
        /// As HTTP would have it.
        status: u16,
        /// Milliseconds and counter of the version's stamp, where there is one.
        stamp: Option<(u64, u16)>,
        /// Origin and number of the version's dot, where there is one.
        dot: Option<(u64, u64)>,
    },
    /// Nobody will answer: the node is off, or its power failed before it did.
    NoAnswer {
        /// Which request.
        id: u64,
    },
    /// A frame was sent.
    Send {
        /// To whom.
        to: usize,
        /// The message's kind.
        kind: &'a str,
        /// The frame's length.
        bytes: usize,
        /// The frame's own checksum.
        sum: u64,
        /// When its copies arrive, in nanoseconds; none for a lost one.
        arrives: (Option<u64>, Option<u64>),
    },
    /// A frame came that the wire rejects.
    Reject {
        /// From whom.
        from: usize,
    },
    /// The node has something for its log.
    Log {
        /// How loud: `info`, `warn`, `error`.
        level: &'a str,
        /// The event's stable name.
        name: &'a str,
        /// The facts.
        text: &'a str,
    },
    /// What a node holds.
    Digest {
        /// Of all its records.
        records: u64,
    },
    /// The replicas agree.
    Agree {
        /// How long after the beginning of the quiet, in milliseconds.
        after_millis: u64,
    },
    /// A promise was broken.
    Broken {
        /// Which.
        code: &'a str,
        /// How.
        text: &'a str,
    },
}

fn percent_encoded<S: Serializer>(key: &Option<&Key>, serializer: S) -> Result<S::Ok, S::Error> {
    match key {
        Some(key) => serializer.collect_str(key),
        None => serializer.serialize_none(),
    }
}

/// How loud an event is, as traces write it.
pub fn level_word(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

/// What only those who look closer learn: it is no part of the trace, and costs time to tell.
#[derive(Clone, Debug)]
pub enum Fact<'a> {
    /// The frame that was just sent completes a message with rows of these keys.
    Carries {
        /// Whose rows.
        keys: &'a [&'a Key],
        /// The network flipped bits of it.
        is_damaged: bool,
    },
    /// What the client who just asked writes.
    Writes {
        /// Which request.
        id: u64,
        /// The value.
        value: &'a [u8],
    },
    /// What the answer that was just given says.
    Says {
        /// Which request.
        id: u64,
        /// In words.
        text: &'a str,
    },
    /// A node's durable records.
    Holds(&'a Dump),
    /// By how many milliseconds a node's wall clock is ahead of true time.
    Offset(i64),
    /// All links that are cut from now on, from whom to whom.
    Cuts(BTreeSet<(usize, usize)>),
}

/// Sees every event as it happens: when, at which node if at one, and what.
pub trait Watch: Send {
    /// Something happened.
    fn saw(&mut self, at: Duration, node: Option<usize>, event: &Event<'_>);

    /// Whether it wants to be told facts as well.
    fn looks_closer(&self) -> bool {
        false
    }

    /// Something is so.
    fn learned(&mut self, _at: Duration, _node: Option<usize>, _fact: &Fact<'_>) {}
}

/// Gathers what happened.
#[derive(Default)]
pub struct Trace {
    hash: Xxh3Default,
    gathered: Vec<u8>,
    events: u64,
    names: Vec<String>,
    lines: Option<Box<dyn Write + Send>>,
    watches: Vec<Box<dyn Watch>>,
    failure: Option<std::io::Error>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("events", &self.events).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Line<'a> {
    ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

impl Trace {
    /// A trace that only hashes.
    pub fn hashed() -> Trace {
        Trace::default()
    }

    /// Also writes every event as a line of JSON; `names` are the nodes'.
    pub fn with_lines(mut self, lines: Box<dyn Write + Send>, names: Vec<String>) -> Trace {
        self.names = names;
        self.lines = Some(lines);
        self
    }

    /// Also shows every event to `watch`.
    pub fn with_watch(mut self, watch: Box<dyn Watch>) -> Trace {
        self.watches.push(watch);
        self
    }

    /// Whether anybody wants to be told facts.
    pub fn is_looked_at_closely(&self) -> bool {
        self.watches.iter().any(|watch| watch.looks_closer())
    }

    /// Tells a fact to those who want to know.
    pub fn tell(&mut self, at: Duration, node: Option<usize>, fact: &Fact<'_>) {
        for watch in self.watches.iter_mut().filter(|watch| watch.looks_closer()) {
            watch.learned(at, node, fact);
        }
    }

    /// Something happened.
    pub fn record(&mut self, at: Duration, node: Option<usize>, event: &Event<'_>) {
        self.events += 1;
        let out = &mut self.gathered;
        out.extend_from_slice(&nanos(at).to_le_bytes());
        out.push(node.map_or(u8::MAX, |node| node as u8));
        gather(event, out);
        if out.len() > GATHERED_BYTES_MAX {
            self.hash.update(out);
            out.clear();
        }
        for watch in &mut self.watches {
            watch.saw(at, node, event);
        }
        if let Some(lines) = &mut self.lines {
            let node = node.and_then(|node| self.names.get(node)).map(String::as_str);
            let line = serde_json::to_vec(&Line { ns: nanos(at), node, event });
            let mut line = line.expect("events are plain data");
            line.push(b'\n');
            if let Err(error) = lines.write_all(&line) {
                self.failure.get_or_insert(error);
            }
        }
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The hash of everything that happened.
    ///
    /// # Errors
    /// The lines could not be written.
    pub fn finish(&mut self) -> std::io::Result<u64> {
        self.hash.update(&self.gathered);
        self.gathered.clear();
        if let Some(lines) = &mut self.lines {
            lines.flush()?;
        }
        self.failure.take().map_or_else(|| Ok(self.hash.digest()), Err)
    }
}

/// The canonical bytes of an event: a tag, then its fields; texts with their length.
fn gather(event: &Event<'_>, out: &mut Vec<u8>) {
    match *event {
        Event::Phase { name } => texts(out, 0, &[name]),
        Event::Start { start } => numbers(out, 1, &[start]),
        Event::Crash { boundary } => texts(out, 2, &[boundary]),
        Event::Pause => out.push(3),
        Event::Resume => out.push(4),
        Event::Left => out.push(5),
        Event::Disk { deed } => texts(out, 6, &[deed]),
        Event::Clock { deed, millis } => {
            texts(out, 7, &[deed]);
            out.extend_from_slice(&millis.to_le_bytes());
        }
        Event::Links { deed } => texts(out, 8, &[deed]),
        Event::Ask { id, verb, key } => {
            texts(out, 9, &[verb]);
            let key = key.map_or(&[][..], Key::as_bytes);
            out.extend_from_slice(&(key.len() as u64).to_le_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(&id.to_le_bytes());
        }
        Event::Answer { id, status, stamp, dot } => {
            let (millis, counter) = stamp.unwrap_or_default();
            let (origin, seq) = dot.unwrap_or_default();
            let present = u64::from(stamp.is_some()) + 2 * u64::from(dot.is_some());
            numbers(out, 10, &[id, status.into(), present, millis, counter.into(), origin, seq]);
        }
        Event::NoAnswer { id } => numbers(out, 11, &[id]),
        // The checksum stands for the kind and every other byte of the frame.
        Event::Send { to, kind: _, bytes, sum, arrives: (first, second) } => {
            let arrives = [first.unwrap_or(u64::MAX), second.unwrap_or(u64::MAX)];
            numbers(out, 12, &[to as u64, bytes as u64, sum, arrives[0], arrives[1]]);
        }
        Event::Reject { from } => numbers(out, 13, &[from as u64]),
        Event::Log { level, name, text } => texts(out, 14, &[level, name, text]),
        Event::Digest { records } => numbers(out, 15, &[records]),
        Event::Agree { after_millis } => numbers(out, 16, &[after_millis]),
        Event::Broken { code, text } => texts(out, 17, &[code, text]),
    }
}

fn numbers(out: &mut Vec<u8>, tag: u8, numbers: &[u64]) {
    out.push(tag);
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn texts(out: &mut Vec<u8>, tag: u8, texts: &[&str]) {
    out.push(tag);
    for text in texts {
        out.extend_from_slice(&(text.len() as u64).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;

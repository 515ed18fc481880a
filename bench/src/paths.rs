//! Three hot paths of a node, walked so many times and nothing else: for counting instructions, which no other process
//! on the machine can change. Storage is the real one, in files.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use reknit::model::{
    Ack, Address, Condition, Instant, Key, NodeId, Now, Reply, Request, RequestId, WallTime,
};
use reknit::node::{Input, Node, Output, Settings};
use reknit::protocol::wire::{self, Assembler};
use reknit::storage::engine::Engine;

use crate::load;
use crate::ours;
use crate::stores::{Kind, Spread, Store, chosen, keys};

/// A path: its name, what one walk of it is, and how often it is walked for a count.
pub struct HotPath {
    pub name: &'static str,
    pub about: &'static str,
    pub walks: usize,
    walk: fn(usize) -> Result<()>,
}

/// All of them.
pub const PATHS: [HotPath; 3] = [
    HotPath {
        name: "put",
        about: "one durable write in a turn of its own, through the node and redb",
        walks: 100,
        walk: put,
    },
    HotPath {
        name: "push",
        about: "64 writes in one turn, pushed as frames, decoded, merged and made durable on a second node, confirmed",
        walks: 8,
        walk: push,
    },
    HotPath {
        name: "compare",
        about: "a session of two stores of 2,000 keys of which 20 differ, all of it through the wire's bytes",
        walks: 4,
        walk: compare,
    },
];

/// Walks a path so many times.
pub fn walk(name: &str, times: usize) -> Result<()> {
    let path = PATHS.iter().find(|path| path.name == name).with_context(|| format!("{name} is no path"))?;
    (path.walk)(times)
}

/// Keys that are there before the first walk.
const KEYS: u64 = 500;
/// Writes of one push.
const BATCH: usize = 64;

fn put(times: usize) -> Result<()> {
    let folder = tempfile::tempdir_in(".")?;
    let mut one = Peer::open(folder.path(), "a", &[])?;
    let mut now = START;
    let mut numbers = 0..;
    one.write(now, numbers.by_ref().take(KEYS as usize))?;
    for _ in 0..times {
        now = later(now, Duration::from_millis(1));
        one.write(now, numbers.by_ref().take(1))?;
    }
    Ok(())
}

fn push(times: usize) -> Result<()> {
    let folder = tempfile::tempdir_in(".")?;
    let mut pair = [Peer::open(folder.path(), "a", &[])?, Peer::open(folder.path(), "b", &["a"])?];
    let mut now = START;
    // Long enough to find each other and to open a meeting.
    for _ in 0..100 {
        now = later(now, Duration::from_millis(100));
        pair.iter_mut().try_for_each(|peer| peer.turn(now, Vec::new()))?;
        deliver(&mut pair, now)?;
    }
    let mut numbers = 0..;
    pair[0].write(now, numbers.by_ref().take(KEYS as usize))?;
    deliver(&mut pair, now)?;
    for _ in 0..times {
        now = later(now, Duration::from_millis(1));
        pair[0].write(now, numbers.by_ref().take(BATCH))?;
        deliver(&mut pair, now)?;
    }
    let status = |counters: Vec<(&str, u64)>, name: &str| {
        counters.iter().find(|(known, _)| *known == name).map(|(_, count)| *count)
    };
    let merged = status(pair[1].node.counters(), "pushed_in");
    ensure!(merged.is_none_or(|merged| merged >= (times * BATCH) as u64), "nothing was pushed: {merged:?}");
    Ok(())
}

fn compare(times: usize) -> Result<()> {
    let keys = keys(2000);
    let (mut a, mut b) = (Store::filled(&keys)?, Store::filled(&keys)?);
    let numbers = chosen(keys.len(), 20, Spread::Scattered);
    for _ in 0..times {
        b.differ(&keys, &numbers, Kind::Missing)?;
        let cost = ours::converse(&mut a, &mut b)?;
        ensure!(cost.entries == numbers.len(), "{} entries moved", cost.entries);
    }
    Ok(())
}

const START: Now = Now { mono: Instant(Duration::from_secs(1)), wall: WallTime(1_700_000_000_000) };

fn later(now: Now, by: Duration) -> Now {
    Now { mono: now.mono + by, wall: WallTime(now.wall.0 + by.as_millis() as u64) }
}

/// A node stepped by hand, and what its peer has sent it.
struct Peer {
    node: Node<Engine>,
    inbox: VecDeque<Bytes>,
    outbox: Vec<Bytes>,
    assembler: Assembler,
    messages: u64,
    requests: u64,
}

fn address(name: &str) -> Result<Address> {
    Ok(Address::new(&format!("{name}:1"))?)
}

impl Peer {
    fn open(folder: &Path, name: &str, seeds: &[&str]) -> Result<Peer> {
        let seeds = seeds.iter().map(|name| address(name)).collect::<Result<Vec<_>>>()?;
        let settings = Settings::new(NodeId::new(name)?, address(name)?, seeds);
        let engine = Engine::open(&folder.join(name))?;
        let node = Node::open(engine, settings, [name.as_bytes()[0]; 32], START)?;
        let (inbox, outbox) = (VecDeque::new(), Vec::new());
        Ok(Peer { node, inbox, outbox, assembler: Assembler::default(), messages: 0, requests: 0 })
    }

    /// One turn in which clients write these keys.
    fn write(&mut self, now: Now, numbers: impl Iterator<Item = u64>) -> Result<()> {
        let value = Bytes::from(vec![b'7'; load::VALUE_BYTES]);
        let mut inputs = Vec::new();
        for number in numbers {
            self.requests += 1;
            let request = Request::Put {
                key: Key::from_path(&load::key(number))?,
                value: value.clone(),
                content_type: "text/plain".into(),
                ttl: None,
                condition: Condition::None,
                ack: Ack::Local,
                timeout: Duration::from_secs(5),
            };
            inputs.push(Input::Request { id: RequestId(self.requests), request });
        }
        self.turn(now, inputs)
    }

    /// One turn: a tick, what the peer has sent, these inputs; what it leads to waits in the outbox.
    fn turn(&mut self, now: Now, inputs: Vec<Input>) -> Result<()> {
        self.node.handle(now, Input::Tick)?;
        let from = NodeId::new(if self.node.id().as_str() == "a" { "b" } else { "a" })?;
        while let Some(frame) = self.inbox.pop_front() {
            if let Some(message) = self.assembler.push(frame)? {
                self.node.handle(now, Input::Message { from: from.clone(), message })?;
            }
        }
        for input in inputs {
            self.node.handle(now, input)?;
        }
        for output in self.node.flush(now)?.outputs {
            match output {
                Output::Send { message, .. } => {
                    self.messages += 1;
                    self.outbox.extend(wire::encode(&message, self.messages)?);
                }
                Output::Reply { reply: Reply::Written { .. }, .. } | Output::Event(_) => {}
                Output::Reply { reply, .. } => bail!("a write was answered with {reply:?}"),
                Output::Stop => bail!("the node wants to end"),
            }
        }
        Ok(())
    }
}

/// Carries frames until neither has any to send.
fn deliver(pair: &mut [Peer; 2], now: Now) -> Result<()> {
    while pair.iter().any(|peer| !peer.outbox.is_empty()) {
        for at in [0, 1] {
            let frames = std::mem::take(&mut pair[at].outbox);
            if !frames.is_empty() {
                pair[1 - at].inbox.extend(frames);
                pair[1 - at].turn(now, Vec::new())?;
            }
        }
    }
    Ok(())
}

//! A cluster stepped by hand: every message passes through the wire's bytes and takes one millisecond.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::model::{
    Ack, Address, Condition, Instant, Key, NodeId, Now, Policies, Reply, Request, RequestId, Version,
    WallTime,
};
use crate::node::{Input, Node, Output, Settings};
use crate::protocol::wire::{self, Assembler};
use crate::storage::memory::{Memory, Tables};
use crate::storage::rows::{self, Record};
use crate::storage::{Batch, Storage, Table};

/// The wall clock at the cluster's start.
pub const START: WallTime = WallTime(1_000_000);
/// How long a message takes.
const DELAY: Duration = Duration::from_millis(1);
/// How long [`Cluster::settle`] lets the cluster talk.
const SETTLE: Duration = Duration::from_secs(20);

/// Some nodes, their disks and the messages between them.
pub struct Cluster {
    seed: u64,
    policies: Policies,
    tune: fn(&mut Settings),
    starts: u64,
    now: Instant,
    up: BTreeMap<char, Running>,
    off: BTreeMap<char, Tables>,
    names: Vec<char>,
    /// Which side of a partition a node is on; all on one side without one.
    sides: BTreeMap<char, usize>,
    flying: VecDeque<(Instant, char, char, Bytes)>,
    replies: BTreeMap<RequestId, Reply>,
    requests: u64,
    numbers: u64,
}

struct Running {
    node: Node<Memory>,
    assemblers: BTreeMap<char, Assembler>,
}

impl Cluster {
    /// Starts the named nodes (`"a b c"`), each with all others as seeds, and lets them meet.
    pub fn new(names: &str, seed: u64) -> Cluster {
        Cluster::with_policies(names, seed, Policies::default())
    }

    /// The same with a table of policies.
    pub fn with_policies(names: &str, seed: u64, policies: Policies) -> Cluster {
        let names: Vec<char> = names.split(' ').map(only_letter).collect();
        let mut cluster = Cluster {
            seed,
            policies,
            tune: |_| {},
            starts: 0,
            now: Instant::default(),
            up: BTreeMap::new(),
            off: names.iter().map(|name| (*name, Tables::default())).collect(),
            names: names.clone(),
            sides: BTreeMap::new(),
            flying: VecDeque::new(),
            replies: BTreeMap::new(),
            requests: 0,
            numbers: 0,
        };
        for name in names {
            cluster.start(name);
            cluster.run(Duration::from_millis(100));
        }
        cluster.run(Duration::from_secs(2));
        cluster
    }

    /// Other settings for all nodes that start from now on.
    pub fn tune(&mut self, tune: fn(&mut Settings)) {
        self.tune = tune;
    }

    /// One more node, empty and off.
    pub fn add(&mut self, name: char) {
        self.names.push(name);
        self.off.insert(name, Tables::default());
    }

    /// Powers a node on, on the disk it had.
    pub fn start(&mut self, name: char) {
        self.starts += 1;
        let tables = self.off.remove(&name).expect("the node is off");
        let seeds = self.names.iter().map(|name| address(*name)).collect();
        let mut settings = Settings::new(id(name), address(name), seeds);
        settings.policies = self.policies.clone();
        settings.timing.probe_interval = Duration::from_millis(200);
        settings.timing.suspect_timeout = Duration::from_secs(1);
        settings.timing.gossip_interval_min = Duration::from_secs(1);
        settings.timing.scrub_interval = Some(Duration::from_millis(200));
        settings.timing.gossip_interval_max = Duration::from_secs(2);
        settings.timing.tombstone_grace = Duration::from_secs(4);
        (self.tune)(&mut settings);
        let mut dice = [0; 32];
        dice[..8].copy_from_slice(&self.seed.to_le_bytes());
        dice[8..16].copy_from_slice(&self.starts.to_le_bytes());
        let node = Node::open(Memory::new(tables), settings, dice, self.time());
        let node = node.expect("a memory disk does not break");
        self.up.insert(name, Running { node, assemblers: BTreeMap::new() });
        self.turn(name, vec![Input::Tick]);
    }

    /// Cuts a node's power.
    pub fn crash(&mut self, name: char) {
        let running = self.up.remove(&name).expect("the node is on");
        self.off.insert(name, running.node.into_store().power_loss());
        self.flying.retain(|(_, _, to, _)| *to != name);
    }

    /// What is on the disk of a node that is off.
    pub fn disk(&self, name: char) -> Tables {
        self.off[&name].clone()
    }

    /// Puts something else on the disk of a node that is off.
    pub fn replace_disk(&mut self, name: char, tables: Tables) {
        self.off.insert(name, tables).expect("the node is off");
    }

    /// Changes the disk of a node that is off, as rot and lost pages do.
    pub fn damage(&mut self, name: char, batch: Batch) {
        let mut disk = Memory::new(self.off.remove(&name).expect("the node is off"));
        disk.apply(batch).expect("a memory disk does not break");
        disk.persist().expect("a memory disk does not break");
        self.off.insert(name, disk.power_loss());
    }

    /// Puts nodes on two or more sides (`"a | b c"`) that cannot hear each other.
    pub fn partition(&mut self, sides: &str) {
        for (side, names) in sides.split('|').enumerate() {
            for name in names.split_whitespace() {
                self.sides.insert(only_letter(name), side);
            }
        }
    }

    /// Ends the partition.
    pub fn heal(&mut self) {
        self.sides.clear();
    }

    /// Writes a value at a node.
    pub fn put(&mut self, at: char, key: &str, value: &str) -> Reply {
        self.ask(
            at,
            Request::Put {
                key: Key::from_path(key).expect("a test's key"),
                value: value.as_bytes().to_vec().into(),
                content_type: "text/plain".into(),
                ttl: None,
                condition: Condition::None,
                ack: Ack::Local,
                timeout: Duration::from_secs(1),
            },
        )
    }

    /// Deletes a key at a node.
    pub fn delete(&mut self, at: char, key: &str) -> Reply {
        self.ask(
            at,
            Request::Delete {
                key: Key::from_path(key).expect("a test's key"),
                condition: Condition::None,
                ack: Ack::Local,
                timeout: Duration::from_secs(1),
            },
        )
    }

    /// What a node shows under a key: the value's text, or `-`.
    pub fn get(&mut self, at: char, key: &str) -> String {
        match self.ask(at, Request::Get { key: Key::from_path(key).expect("a test's key") }) {
            Reply::Value(Some(version)) => String::from_utf8_lossy(&version.value).into_owned(),
            Reply::Value(None) => "-".into(),
            Reply::Siblings { live, .. } if live.is_empty() => "-".into(),
            Reply::Siblings { live, .. } => {
                let values = live.iter().map(|version| String::from_utf8_lossy(&version.value).into_owned());
                values.collect::<Vec<_>>().join("|")
            }
            other => panic!("a read was answered with {other:?}"),
        }
    }

    /// What every running node shows under a key.
    pub fn get_everywhere(&mut self, key: &str) -> Vec<String> {
        let names: Vec<char> = self.up.keys().copied().collect();
        names.into_iter().map(|name| self.get(name, key)).collect()
    }

    /// Every version of a running node, in the order of the keys.
    pub fn records(&self, at: char) -> Vec<(Key, Version)> {
        let everything = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let rows = rows::records(self.up[&at].node.store(), everything, usize::MAX, false);
        let rows = rows.expect("a memory disk does not break").into_iter();
        let versions = |(key, record): (Key, Record)| {
            let row = record.row().expect("nothing rots here");
            row.versions.into_iter().map(move |version| (key.clone(), version))
        };
        rows.flat_map(versions).collect()
    }

    /// How many rows a table of a running node has.
    pub fn row_count(&self, at: char, table: Table) -> usize {
        use crate::storage::Read;
        let everything = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let rows = self.up[&at].node.store().scan(table, everything, usize::MAX, false);
        rows.expect("a memory disk does not break").len()
    }

    /// A running node.
    pub fn node(&self, at: char) -> &Node<Memory> {
        &self.up[&at].node
    }

    /// Lets the cluster talk until it has surely said everything.
    pub fn settle(&mut self) {
        self.run(SETTLE);
    }

    /// Asks a node something and runs on until it answers.
    pub fn ask(&mut self, at: char, request: Request) -> Reply {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.turn(at, vec![Input::Request { id, request }]);
        while !self.replies.contains_key(&id) {
            self.run(DELAY);
        }
        self.replies.remove(&id).expect("just looked")
    }

    /// Asks two nodes in the same moment and runs on until both have answered.
    pub fn ask_both(&mut self, asked: [(char, Request); 2]) -> [Reply; 2] {
        let ids = asked.map(|(at, request)| {
            self.requests += 1;
            let id = RequestId(self.requests);
            self.turn(at, vec![Input::Request { id, request }]);
            id
        });
        while ids.iter().any(|id| !self.replies.contains_key(id)) {
            self.run(DELAY);
        }
        ids.map(|id| self.replies.remove(&id).expect("just looked"))
    }

    /// How much time has passed since the start.
    pub fn elapsed(&self) -> Duration {
        self.now.0
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let arrival = self.flying.front().map(|(at, ..)| *at);
            let wakeup = self.up.values().filter_map(|running| running.node.next_wakeup()).min();
            let Some(next) = arrival.into_iter().chain(wakeup).min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    /// Takes what is due now.
    fn step(&mut self) {
        if self.flying.front().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, from, to, frame) = self.flying.pop_front().expect("just looked");
            let Some(running) = self.up.get_mut(&to) else { return };
            let message = running.assemblers.entry(from).or_default().push(frame);
            if let Some(message) = message.expect("nothing garbles these frames") {
                self.turn(to, vec![Input::Tick, Input::Message { from: id(from), message }]);
            }
            return;
        }
        let due = |running: &Running| running.node.next_wakeup().is_some_and(|at| at <= self.now);
        let due: BTreeSet<char> =
            self.up.iter().filter(|(_, running)| due(running)).map(|(name, _)| *name).collect();
        for name in due {
            self.turn(name, vec![Input::Tick]);
        }
    }

    fn turn(&mut self, name: char, inputs: Vec<Input>) {
        let now = self.time();
        let running = self.up.get_mut(&name).expect("the node is on");
        for input in inputs {
            running.node.handle(now, input).expect("a memory disk does not break");
        }
        let flushed = running.node.flush(now).expect("a memory disk does not break");
        let wakeup = running.node.next_wakeup();
        assert!(wakeup.is_none_or(|at| at > now.mono), "every timer that was due has fired");
        for output in flushed.outputs {
            match output {
                Output::Send { to, message } => self.send(name, &to, &message),
                Output::Reply { id, reply } => {
                    self.replies.insert(id, reply);
                }
                Output::Event(_) | Output::Stop => {}
            }
        }
    }

    fn send(&mut self, from: char, to: &Address, message: &crate::protocol::Message) {
        let to = only_letter(to.as_str().split(':').next().expect("an address has a host"));
        if self.sides.get(&from) != self.sides.get(&to) {
            return;
        }
        self.numbers += 1;
        for frame in wire::encode(message, self.numbers).expect("messages fit the limits") {
            self.flying.push_back((self.now + DELAY, from, to, frame));
        }
    }

    fn time(&self) -> Now {
        Now { mono: self.now, wall: START.after(self.now.0) }
    }
}

fn id(name: char) -> NodeId {
    NodeId::new(&name.to_string()).expect("a letter is a node id")
}

fn address(name: char) -> Address {
    Address::new(&format!("{name}:7000")).expect("a letter is a host")
}

fn only_letter(name: &str) -> char {
    name.chars().next().expect("a name is one letter")
}

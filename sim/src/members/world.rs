//! Member tables on links, one event at a time. All clocks are true.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use reknit::model::{Address, Instant, Member, MemberState, Mode, NodeId, Now, ProtocolRange, WallTime};
use reknit::protocol::Message;
use reknit::protocol::membership::Membership;
use reknit::protocol::outbox::{Action, Event, Outbox};
use reknit::protocol::timing::Timing;
use reknit::protocol::wire::{self, Assembler};
use reknit::storage::memory::{Memory, Tables};
use reknit::storage::{Batch, Storage, rows};

use crate::links::Links;
use crate::random;
use crate::scenario::{Draw, Network};

/// The wall clock at the start.
const START: WallTime = WallTime(1_767_225_600_000);

/// A network without any trouble but loss.
pub fn network(loss: f64) -> Network {
    let delay = Draw::Each(Duration::from_millis(1)..=Duration::from_millis(20));
    Network { delay, loss, duplicate: 0.0, corrupt: 0.0, tail: 0.0, burst: 1, bandwidth: None }
}

/// A member as its operator sets it up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its name; two of one name are a conflict.
    pub id: NodeId,
    /// Its place; of nodes that share one, only that which runs is reached.
    pub address: Address,
    /// Whom it joins through.
    pub seeds: Vec<Address>,
    /// Digest of its policies by prefix.
    pub policies: u64,
    /// What it speaks.
    pub protocol: ProtocolRange,
}

impl Setup {
    /// A node called `name`, at the place of its name, as all others are.
    pub fn new(name: &str, seeds: Vec<Address>) -> Setup {
        Setup { id: id(name), address: address(name), seeds, policies: 0, protocol: wire::PROTOCOL }
    }
}

/// Names of tables, and what they are set up with, `n0`, `n1`, …, each joining through the first three.
pub fn setups(count: usize) -> Vec<Setup> {
    let seeds: Vec<Address> = (0..count.min(3)).map(|node| address(&format!("n{node}"))).collect();
    (0..count).map(|node| Setup::new(&format!("n{node}"), seeds.clone())).collect()
}

/// A node's name.
pub fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a plain name")
}

/// The place of a node's name.
pub fn address(name: &str) -> Address {
    Address::new(&format!("{name}:7000")).expect("a plain host")
}

/// Some member tables and the messages between them.
pub struct World {
    /// Virtual time.
    pub at: Duration,
    /// The links, in the order of the machines.
    pub links: Links,
    /// What the nodes told their logs: when, which node, what.
    pub log: Vec<(Duration, usize, Event)>,
    /// Messages handed to links, and their bytes.
    pub sent: (u64, u64),
    /// Copies of one fact that arrived: whose record, from which life and incarnation on.
    pub watched: Option<Watched>,
    machines: Vec<Machine>,
    timing: Timing,
    seed: u64,
    flying: BinaryHeap<Reverse<Flying>>,
    wakeups: BTreeSet<(Duration, usize)>,
    numbers: u64,
}

/// A frame on its way: when it arrives, its number, from and to whom, its bytes.
type Flying = (Duration, u64, usize, usize, Bytes);

/// A fact on its way.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Whose record.
    pub id: NodeId,
    /// At least this new.
    pub since: (u64, u32),
    /// Copies that arrived at others; the record at the head of its own pings and pongs is none.
    pub copies: u64,
}

struct Machine {
    setup: Setup,
    table: Option<Membership>,
    disk: Tables,
    life: u64,
    joined: Option<WallTime>,
    starts: u32,
    dice: ChaCha8Rng,
    out: Outbox,
    is_paused: bool,
    waiting: Vec<(usize, Bytes)>,
    assemblers: BTreeMap<usize, Assembler>,
    wakeup: Option<Duration>,
    store: Option<Memory>,
}

impl World {
    /// Nobody runs yet.
    pub fn new(setups: Vec<Setup>, network: &Network, timing: Timing, seed: u64) -> World {
        let names: Vec<String> = (0..setups.len()).map(|machine| format!("m{machine}")).collect();
        let machine = |setup: Setup| Machine {
            setup,
            table: None,
            disk: Tables::default(),
            life: 0,
            joined: None,
            starts: 0,
            dice: random::stream(seed, "nobody"),
            out: Outbox::default(),
            is_paused: false,
            waiting: Vec::new(),
            assemblers: BTreeMap::new(),
            wakeup: None,
            store: None,
        };
        World {
            at: Duration::ZERO,
            links: Links::new(network, &names, seed),
            log: Vec::new(),
            sent: (0, 0),
            watched: None,
            machines: setups.into_iter().map(machine).collect(),
            timing,
            seed,
            flying: BinaryHeap::new(),
            wakeups: BTreeSet::new(),
            numbers: 0,
        }
    }

    /// A cluster in which everybody knows everybody, as after a long time together.
    pub fn acquainted(count: usize, network: &Network, timing: Timing, seed: u64) -> World {
        let mut world = World::new(setups(count), network, timing, seed);
        let member = |node: usize| {
            let name = format!("n{node}");
            Member {
                id: id(&name),
                address: address(&name),
                life: 1,
                incarnation: 0,
                state: MemberState::Alive,
                joined: START,
                mode: Mode::Normal,
                origin: None,
                policies: 0,
                protocol: wire::PROTOCOL,
            }
        };
        for node in 0..count {
            let mut store = Memory::default();
            let mut batch = Batch::default();
            for other in (0..count).filter(|other| *other != node) {
                let row = rows::MemberRow { member: member(other), last_seen: START, away: Duration::ZERO };
                rows::put_member(&mut batch, &row);
            }
            store.apply(batch).and_then(|()| store.persist()).expect("memory");
            world.machines[node].disk = store.power_loss();
            world.start(node);
        }
        world
    }

    /// How many machines there are.
    pub fn len(&self) -> usize {
        self.machines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.machines.is_empty()
    }

    /// Changes what a machine that is off is set up with.
    pub fn set_up(&mut self, node: usize, setup: Setup) {
        self.machines[node].setup = setup;
    }

    /// Starts a node, on the disk it had.
    pub fn start(&mut self, node: usize) {
        let now = self.now();
        let machine = &mut self.machines[node];
        machine.starts += 1;
        machine.life += 1;
        let joined = *machine.joined.get_or_insert(now.wall);
        let name = format!("member/{node}/start/{}", machine.starts);
        machine.dice = random::stream(self.seed, &name);
        let store = Memory::new(std::mem::take(&mut machine.disk));
        let Setup { id, address, seeds, policies, protocol } = machine.setup.clone();
        let me = Member {
            id,
            address,
            life: machine.life,
            incarnation: 0,
            state: MemberState::Alive,
            joined,
            mode: Mode::Normal,
            origin: None,
            policies,
            protocol,
        };
        let known = rows::members(&store).expect("memory");
        machine.store = Some(store);
        machine.table = Some(Membership::load(me, known, seeds, self.timing.clone(), now, &mut machine.dice));
        machine.is_paused = false;
        self.turn(node, |_, _, _| {});
    }

    /// Cuts a node's power.
    pub fn crash(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        machine.table = None;
        machine.waiting.clear();
        machine.assemblers.clear();
        if let Some(store) = machine.store.take() {
            machine.disk = store.power_loss();
        }
        self.set_wakeup(node, None);
    }

    /// Empties the disk of a node that is off.
    pub fn wipe(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        (machine.disk, machine.life, machine.joined) = (Tables::default(), 0, None);
    }

    /// Copies the disk of one machine, with its identity, to another one that is off.
    pub fn clone_disk(&mut self, from: usize, to: usize) {
        let source = &self.machines[from];
        let disk = source.store.as_ref().map_or(&source.disk, Memory::tables).clone();
        let (life, joined) = (source.life, source.joined);
        let target = &mut self.machines[to];
        (target.disk, target.life, target.joined) = (disk, life, joined);
    }

    /// Stops a process with its memory kept.
    pub fn pause(&mut self, node: usize) {
        self.machines[node].is_paused = true;
    }

    /// Lets it run on: the timers that are due come first, then what arrived meanwhile, as in the driver.
    pub fn resume(&mut self, node: usize) {
        self.machines[node].is_paused = false;
        self.turn(node, |_, _, _| {});
        for (from, frame) in std::mem::take(&mut self.machines[node].waiting) {
            self.hear(from, node, frame);
        }
    }

    /// Does something with a table that runs, as a turn of its node.
    pub fn with(&mut self, node: usize, act: impl FnOnce(&mut Membership, Now, &mut Outbox)) {
        self.turn(node, act);
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.at + time;
        self.run_until(until, |_| false);
    }

    /// Lets time pass until something holds, which is looked at after every event; says whether it came.
    pub fn run_until(&mut self, until: Duration, mut holds: impl FnMut(&World) -> bool) -> bool {
        if holds(self) {
            return true;
        }
        loop {
            let frame = self.flying.peek().map(|Reverse((at, ..))| *at);
            let timer = self.wakeups.first().map(|(at, _)| *at);
            let Some(next) = frame.into_iter().chain(timer).min().filter(|next| *next <= until) else {
                self.at = until;
                return holds(self);
            };
            self.at = self.at.max(next);
            if frame.is_some_and(|frame| frame <= next) {
                let Reverse((_, _, from, to, frame)) = self.flying.pop().expect("just looked");
                if self.links.arrives(from, to) {
                    self.hear(from, to, frame);
                }
            } else {
                let (_, node) = *self.wakeups.first().expect("just looked");
                self.turn(node, |_, _, _| {});
            }
            if holds(self) {
                return true;
            }
        }
    }

    /// What a node that runs believes of the member called `id`.
    pub fn state(&self, node: usize, id: &NodeId) -> Option<MemberState> {
        self.machines[node].table.as_ref()?.member(id).map(|member| member.state)
    }

    /// The table of a node that runs.
    pub fn table(&self, node: usize) -> Option<&Membership> {
        self.machines[node].table.as_ref()
    }

    /// Whether every node that runs holds exactly those that run for alive.
    pub fn agrees(&self) -> bool {
        let up: BTreeSet<&NodeId> = self.running().map(|table| &table.me().id).collect();
        self.running().all(|table| {
            let alive =
                table.others().filter(|other| other.state == MemberState::Alive).map(|other| &other.id);
            let alive: BTreeSet<&NodeId> = alive.chain([&table.me().id]).collect();
            alive == up
        })
    }

    /// The tables of the nodes that run.
    pub fn running(&self) -> impl Iterator<Item = &Membership> {
        self.machines.iter().filter_map(|machine| machine.table.as_ref())
    }

    /// How often the logs say `name`.
    pub fn told(&self, name: &str) -> usize {
        self.log.iter().filter(|(_, _, event)| event.name == name).count()
    }

    fn now(&self) -> Now {
        Now { mono: Instant(self.at), wall: START.after(self.at) }
    }

    fn hear(&mut self, from: usize, to: usize, frame: Bytes) {
        let machine = &mut self.machines[to];
        if machine.table.is_none() {
            return;
        }
        if machine.is_paused {
            machine.waiting.push((from, frame));
            return;
        }
        let Ok(Some(message)) = machine.assemblers.entry(from).or_default().push(frame) else { return };
        let from = self.machines[from].setup.id.clone();
        if let Some(watched) = &mut self.watched {
            watched.note(&from, &message);
        }
        self.turn(to, move |table, now, out| react(table, now, &from, message, out));
    }

    fn turn(&mut self, node: usize, act: impl FnOnce(&mut Membership, Now, &mut Outbox)) {
        let now = self.now();
        let machine = &mut self.machines[node];
        if machine.is_paused {
            self.set_wakeup(node, None);
            return;
        }
        let Some(table) = &mut machine.table else { return };
        tick(table, now, &mut machine.dice, &mut machine.out);
        act(table, now, &mut machine.out);
        tick(table, now, &mut machine.dice, &mut machine.out);
        table.take_met();
        let mut batch = Batch::default();
        if table.save(&mut batch) {
            machine.life = table.me().life;
            machine.joined = Some(table.me().joined);
        }
        if !batch.changes.is_empty() {
            let store = machine.store.as_mut().expect("it runs");
            store.apply(batch).and_then(|()| store.persist()).expect("memory");
        }
        let wakeup = table.next_wakeup().map(|at| at.0);
        let addresses = |table: &Membership, id: &NodeId| table.address(id).cloned();
        let mut sends = Vec::new();
        for action in machine.out.take() {
            match action {
                Action::Send(to, message) => {
                    sends.extend(addresses(table, &to).map(|address| (address, message)));
                }
                Action::SendTo(address, message) => sends.push((address, message)),
                Action::Event(event) => self.log.push((self.at, node, event)),
                Action::Reply(..) | Action::Stop => {}
            }
        }
        self.set_wakeup(node, wakeup);
        for (address, message) in sends {
            self.send(node, &address, &message);
        }
    }

    fn send(&mut self, from: usize, to: &Address, message: &Message) {
        self.numbers += 1;
        let frames = wire::encode(message, self.numbers).expect("within the limit");
        self.sent.0 += 1;
        self.sent.1 += frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
        let is_there = |machine: &Machine| machine.setup.address == *to;
        let to = self.machines.iter().position(|machine| is_there(machine) && machine.table.is_some());
        let Some(to) = to else { return };
        for frame in frames {
            for arrival in self.links.fate(self.at, from, to, frame).into_iter().flatten() {
                self.numbers += 1;
                self.flying.push(Reverse((arrival.at, self.numbers, from, to, arrival.frame)));
            }
        }
    }

    fn set_wakeup(&mut self, node: usize, at: Option<Duration>) {
        let old = std::mem::replace(&mut self.machines[node].wakeup, at);
        if let Some(old) = old {
            self.wakeups.remove(&(old, node));
        }
        if let Some(at) = at {
            self.wakeups.insert((at, node));
        }
    }
}

impl Watched {
    fn note(&mut self, from: &NodeId, message: &Message) {
        let is_it =
            |member: &&Member| member.id == self.id && (member.life, member.incarnation) >= self.since;
        let copies = match message {
            Message::Ping { rumours, .. } | Message::Pong { rumours, .. } if *from != self.id => {
                rumours.iter().filter(is_it).count()
            }
            Message::News { rumours, .. } => rumours.iter().filter(is_it).count(),
            Message::Table { members, .. } => members.iter().filter(is_it).count(),
            _ => 0,
        };
        self.copies += copies as u64;
    }
}

fn tick(table: &mut Membership, now: Now, dice: &mut ChaCha8Rng, out: &mut Outbox) {
    if table.next_wakeup().is_some_and(|at| at <= now.mono) {
        table.on_tick(now, 0, dice, out);
    }
}

fn react(table: &mut Membership, now: Now, from: &NodeId, message: Message, out: &mut Outbox) {
    match message {
        Message::Table { members, answer } => table.on_table(now, from, members, (answer, 0), out),
        Message::Ping { nonce, rumours, .. } => table.on_ping(now, from, (nonce, 0), rumours, out),
        Message::Pong { table: theirs, rumours, .. } => table.on_pong(now, from, (theirs, 0), rumours, out),
        Message::News { rumours, unreached } => table.on_news(now, from, rumours, &unreached, 0, out),
        Message::Reach { nonce, target } => table.on_reach(now, from, (nonce, target), 0, out),
        Message::Reached { nonce, target, answered } => {
            table.on_reached(now, from, (nonce, &target), answered, out);
        }
        Message::Refuse { reason } => table.on_refused(from, &reason, out),
        other => panic!("a member table does not say {}", wire::name(&other)),
    }
}

//! The fast world: nodes stepped directly in one thread, on disks in memory.
//!
//! One queue of frames ordered by arrival, and one timer per node. A turn is what the driver's loop makes of it:
//! a tick, then frames, then requests, each a bounded share, one flush. The outputs wait for the disk; until
//! then the node is busy, and what arrives meanwhile is taken together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use reknit::model::{DotSet, Key, NodeId, Reply, Request, RequestId};
use reknit::node::{Input, Node, Output};
use reknit::protocol::wire::{self, Assembler};
use reknit::storage::memory::{Fails, Memory, Tables};
use reknit::storage::{StorageError, Table, rows};

use super::{Order, Played, Stage, State, dies_after};
use crate::check::{self, Dump};
use crate::links::Arrival;
use crate::panics::caught;
use crate::random::{self, Moment};
use crate::scenario::Boundary;

/// Most frames taken in one turn, as in the driver.
const TURN_FRAMES_MAX: usize = 256;
/// Most requests taken in one turn, as in the driver.
const TURN_REQUESTS_MAX: usize = 1024;
/// Most frames that wait for one node; a network drops what comes on top.
const FRAMES_WAITING_MAX: usize = 4096;

/// Lives the stage's story to its end.
pub fn play(mut stage: Stage) -> Played {
    let mut world = FastWorld::new(stage.names());
    loop {
        match stage.next(world.at) {
            Order::Over => break,
            order => world.obey(&mut stage, order),
        }
    }
    let states = world.states(&stage);
    Played { stage, at: world.at, states }
}

struct FastWorld {
    at: Duration,
    ids: Vec<NodeId>,
    machines: Vec<Machine>,
    flying: BinaryHeap<Reverse<Flying>>,
    /// Orders frames that arrive in one instant by when they were sent.
    sent: u64,
}

#[derive(Default)]
struct Machine {
    /// The running node.
    node: Option<Node<Memory>>,
    /// The disk while no node runs on it.
    disk: Tables,
    backup: Option<Tables>,
    assemblers: BTreeMap<usize, Assembler>,
    /// From whom, whether it was damaged on its way, and what.
    frames: VecDeque<(usize, bool, Bytes)>,
    requests: VecDeque<(RequestId, Request)>,
    /// The turn whose outputs wait for the disk.
    busy: Option<Busy>,
    /// When the node wants a tick, in true time.
    wakeup: Option<Duration>,
    is_paused: bool,
    armed: Boundary,
    /// Records that rot as soon as no turn is under way: what that says was true when it was said.
    rots: Vec<Option<Vec<u8>>>,
    message_number: u64,
    /// It has written since somebody looked at its records.
    has_news: bool,
}

struct Busy {
    until: Duration,
    outputs: Vec<Output>,
    /// The power fails once this many outputs are carried out.
    dies: Option<(Boundary, usize)>,
}

/// A frame under way. Ordered by arrival, then by when it was sent.
struct Flying {
    at: Duration,
    number: u64,
    from: usize,
    to: usize,
    is_damaged: bool,
    frame: Bytes,
}

impl PartialEq for Flying {
    fn eq(&self, other: &Flying) -> bool {
        self.number == other.number
    }
}

impl Eq for Flying {}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Flying) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flying {
    fn cmp(&self, other: &Flying) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// What is due next.
enum Due {
    Frame,
    Machine(usize),
}

impl FastWorld {
    fn new(names: &[String]) -> FastWorld {
        let id = |name: &String| NodeId::new(name).expect("the parser checks names");
        FastWorld {
            at: Duration::ZERO,
            ids: names.iter().map(id).collect(),
            machines: names.iter().map(|_| Machine::default()).collect(),
            flying: BinaryHeap::new(),
            sent: 0,
        }
    }

    fn obey(&mut self, stage: &mut Stage, order: Order) {
        match order {
            Order::Until(until) => self.run_until(stage, until),
            Order::Start(node) => self.start(stage, node),
            Order::Crash(node, boundary) => match boundary {
                Boundary::BetweenTurns => self.crash(stage, node, boundary),
                Boundary::BeforePersist
                | Boundary::AfterPersist
                | Boundary::MidSend
                | Boundary::On(_)
                | Boundary::IoError
                | Boundary::DiskFull => self.machines[node].armed = boundary,
            },
            Order::Rot(node, key) => {
                self.machines[node].rots.push(key);
                if self.machines[node].busy.is_none() {
                    self.rot(stage, node);
                }
            }
            Order::Disarm(node) => self.machines[node].armed = Boundary::BetweenTurns,
            Order::Pause(node) => self.machines[node].is_paused = true,
            Order::Resume(node) => {
                self.machines[node].is_paused = false;
                self.take_turns(stage, node);
            }
            Order::Wipe(node) => {
                self.machines[node].disk = Tables::default();
                self.replaced(stage, node);
            }
            Order::Backup(node) => {
                let machine = &mut self.machines[node];
                machine.backup = Some(machine.durable().clone());
            }
            Order::Restore(node) => {
                if let Some(backup) = self.machines[node].backup.clone() {
                    self.machines[node].disk = backup;
                    self.replaced(stage, node);
                }
            }
            Order::Clone { from, to } => {
                self.machines[to].disk = self.machines[from].durable().clone();
                self.replaced(stage, to);
            }
            Order::Ask { node, id, request } => {
                self.machines[node].requests.push_back((RequestId(id), request));
                self.take_turns(stage, node);
            }
            Order::Compare => {
                let agree = self.agree(&stage.core());
                stage.compared(self.at, agree);
            }
            Order::Look => {
                for node in stage.core() {
                    let durable = self.machines[node].durable();
                    stage.inspected(self.at, node, check::inspect(durable));
                    let table = check::memb::table(durable);
                    stage.believes(node, table.expect("a disk in memory does not break"));
                }
                let dumps = stage.core().into_iter().map(|node| (node, self.machines[node].dump()));
                stage.looked(self.at, &dumps.collect());
            }
            Order::Over => unreachable!("the caller ends the run"),
        }
    }

    fn run_until(&mut self, stage: &mut Stage, until: Duration) {
        while let Some((at, due)) = self.next_due().filter(|(at, _)| *at <= until) {
            self.at = self.at.max(at);
            match due {
                Due::Frame => {
                    let Reverse(flying) = self.flying.pop().expect("just looked");
                    self.arrive(stage, flying);
                }
                Due::Machine(node) if self.machines[node].busy.is_some() => self.end_turn(stage, node),
                Due::Machine(node) => self.turn(stage, node),
            }
            if stage.is_cut_short() {
                return;
            }
        }
        self.at = until;
    }

    /// The earliest thing to happen; at equal times frames come first, then machines in their order.
    fn next_due(&self) -> Option<(Duration, Due)> {
        let mut next = self.flying.peek().map(|Reverse(flying)| (flying.at, Due::Frame));
        for (node, machine) in self.machines.iter().enumerate() {
            let Some(at) = machine.due() else { continue };
            if next.as_ref().is_none_or(|(earliest, _)| at < *earliest) {
                next = Some((at, Due::Machine(node)));
            }
        }
        next
    }

    fn arrive(&mut self, stage: &mut Stage, flying: Flying) {
        let Flying { from, to, is_damaged, frame, .. } = flying;
        let machine = &mut self.machines[to];
        let is_heard = machine.node.is_some() && machine.frames.len() < FRAMES_WAITING_MAX;
        if stage.links.arrives(from, to) && is_heard {
            machine.frames.push_back((from, is_damaged, frame));
            self.take_turns(stage, to);
        }
    }

    /// Takes a turn unless the node has to wait for its disk, or does not run.
    fn take_turns(&mut self, stage: &mut Stage, node: usize) {
        let machine = &self.machines[node];
        let is_free = machine.node.is_some() && machine.busy.is_none() && !machine.is_paused;
        if is_free {
            self.turn(stage, node);
        }
    }

    /// One turn: a panic or a broken disk in it is the end of the run.
    fn turn(&mut self, stage: &mut Stage, node: usize) {
        let at = self.at;
        let inputs = self.inputs(stage, node);
        let machine = &mut self.machines[node];
        match caught(|| machine.react(stage, (node, at), inputs)) {
            Ok(Ok(Reaction::Waits)) => {
                if machine.busy.as_ref().is_some_and(|busy| busy.until <= at) {
                    self.end_turn(stage, node);
                }
            }
            Ok(Ok(Reaction::Dies)) => self.crash(stage, node, Boundary::BeforePersist),
            // The disk failed as was ordered, and the process ends of it.
            Ok(Err(_)) if matches!(machine.armed, Boundary::IoError | Boundary::DiskFull) => {
                let boundary = machine.armed;
                self.crash(stage, node, boundary);
            }
            Ok(Err(error)) => stage.broke(at, node, error.to_string()),
            Err(panic) => stage.broke(at, node, panic),
        }
    }

    fn inputs(&mut self, stage: &mut Stage, node: usize) -> Vec<Input> {
        let machine = &mut self.machines[node];
        let mut inputs = Vec::with_capacity(1 + machine.frames.len() + machine.requests.len());
        inputs.push(Input::Tick);
        for _ in 0..machine.frames.len().min(TURN_FRAMES_MAX) {
            let (from, is_damaged, frame) = machine.frames.pop_front().expect("counted");
            let pushed = machine.assemblers.entry(from).or_default().push(frame);
            if is_damaged && pushed.is_ok() {
                stage.took_damaged(self.at, from, node);
            }
            match pushed {
                Ok(Some(message)) => inputs.push(Input::Message { from: self.ids[from].clone(), message }),
                Ok(None) => {}
                Err(_) => stage.rejected(self.at, from, node),
            }
        }
        for _ in 0..machine.requests.len().min(TURN_REQUESTS_MAX) {
            let (id, request) = machine.requests.pop_front().expect("counted");
            inputs.push(Input::Request { id, request });
        }
        inputs
    }

    /// The disk is done: carries the outputs out, and goes on with what came meanwhile.
    fn end_turn(&mut self, stage: &mut Stage, node: usize) {
        let Some(Busy { outputs, dies, .. }) = self.machines[node].busy.take() else { return };
        if stage.turned(self.at, node) && std::mem::take(&mut self.machines[node].has_news) {
            stage.holds(self.at, node, &self.machines[node].dump());
        }
        let count = dies.map_or(outputs.len(), |(_, count)| count);
        for output in outputs.into_iter().take(count) {
            if self.carry_out(stage, node, output) {
                let machine = &mut self.machines[node];
                machine.disk = machine.power_off();
                stage.left(self.at, node);
                return;
            }
        }
        if let Some((node, news)) = stage.take_collecting() {
            let covered = self.machines.iter().map(Machine::covered).enumerate();
            let known =
                check::members(self.machines[node].durable()).expect("a disk in memory does not break");
            stage.judge_collection(self.at, (node, &news), &known, covered);
        }
        if let Some((boundary, _)) = dies {
            self.crash(stage, node, boundary);
            return;
        }
        self.rot(stage, node);
        let machine = &self.machines[node];
        let has_input = !machine.frames.is_empty() || !machine.requests.is_empty();
        if has_input && !machine.is_paused {
            self.turn(stage, node);
        }
    }

    /// Returns whether the node wants to stop.
    fn carry_out(&mut self, stage: &mut Stage, node: usize, output: Output) -> bool {
        stage.said(self.at, node, &output);
        match output {
            Output::Send { to, message } => {
                let machine = &mut self.machines[node];
                machine.message_number = machine.message_number.wrapping_add(1);
                let frames = wire::encode(&message, machine.message_number);
                for frame in frames.expect("a node keeps its messages within the limit") {
                    let Some((to, arrivals)) = stage.frame(self.at, node, &to, frame) else { continue };
                    for arrival in arrivals.into_iter().flatten() {
                        self.sent += 1;
                        let Arrival { at, frame, is_damaged } = arrival;
                        let flying = Flying { at, number: self.sent, from: node, to, is_damaged, frame };
                        self.flying.push(Reverse(flying));
                    }
                }
            }
            Output::Reply { id, reply } => self.reply(stage, id, &reply),
            Output::Event(_) => {}
            Output::Stop => return true,
        }
        false
    }

    fn reply(&self, stage: &mut Stage, id: RequestId, reply: &Reply) {
        stage.answered(self.at, id.0, reply);
    }

    fn start(&mut self, stage: &mut Stage, node: usize) {
        let birth = stage.birth(self.at, node);
        let now = stage.now(node, self.at);
        let machine = &mut self.machines[node];
        let store = Memory::new(std::mem::take(&mut machine.disk));
        match caught(|| Node::open(store, birth.settings, birth.dice, now)) {
            Ok(Ok(mut opened)) => {
                machine.message_number = opened.draw();
                machine.node = Some(opened);
                self.turn(stage, node);
            }
            Ok(Err(error)) => stage.broke(self.at, node, error.to_string()),
            Err(panic) => stage.broke(self.at, node, panic),
        }
    }

    fn crash(&mut self, stage: &mut Stage, node: usize, boundary: Boundary) {
        let machine = &mut self.machines[node];
        machine.disk = machine.power_off();
        let left = machine.dump();
        stage.crashed(self.at, node, boundary, &left);
    }

    /// Flips a bit of each record that is to rot.
    fn rot(&mut self, stage: &mut Stage, node: usize) {
        for wanted in std::mem::take(&mut self.machines[node].rots) {
            let mut dice = Moment::new(random::key(stage.seed(), "rot"), self.at, node as u64);
            let machine = &mut self.machines[node];
            let tables = match &mut machine.node {
                Some(node) => node.store_mut().tables_mut(),
                None => &mut machine.disk,
            };
            let rows = tables.rows_mut(Table::Records);
            let place = dice.below(rows.len().max(1) as u64) as usize;
            let drawn = || rows.keys().nth(place).cloned();
            let Some(key) = wanted.or_else(drawn) else { continue };
            // What lies apart from the record of a key rots as well.
            let mut places = vec![(Table::Records, key.clone())];
            for table in [Table::Versions, Table::Bodies] {
                let all = tables.rows(table).keys();
                places.extend(
                    all.filter(|place| rows::is_of(table, place, &key)).map(|place| (table, place.clone())),
                );
            }
            let (table, place) = places.swap_remove(dice.below(places.len() as u64) as usize);
            let rows = tables.rows_mut(table);
            let Some(value) = rows.get_mut(&place).filter(|value| !value.is_empty()) else { continue };
            let at = dice.below(value.len() as u64) as usize;
            value[at] ^= 1 << dice.below(8);
            let key = Key::new(key).expect("only keys have records");
            let others = (0..self.machines.len()).filter(|&other| other != node);
            let others = others.map(|other| (other, self.machines[other].dump())).collect();
            stage.disk_rotted(self.at, node, key, &self.machines[node].dump(), others);
        }
    }

    fn replaced(&self, stage: &mut Stage, node: usize) {
        let others = (0..self.machines.len()).filter(|&other| other != node);
        let others = others.map(|other| (other, self.machines[other].dump())).collect();
        stage.disk_replaced(self.at, node, &self.machines[node].dump(), others);
    }

    fn agree(&self, nodes: &[usize]) -> bool {
        let records = |node: &usize| self.machines[*node].durable().rows(Table::Records);
        let is_same = nodes.windows(2).all(|pair| records(&pair[0]) == records(&pair[1]));
        let dumps = || nodes.iter().map(|&node| (self.ids[node].to_string(), self.machines[node].dump()));
        is_same || check::conv::agree(&dumps().collect())
    }

    fn states(&self, stage: &Stage) -> Vec<State> {
        let state = |(node, machine): (usize, &Machine)| State {
            node: stage.names()[node].clone(),
            state: stage.state(node),
            records: machine.durable().rows(Table::Records).len(),
            root: hash(machine.durable(), Table::Records),
            seen: hash(machine.durable(), Table::Seen),
        };
        self.machines.iter().enumerate().map(state).collect()
    }
}

/// What a turn leads to at once.
enum Reaction {
    /// The outputs wait for the disk.
    Waits,
    /// The power fails before anything is durable.
    Dies,
}

impl Machine {
    /// When the machine has something to do by itself.
    fn due(&self) -> Option<Duration> {
        match &self.busy {
            Some(busy) => Some(busy.until),
            None if self.is_paused => None,
            None => self.wakeup,
        }
    }

    fn react(
        &mut self,
        stage: &mut Stage,
        (place, at): (usize, Duration),
        inputs: Vec<Input>,
    ) -> Result<Reaction, StorageError> {
        let node = self.node.as_mut().expect("only nodes that run have turns");
        let now = stage.now(place, at);
        let fails = match self.armed {
            Boundary::IoError => Some(Fails::AtPersist),
            Boundary::DiskFull => Some(Fails::AtApply),
            _ => None,
        };
        node.store_mut().set_fails(fails);
        for input in inputs {
            node.handle(now, input)?;
        }
        if node.next_wakeup().is_some_and(|wakeup| wakeup <= now.mono) {
            node.handle(now, Input::Tick)?;
        }
        let writes = node.store().is_dirty();
        self.has_news |= writes;
        if writes && self.armed == Boundary::BeforePersist {
            return Ok(Reaction::Dies);
        }
        node.store_mut().set_persist_takes(stage.turn_takes(place, at, true));
        let flushed = node.flush(now)?;
        let takes = flushed.persist_takes.max(stage.turn_takes(place, at, false));
        let wakeup = node.next_wakeup();
        assert!(wakeup.is_none_or(|wakeup| wakeup > now.mono), "every timer that was due has fired");
        self.wakeup = wakeup.map(|wakeup| stage.when(place, wakeup));
        let outputs = flushed.outputs;
        let dies = match self.armed {
            Boundary::AfterPersist if writes => Some((Boundary::AfterPersist, 0)),
            armed => dies_after(armed, &outputs).map(|count| (armed, count)),
        };
        stage.turn_lasts(place, at + takes);
        self.busy = Some(Busy { until: at + takes, outputs, dies });
        Ok(Reaction::Waits)
    }

    /// Ends the node without another word; what its disk has made durable is left.
    fn power_off(&mut self) -> Tables {
        self.busy = None;
        self.wakeup = None;
        self.is_paused = false;
        self.armed = Boundary::BetweenTurns;
        self.frames.clear();
        self.requests.clear();
        self.assemblers.clear();
        match self.node.take() {
            Some(node) => node.into_store().power_loss(),
            None => std::mem::take(&mut self.disk),
        }
    }

    /// What a power loss would leave. Between turns nothing is applied that is not durable, or the node is wrong.
    fn durable(&self) -> &Tables {
        self.node.as_ref().map_or(&self.disk, |node| node.store().tables())
    }

    /// The dots that its disk covers, or was held against.
    fn covered(&self) -> DotSet {
        check::covered(self.durable()).expect("a disk in memory does not break")
    }

    fn dump(&self) -> Dump {
        check::dump(self.durable()).expect("a disk in memory does not break")
    }
}

fn hash(tables: &Tables, table: Table) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
    for (key, value) in tables.rows(table) {
        hasher.update(&(key.len() as u64).to_le_bytes());
        hasher.update(key);
        hasher.update(&(value.len() as u64).to_le_bytes());
        hasher.update(value);
    }
    hasher.digest()
}

#[cfg(test)]
#[path = "fast_tests.rs"]
mod tests;

//! The stage: surroundings, script, clients and judges of one run. No world's own business is in here.
//!
//! Everything it does is a function of the scenario, the seed and what the world tells it, in that order.

mod phases;
mod steps;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reknit::model::{
    Address, Dot, DotSet, Instant, Key, NodeId, Now, Refusal, Reply, Stamp, Token, WallTime,
};
use reknit::node::{Output, Settings};
use reknit::protocol::{Message, wire};

use super::asks::{self, Expected};
use super::observe::Observer;
use super::{Ending, Order, settings};
use crate::check::clock::ClockBounds;
use crate::check::memb::{self, Minds, Sayings, Truth};
use crate::check::{Dump, Phase, Site, Violation, promises, wire as wire_check};
use crate::clocks::{MachineClock, START_MILLIS};
use crate::ghost::{Ghost, OpId};
use crate::links::{Arrival, Links};
use crate::random::{self, Moment, nanos};
use crate::scenario::{Boundary, Draw, OnCrash, Point, Scenario, Step};
use crate::trace::{Event, Fact, Trace, level_word};
use phases::{Look, Part};

/// Of how many messages one is taken through the wire once more.
const WIRE_EVERY: u64 = 32;
/// How much longer a persist takes now and then.
const SPIKE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(2);
/// What a turn of a machine takes for every time that it is as slow again.
const SLOW_TURN: Duration = Duration::from_millis(1);
/// For how many probes after two nodes met a stream between them belongs to that.
const MEETING_PROBES: u32 = 5;
/// How long after the one before each node starts.
const START_APART: Duration = Duration::from_millis(100);

/// Everything around the nodes of one run.
#[derive(Debug)]
pub struct Stage {
    /// What carries their frames.
    pub links: Links,
    /// What they read the time from.
    pub clocks: Vec<MachineClock>,
    /// What happened.
    pub trace: Trace,
    scenario: Scenario,
    seed: u64,
    until: Option<Duration>,
    names: Vec<String>,
    settings: Vec<Settings>,
    by_address: BTreeMap<Address, usize>,
    machines: Vec<Machine>,
    disks: Vec<Disk>,
    ghost: Ghost,
    /// What the checks of this file found; the ghost has its own.
    violations: Vec<Violation>,
    /// The starts and the timeline, in order; `cursor` is the next one.
    script: Vec<(Duration, Cue)>,
    cursor: usize,
    /// Orders for this very moment.
    todo: VecDeque<Order>,
    part: Part,
    /// Why the looks that were ordered were ordered, in their order.
    looks: VecDeque<Look>,
    converged_after: Option<Duration>,
    asks: BTreeMap<u64, Asked>,
    /// By key, what its last reader was told.
    tokens: BTreeMap<Vec<u8>, Token>,
    asked: u64,
    unreachable: u64,
    frame_bytes: u64,
    frames: u64,
    data_frames: u64,
    /// Streams that were asked for since the idle time began.
    pulls: u64,
    /// When two nodes last told each other that they meet.
    met: BTreeMap<(usize, usize), Duration>,
    /// What nodes have said of each other.
    sayings: Sayings,
    /// What they have changed their minds about since all is well.
    minds: Minds,
    /// The member tables of the last look.
    tables: BTreeMap<NodeId, memb::Table>,
    /// Since when nothing has kept nodes from reaching each other, once the faults are over.
    calm_since: Option<Duration>,
    is_broken: bool,
    /// Messages that left nodes.
    messages: u64,
    /// Somebody may want the run to end.
    stop: Option<Arc<AtomicBool>>,
    /// Nobody wants to know what breaks after the first promise did.
    stops_at_first: bool,
    /// By when nothing is left to collect.
    drained_by: Duration,
    /// When a node last said that it collected something.
    collected_at: Duration,
    /// What anybody is known to have collected.
    collected: DotSet,
    /// Who just said that it collected what nobody had before.
    collecting: Option<(usize, DotSet)>,
    /// Somebody wants to know more than what happens.
    pub(super) observer: Option<Observer>,
}

/// One machine, as far as the stage must know.
#[derive(Clone, Debug, Default)]
struct Machine {
    power: Power,
    is_paused: bool,
    /// A crash was ordered and has not come about.
    is_armed: bool,
    /// An operator had it forgotten.
    is_removed: bool,
    /// It is cut off when it says this.
    isolated_on: Option<Point>,
    /// Its disk was replaced, so what others know of it need not be true of it any more.
    is_replaced: bool,
    starts: u64,
    started: Duration,
    /// When the turn that it began last ends.
    busy_until: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Power {
    #[default]
    Never,
    On,
    Off,
    Left,
}

#[derive(Clone, Debug)]
struct Disk {
    key: u64,
    persist: RangeInclusive<Duration>,
    spikes: f64,
    /// How many times as slow as usual the whole machine is.
    slow: u32,
}

#[derive(Clone, Debug)]
enum Cue {
    Start(usize),
    Step(Step),
}

/// A request under way.
#[derive(Clone, Debug)]
struct Asked {
    node: usize,
    key: Option<Key>,
    expected: Expected,
    removes: Option<usize>,
    /// The latest that its node's wall clock showed since it was asked.
    wall: WallTime,
}

/// What a node is born with.
#[derive(Clone, Debug)]
pub struct Birth {
    /// What it is told.
    pub settings: Settings,
    /// What its dice begin with.
    pub dice: [u8; 32],
}

impl Stage {
    /// Sets the stage for `scenario` with every draw from `seed`; `until` ends the run early.
    pub fn new(scenario: &Scenario, seed: u64, until: Option<Duration>, trace: Trace) -> Stage {
        let names: Vec<String> = scenario.all_nodes().cloned().collect();
        let settings = settings::settings(scenario);
        let addresses = settings.iter().enumerate();
        let by_address = addresses.map(|(node, settings)| (settings.address.clone(), node)).collect();
        let clock = |name: &String| {
            let own = scenario.clocks.nodes.iter().find(|(node, _)| node == name);
            let model = own.map_or(&scenario.clocks.all, |(_, model)| model);
            MachineClock::new(model, seed, name)
        };
        let clocks: Vec<MachineClock> = names.iter().map(clock).collect();
        let observer = trace.is_looked_at_closely().then(|| Observer::new(names.len()));
        let mut ghost = Ghost::new();
        ghost.set_clock_bounds(clock_bounds(scenario, &settings));
        ghost.set_policies(scenario.config.policies.clone());
        Stage {
            links: Links::new(&scenario.network, &names, seed),
            clocks,
            trace,
            seed,
            until,
            by_address,
            machines: vec![Machine::default(); names.len()],
            disks: names.iter().map(|name| disk(scenario, seed, name)).collect(),
            ghost,
            violations: Vec::new(),
            script: script(scenario),
            cursor: 0,
            todo: VecDeque::new(),
            part: Part::Faults,
            looks: VecDeque::new(),
            converged_after: None,
            asks: BTreeMap::new(),
            tokens: BTreeMap::new(),
            asked: 0,
            unreachable: 0,
            frame_bytes: 0,
            frames: 0,
            data_frames: 0,
            pulls: 0,
            met: BTreeMap::new(),
            sayings: Sayings::default(),
            minds: Minds::default(),
            tables: BTreeMap::new(),
            calm_since: None,
            is_broken: false,
            messages: 0,
            stop: None,
            stops_at_first: false,
            drained_by: Duration::ZERO,
            collected_at: Duration::ZERO,
            collected: DotSet::default(),
            collecting: None,
            observer,
            scenario: scenario.clone(),
            names,
            settings,
        }
    }

    /// Ends the run, without a verdict, as soon as `stop` is raised.
    pub fn stop_at(&mut self, stop: Arc<AtomicBool>) {
        self.stop = Some(stop);
    }

    /// Ends the run after the first broken promise.
    pub fn stop_at_first(&mut self) {
        self.stops_at_first = true;
    }

    /// Whether the run is to end here, whatever comes next in the story.
    pub fn is_cut_short(&self) -> bool {
        let is_stopped = self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
        let has_broken = || !self.violations.is_empty() || !self.ghost.violations().is_empty();
        self.is_broken || is_stopped || self.stops_at_first && has_broken()
    }

    /// What every draw of the run comes from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What a crash does to what was not persisted.
    pub fn on_crash(&self) -> OnCrash {
        self.scenario.disks.on_crash
    }

    /// The names of all nodes; their places are their numbers.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of the node that listens at `address`.
    pub fn node_at(&self, address: &Address) -> Option<usize> {
        self.by_address.get(address).copied()
    }

    /// The nodes that are judged together: those that are on, left out what an operator had forgotten.
    pub fn core(&self) -> Vec<usize> {
        let is_core = |machine: &Machine| machine.power == Power::On && !machine.is_removed;
        (0..self.machines.len()).filter(|&node| is_core(&self.machines[node])).collect()
    }

    /// Whether a node has power.
    pub fn is_on(&self, node: usize) -> bool {
        self.machines[node].power == Power::On
    }

    /// The word for what a node does at present.
    pub fn state(&self, node: usize) -> &'static str {
        let machine = &self.machines[node];
        match machine.power {
            Power::Never => "never started",
            Power::On if machine.is_paused => "paused",
            Power::On => "up",
            Power::Off => "down",
            Power::Left => "left",
        }
    }

    /// What a node reads from its clocks.
    pub fn now(&self, node: usize, at: Duration) -> Now {
        self.clocks[node].now(at, self.machines[node].started)
    }

    /// When a node's timer for `mono` is due, in true time.
    pub fn when(&self, node: usize, mono: Instant) -> Duration {
        self.clocks[node].when(mono, self.machines[node].started)
    }

    /// How long a turn of a node takes at this moment, which writes or does not.
    pub fn turn_takes(&self, node: usize, at: Duration, writes: bool) -> Duration {
        let disk = &self.disks[node];
        let mut dice = Moment::new(disk.key, at, 0);
        let (persist, spikes, spike) =
            (dice.within(&disk.persist), dice.happens(disk.spikes), dice.within(&SPIKE));
        let persist = if writes { persist * disk.slow } else { Duration::ZERO };
        let spike = if writes && spikes { spike } else { Duration::ZERO };
        persist + spike + SLOW_TURN * (disk.slow - 1)
    }

    /// A turn of a node has begun, and lasts until then: a fault that slowed it down ends no sooner.
    pub fn turn_lasts(&mut self, node: usize, until: Duration) {
        self.machines[node].busy_until = until;
    }

    /// What becomes of a frame: where it goes, and its copies on their way.
    pub fn frame(
        &mut self,
        at: Duration,
        from: usize,
        to: &Address,
        frame: Bytes,
    ) -> Option<(usize, [Option<Arrival>; 2])> {
        let to = self.node_at(to)?;
        self.frame_bytes += frame.len() as u64;
        self.frames += 1;
        self.data_frames += u64::from(wire::is_data(&frame));
        let (bytes, kind, sum) = (frame.len(), frame_kind(&frame), frame_sum(&frame));
        let looked_at = self.observer.as_ref().map(|_| frame.clone());
        let arrivals = self.links.fate(at, from, to, frame);
        let when = |arrival: &Option<Arrival>| arrival.as_ref().map(|arrival| nanos(arrival.at));
        let arrives = (when(&arrivals[0]), when(&arrivals[1]));
        self.trace.record(at, Some(from), &Event::Send { to, kind, bytes, sum, arrives });
        if let Some(frame) = looked_at {
            self.look_into(at, (from, to), frame, &arrivals[0]);
        }
        Some((to, arrivals))
    }

    /// A frame came that the wire rejects.
    pub fn rejected(&mut self, at: Duration, from: usize, to: usize) {
        self.trace.record(at, Some(to), &Event::Reject { from });
    }

    /// A node's output leaves it. Answers are not meant: they go to [`Stage::answered`].
    pub fn said(&mut self, at: Duration, node: usize, output: &Output) {
        if self.machines[node].isolated_on.is_some_and(|point| point.is_met_by(output)) {
            let point = self.machines[node].isolated_on.take().expect("just looked");
            self.links.isolate(node);
            let deed = format!("isolate {} on {point}", self.names[node]);
            self.trace.record(at, None, &Event::Links { deed: &deed });
            self.tell_cuts(at);
        }
        match output {
            Output::Send { to, message } => {
                self.judge_wire(at, node, message);
                let said = if let Message::Within { data, .. } = message { data } else { message };
                self.count_pull(at, (node, to), said);
                if let Message::Meet { collected, .. } = message {
                    let news = collected.told().minus(&self.collected);
                    if !news.is_empty() {
                        self.collected.union(&news);
                        self.collecting = Some((node, news));
                    }
                }
                if let Some((code, text)) = self.sayings.said(node, &self.names[node], message) {
                    self.broken(code, Site::Message, at, Some(node), None, text);
                }
                self.ghost.sent(at, &self.names[node], message);
            }
            Output::Event(event) => {
                if ["collected", "history-truncated"].contains(&event.name) {
                    self.collected_at = at;
                }
                let level = level_word(event.level);
                let line = Event::Log { level, name: event.name, text: &event.text };
                self.trace.record(at, Some(node), &line);
                self.ghost.event(at, &self.names[node], event);
                if self.is_calm(at, node) {
                    self.judge_mind(at, node, event);
                }
            }
            Output::Reply { .. } | Output::Stop => {}
        }
    }

    /// Judges some of the messages: a codec that is wrong is wrong often.
    fn judge_wire(&mut self, at: Duration, node: usize, message: &Message) {
        self.messages += 1;
        if self.messages % WIRE_EVERY == 1
            && let Some(text) = wire_check::judge(message)
        {
            self.broken("WIRE", Site::Message, at, Some(node), None, text);
        }
    }

    /// A node took a frame that was damaged on its way.
    pub fn took_damaged(&mut self, at: Duration, from: usize, to: usize) {
        let text = format!("took a damaged frame of {}", self.names[from]);
        self.broken("WIRE", Site::Message, at, Some(to), None, text);
    }

    /// Who has just collected what nobody had before, if somebody has: the world shows the sets of all disks then.
    pub fn take_collecting(&mut self) -> Option<(usize, DotSet)> {
        self.collecting.take()
    }

    /// What each disk covers, at the moment of a collection, and whom the collector knows. Members whose disks were
    /// replaced, or that came later, are what the check at each meeting is for, and of whom all disks that knew
    /// were destroyed nobody can know; all others must have covered every delete.
    pub fn judge_collection(
        &mut self,
        at: Duration,
        (node, news): (usize, &DotSet),
        known: &BTreeSet<String>,
        covered: impl Iterator<Item = (usize, DotSet)>,
    ) {
        for (member, covered) in covered {
            let Machine { power, is_removed, is_replaced, .. } = self.machines[member];
            let counts = matches!(power, Power::On | Power::Off) && !is_removed && !is_replaced;
            let is_known = known.contains(&self.names[member]);
            if counts && is_known && member < self.scenario.nodes.len() {
                self.ghost.collected(at, &self.names[node], news, (&self.names[member], &covered));
            }
        }
    }

    /// A request is answered.
    pub fn answered(&mut self, at: Duration, id: u64, reply: &Reply) {
        if let Some(asked) = self.asks.get(&id) {
            self.ghost.clocked(OpId(id), asked.wall.max(self.now(asked.node, at).wall));
        }
        self.ghost.answered(at, OpId(id), reply);
        let Some(asked) = self.asks.remove(&id) else { return };
        if let (Reply::Siblings { token, .. }, Some(key)) = (reply, &asked.key) {
            self.tokens.insert(key.as_bytes().to_vec(), token.clone());
        }
        let name = name_of(reply);
        let stamp = name.map(|(stamp, _)| (stamp.millis, stamp.counter));
        let dot = name.map(|(_, dot)| (dot.origin.0, dot.seq));
        let status = asks::status(reply);
        self.trace.record(at, Some(asked.node), &Event::Answer { id, status, stamp, dot });
        if self.observer.is_some() {
            self.trace.tell(at, Some(asked.node), &Fact::Says { id, text: &asks::shown(reply) });
        }
        if let Some(removed) = asked.removes.filter(|_| *reply == Reply::Done) {
            self.machines[removed].is_removed = true;
        }
        if let Some(text) = asked.expected.judge(Some(reply)) {
            self.broken(asked.expected.code(), Site::Reply, at, Some(asked.node), asked.key, text);
        }
    }

    /// A node starts: what it is born with. Its clocks count from now on.
    pub fn birth(&mut self, at: Duration, node: usize) -> Birth {
        let machine = &mut self.machines[node];
        machine.starts += 1;
        machine.started = at;
        machine.power = Power::On;
        (machine.is_paused, machine.is_armed, machine.is_removed) = (false, false, false);
        let (start, name) = (machine.starts, &self.names[node]);
        if start > 1 {
            self.ghost.restarted(at, name);
            self.sayings.restarted(node, name);
        }
        self.calm_since = self.calm_since.map(|_| at);
        self.minds.forget();
        self.trace.record(at, Some(node), &Event::Start { start });
        let dice = random::bytes(self.seed, &format!("node/{name}/start/{start}"));
        let mut settings = self.settings[node].clone();
        // Quirks are troubles, and end with them.
        settings.quirks.until = Instant(self.scenario.end().saturating_sub(at));
        Birth { settings, dice }
    }

    /// A node's power failed; `left` is what its disk holds.
    pub fn crashed(&mut self, at: Duration, node: usize, boundary: Boundary, left: &Dump) {
        let machine = &mut self.machines[node];
        machine.power = Power::Off;
        (machine.is_paused, machine.is_armed, machine.busy_until) = (false, false, Duration::ZERO);
        self.minds.forget();
        self.trace.record(at, Some(node), &Event::Crash { boundary: boundary_word(boundary) });
        self.lose_asks(at, node);
        self.holds(at, node, left);
        self.ghost.dumped(at, &self.names[node], left);
    }

    /// A node left its cluster, and its process ended.
    pub fn left(&mut self, at: Duration, node: usize) {
        self.machines[node].power = Power::Left;
        self.trace.record(at, Some(node), &Event::Left);
        self.lose_asks(at, node);
    }

    /// Counts streams that are asked for; but a new meeting begins with one, and a meeting may be opened late: nobody
    /// notices that the message that opens it was lost before there is something to say.
    fn count_pull(&mut self, at: Duration, (node, to): (usize, &Address), said: &Message) {
        let Some(peer) = self.node_at(to) else { return };
        let pair = (node.min(peer), node.max(peer));
        match said {
            Message::Meet { .. } => drop(self.met.insert(pair, at)),
            Message::Pull { .. } => {
                let patience = self.slowest_timing().probe_interval * MEETING_PROBES;
                let is_new = self.met.get(&pair).is_some_and(|met| at < *met + patience);
                self.pulls += u64::from(!is_new);
            }
            _ => {}
        }
    }

    /// The wall clock of a node is set, or was just set: what it shows counts for all that was asked of the node.
    fn read_clock(&mut self, at: Duration, node: usize) {
        let wall = self.now(node, at).wall;
        let asks = self.asks.values_mut().filter(|asked| asked.node == node);
        asks.for_each(|asked| asked.wall = asked.wall.max(wall));
    }

    /// Whether nothing has kept nodes from reaching each other for so long that suspicions from before have ended.
    fn is_calm(&self, at: Duration, node: usize) -> bool {
        let bound = memb::calm_after(&self.settings[node].timing);
        self.calm_since.is_some_and(|since| at >= since + bound)
    }

    /// A node said something while all is well. If it is about a member, its text begins with the name; then it must be
    /// true, and not change all the time.
    fn judge_mind(&mut self, at: Duration, node: usize, event: &reknit::node::Event) {
        let named = self.names.iter().position(|name| event.text.split(' ').next() == Some(name));
        if let Some(named) = named.filter(|_| event.name == "member-down") {
            let calm = self.calm_since.and_then(|since| at.checked_sub(since));
            let timing = &self.settings[node].timing;
            let broken = memb::judge_death(&self.names[named], self.is_on(named), calm, timing);
            if let Some((code, text)) = broken {
                self.broken(code, Site::Log, at, Some(node), None, text);
            }
        }
        if let Some((code, text)) = self.minds.changed(node, event.name, &event.text) {
            self.broken(code, Site::Log, at, Some(node), None, text);
        }
    }

    /// The member table on the disk of a node of [`Stage::core`]; all of them come before a look is judged.
    pub fn believes(&mut self, node: usize, table: memb::Table) {
        self.tables.insert(self.settings[node].id.clone(), table);
    }

    /// Judges the member tables that the last look has shown.
    fn judge_tables(&mut self, at: Duration, phase: Phase) {
        let tables = std::mem::take(&mut self.tables);
        // Whoever probes may be busy for as long as whoever is probed.
        let patience = self.hastiest_timing().probe_interval / 2;
        let is_slow = self.disks.iter().any(|disk| *disk.persist.end() >= patience);
        let truth = |(node, machine): (usize, &Machine)| {
            let truth = match machine.power {
                Power::On if machine.is_removed => Truth::Unjudged,
                Power::On if is_slow => Truth::LivesSlowly,
                Power::On => Truth::Lives,
                Power::Off if !machine.is_removed => Truth::Off,
                Power::Off | Power::Left | Power::Never => Truth::Gone,
            };
            (self.settings[node].id.clone(), truth)
        };
        let truth = self.machines.iter().enumerate().map(truth).collect();
        for (holder, (code, text)) in memb::judge(&tables, &truth) {
            let node = self.names.iter().position(|name| name == holder.as_str());
            self.broken(code, Site::Phase(phase), at, node, None, text);
        }
    }

    /// A disk now holds `records`; `others` are all other disks by node.
    pub fn disk_replaced(&mut self, at: Duration, node: usize, records: &Dump, others: Vec<(usize, Dump)>) {
        self.machines[node].is_replaced = true;
        self.holds(at, node, records);
        self.sayings.forget(node);
        let names = &self.names;
        let others: Vec<(&str, Dump)> =
            others.into_iter().map(|(other, dump)| (names[other].as_str(), dump)).collect();
        self.ghost.disk_replaced(at, &names[node], records, &others);
    }

    /// A record on a node's disk no longer is what it was; `records` are those that are sound, `others` those of all
    /// other disks by node.
    pub fn disk_rotted(
        &mut self,
        at: Duration,
        node: usize,
        key: Key,
        records: &Dump,
        others: Vec<(usize, Dump)>,
    ) {
        self.ghost.rotted(&self.names[node], key);
        self.disk_replaced(at, node, records, others);
    }

    /// A node ended in a way that no node may: a panic, a disk that failed. The run ends here.
    pub fn broke(&mut self, at: Duration, node: usize, text: String) {
        self.broken("CRASH", Site::Log, at, Some(node), None, text);
        self.is_broken = true;
    }

    /// The end: everything that is to be told.
    ///
    /// # Errors
    /// The trace's lines could not be written.
    pub fn finish(mut self, at: Duration) -> std::io::Result<Ending> {
        let mut violations = self.violations;
        for violation in self.ghost.violations() {
            let event = Event::Broken { code: violation.code, text: &violation.text };
            let node = violation.node.as_ref().and_then(|name| self.names.iter().position(|n| n == name));
            self.trace.record(violation.at, node, &event);
        }
        violations.extend_from_slice(self.ghost.violations());
        violations.sort_by_key(|violation| violation.at);
        let links = self.links.counts;
        let own = [
            ("frames_sent", links.sent),
            ("frames_lost", links.lost),
            ("frames_cut", links.cut),
            ("frames_duplicated", links.duplicated),
            ("frames_corrupted", links.corrupted),
            ("frames_late", links.tail),
            ("frames_clogged", links.clogged),
            ("frames_overflowed", links.overflowed),
            ("frame_bytes", self.frame_bytes),
            ("data_frames", self.data_frames),
            ("requests", self.asked),
            ("requests_unreachable", self.unreachable),
        ];
        let own = own.into_iter().map(|(name, count)| (name.to_owned(), count));
        let seen = self.ghost.counts().into_iter().map(|(name, count)| (name.to_owned(), count));
        Ok(Ending {
            is_complete: matches!(self.part, Part::Over) && !self.is_broken,
            converged_after: self.converged_after,
            counts: own.chain(seen).collect(),
            events: self.trace.events(),
            trace_hash: self.trace.finish()?,
            virtual_time: at,
            violations,
        })
    }

    fn broken(
        &mut self,
        code: &'static str,
        site: Site,
        at: Duration,
        node: Option<usize>,
        key: Option<Key>,
        text: String,
    ) {
        debug_assert!(promises::is_known(code), "{code} is no promise");
        self.trace.record(at, node, &Event::Broken { code, text: &text });
        if self.violations.len() < crate::ghost::VIOLATIONS_MAX {
            let node = node.map(|node| self.names[node].clone());
            self.violations.push(Violation { code, site, at, node, key, text });
        }
    }

    /// Nobody will answer what was asked of a node that is off now.
    fn lose_asks(&mut self, at: Duration, node: usize) {
        let of_node = |asked: &Asked| asked.node == node;
        let lost: Vec<u64> =
            self.asks.iter().filter(|(_, asked)| of_node(asked)).map(|(id, _)| *id).collect();
        for id in lost {
            let asked = self.asks.remove(&id).expect("just looked");
            self.ghost.lost(at, OpId(id));
            self.trace.record(at, Some(node), &Event::NoAnswer { id });
            if let Some(text) = asked.expected.judge(None) {
                self.broken(asked.expected.code(), Site::Reply, at, Some(node), asked.key, text);
            }
        }
    }
}

/// What kind of message a frame belongs to, by its kind byte.
fn frame_kind(frame: &[u8]) -> &'static str {
    const KIND_AT: usize = 8;
    frame.get(KIND_AT).map_or("unknown", |kind| wire::name_of(*kind))
}

/// The checksum that a frame carries of all its other bytes.
fn frame_sum(frame: &[u8]) -> u64 {
    let sum = frame.get(9..17).and_then(|sum| sum.try_into().ok());
    sum.map_or(0, u64::from_le_bytes)
}

fn script(scenario: &Scenario) -> Vec<(Duration, Cue)> {
    let starts = (0..scenario.nodes.len()).map(|node| (START_APART * node as u32, Cue::Start(node)));
    let steps = scenario.timeline.iter().map(|timed| (timed.at, Cue::Step(timed.step.clone())));
    let mut script: Vec<(Duration, Cue)> = starts.chain(steps).collect();
    // Stable: at equal times a start comes before what the story does to the node.
    script.sort_by_key(|(at, _)| *at);
    script
}

fn disk(scenario: &Scenario, seed: u64, name: &str) -> Disk {
    let name = format!("disk/{name}");
    let persist = match &scenario.disks.persist {
        Draw::Each(range) => range.clone(),
        Draw::Once(range) => {
            let drawn = Moment::new(random::key(seed, &name), Duration::MAX, 0).within(range);
            drawn..=drawn
        }
    };
    Disk { key: random::key(seed, &name), persist, spikes: scenario.disks.spikes, slow: 1 }
}

/// How wrong any wall clock of the run can be at any time.
fn clock_bounds(scenario: &Scenario, settings: &[Settings]) -> ClockBounds {
    let models = scenario.clocks.nodes.iter().map(|(_, model)| model).chain([&scenario.clocks.all]);
    let (mut behind, mut ahead) = (0_u64, 0_u64);
    for model in models {
        let (Draw::Each(skew) | Draw::Once(skew)) = &model.skew;
        // A run lasts an hour at the very most.
        let drift = model.drift_ppm.unsigned_abs().saturating_mul(3_600) / 1_000 + 1;
        let coarse = model.granularity.as_millis() as u64;
        behind = behind.max(skew.start().min(&0).unsigned_abs() + coarse + drift);
        ahead = ahead.max(skew.end().max(&0).unsigned_abs() + drift);
    }
    let mut frozen = Duration::ZERO;
    for timed in &scenario.timeline {
        match &timed.step {
            Step::Skew(_, millis) | Step::Jump(_, millis) => {
                behind += millis.min(&0).unsigned_abs();
                ahead += millis.max(&0).unsigned_abs();
            }
            Step::Freeze(_) => frozen = frozen.max(scenario.end() - timed.at + START_APART),
            _ => {}
        }
    }
    ClockBounds {
        epoch: WallTime(START_MILLIS),
        behind_max: Duration::from_millis(behind) + frozen,
        ahead_max: Duration::from_millis(ahead),
        drift_max: settings.first().map_or(Duration::ZERO, |settings| settings.clock_drift_max),
    }
}

/// Stamp and dot of the version that a reply is about.
fn name_of(reply: &Reply) -> Option<(Stamp, Dot)> {
    match reply {
        Reply::Written { id, .. } | Reply::Refused(Refusal::AckTimeout { id, .. }) => {
            Some((id.stamp, id.dot))
        }
        Reply::Value(Some(version)) => Some((version.stamp, version.dot)),
        Reply::Siblings { live, .. } => live.last().map(|version| (version.stamp, version.dot)),
        Reply::Value(None)
        | Reply::Members(_)
        | Reply::Status(_)
        | Reply::Imported(_)
        | Reply::Synced(_)
        | Reply::Explained(_)
        | Reply::Done
        | Reply::Refused(_) => None,
    }
}

fn boundary_word(boundary: Boundary) -> &'static str {
    match boundary {
        Boundary::BetweenTurns => "between-turns",
        Boundary::BeforePersist => "before-persist",
        Boundary::AfterPersist => "after-persist",
        Boundary::MidSend => "mid-send",
        Boundary::On(point) => point.name(),
        Boundary::IoError => "io-error",
        Boundary::DiskFull => "disk-full",
    }
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;

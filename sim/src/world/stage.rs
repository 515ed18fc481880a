//! The stage: surroundings, script, clients and judges of one run. No world's own business is in here.
//!
//! Everything it does is a function of the scenario, the seed and what the world tells it, in that order.

mod phases;
mod steps;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use reknit::model::{Address, Dot, DotSet, Instant, Key, Now, Refusal, Reply, Stamp, Token, WallTime};
use reknit::node::{Output, Settings};
use reknit::protocol::{Message, wire};

use super::asks::{self, Expected};
use super::observe::Observer;
use super::{Ending, Order, settings};
use crate::check::clock::ClockBounds;
use crate::check::{Dump, Site, Violation};
use crate::clocks::{MachineClock, START_MILLIS};
use crate::ghost::{Ghost, OpId};
use crate::links::{Arrival, Links};
use crate::random::{self, Moment, nanos};
use crate::scenario::{Boundary, Draw, OnCrash, Scenario, Step};
use crate::trace::{Event, Fact, Trace, level_word};
use phases::{Look, Part};

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
    data_frames: u64,
    is_broken: bool,
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
    /// Its disk was replaced, so what others know of it need not be true of it any more.
    is_replaced: bool,
    starts: u64,
    started: Duration,
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
    persist: std::ops::RangeInclusive<Duration>,
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
            data_frames: 0,
            is_broken: false,
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

    /// How long a persist of a node takes at this moment.
    pub fn persist_takes(&self, node: usize, at: Duration) -> Duration {
        let disk = &self.disks[node];
        Moment::new(disk.key, at, 0).within(&disk.persist)
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
        match output {
            Output::Send { to: _, message } => {
                if let Message::Meet { collected, .. } = message {
                    let news = collected.told().minus(&self.collected);
                    if !news.is_empty() {
                        self.collected.union(&news);
                        self.collecting = Some((node, news));
                    }
                }
                self.ghost.sent(at, &self.names[node], message);
            }
            Output::Event(event) => {
                if event.name == "collected" {
                    self.collected_at = at;
                }
                let level = level_word(event.level);
                let line = Event::Log { level, name: event.name, text: &event.text };
                self.trace.record(at, Some(node), &line);
                self.ghost.event(at, &self.names[node], event);
            }
            Output::Reply { .. } | Output::Stop => {}
        }
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
            self.broken("STORY", Site::Reply, at, Some(asked.node), asked.key, text);
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
        }
        self.trace.record(at, Some(node), &Event::Start { start });
        let dice = random::bytes(self.seed, &format!("node/{name}/start/{start}"));
        Birth { settings: self.settings[node].clone(), dice }
    }

    /// A node's power failed; `left` is what its disk holds.
    pub fn crashed(&mut self, at: Duration, node: usize, boundary: Boundary, left: &Dump) {
        let machine = &mut self.machines[node];
        machine.power = Power::Off;
        (machine.is_paused, machine.is_armed) = (false, false);
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

    /// A disk now holds `records`; `others` are all other disks by node.
    pub fn disk_replaced(&mut self, at: Duration, node: usize, records: &Dump, others: Vec<(usize, Dump)>) {
        self.machines[node].is_replaced = true;
        self.holds(at, node, records);
        let names = &self.names;
        let others: Vec<(&str, Dump)> =
            others.into_iter().map(|(other, dump)| (names[other].as_str(), dump)).collect();
        self.ghost.disk_replaced(at, &names[node], records, &others);
    }

    /// A node ended in a way that no node may: a panic, a disk that failed. The run ends here.
    pub fn broke(&mut self, at: Duration, node: usize, text: String) {
        self.broken("CRASH", Site::Log, at, Some(node), None, text);
        self.is_broken = true;
    }

    /// Whether a node broke in a way that ends the run.
    pub fn is_broken(&self) -> bool {
        self.is_broken
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
                self.broken("STORY", Site::Reply, at, Some(node), asked.key, text);
            }
        }
    }
}

/// What kind of message a frame belongs to, by its kind byte.
fn frame_kind(frame: &[u8]) -> &'static str {
    const KIND_AT: usize = 8;
    const KINDS: [&str; 16] = [
        "unknown",
        "table",
        "ping",
        "pong",
        "push",
        "durable",
        "pull",
        "step",
        "step-end",
        "step-done",
        "refuse",
        "ask",
        "answer",
        "news",
        "reach",
        "reached",
    ];
    let kind = frame.get(KIND_AT).map_or(0, |kind| usize::from(*kind));
    KINDS.get(kind).unwrap_or(&KINDS[0])
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
    Disk { key: random::key(seed, &name), persist }
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
    }
}

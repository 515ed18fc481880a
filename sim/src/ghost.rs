//! The ghost store: hears everything that a world sees, and says at once when a promise is broken.
//!
//! It believes no node about itself: what counts is what left a node (answers, messages) and what its disk holds.
//! It knows nothing of either world, draws nothing, and never reads a clock.
//!
//! What it relies on: the world reports things in the order in which they happened; what it reports as records
//! is what a power loss at that moment would leave; a message is reported when it leaves its node, whether or
//! not it arrives.

mod sometimes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reknit::model::{
    Dot, DotSet, Entry, Key, Policies, Refusal, Reply, Request, Stamp, Version, VersionId, WallTime,
};
use reknit::node::{Event, Level};
use reknit::protocol::Message;

use crate::check::clock::{self, ClockBounds};
use crate::check::facts::{Facts, Floor, KeyNo, NodeNo, VersionFacts, VersionNo, Want, Written};
use crate::check::hist::{Broken, Histories};
use crate::check::ord::{self, Rank};
use crate::check::sib::{self, Siblings};
use crate::check::{Dump, Phase, Site, Violation, conv, dot, dur, named, nores, repl, vote};
use sometimes::{Sometimes, Tally};

/// Names one client operation of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// Most violations that are kept; a run that breaks this much needs no longer list.
pub const VIOLATIONS_MAX: usize = 64;

/// Knows everything that happened, and what it means.
#[derive(Debug, Default)]
pub struct Ghost {
    facts: Facts,
    histories: Histories,
    siblings: Siblings,
    ops: BTreeMap<OpId, Op>,
    /// Open writes of keys that are judged by themselves, what their clients had seen, and how many disks had been
    /// replaced.
    other_ops: BTreeMap<OpId, (NodeNo, Key, Option<DotSet>, u32)>,
    bounds: Option<ClockBounds>,
    /// How many disks were replaced: every rule about what must be durable starts anew with each.
    disks_replaced: u32,
    /// Whose record of which key rots in what comes next.
    rotting: Option<(NodeNo, KeyNo)>,
    quiet_from: Option<Duration>,
    agree_from: Option<Duration>,
    violations: Vec<Violation>,
    /// What was reported: one failure is told once, however often it is seen.
    reported: BTreeSet<(&'static str, Option<NodeNo>, Option<KeyNo>)>,
    tally: Tally,
    /// The latest stamp in milliseconds of what may have been collected: who collects it remembers the stamp for a whole
    /// range of keys.
    latest_mortal: u64,
}

/// A client operation.
#[derive(Debug)]
struct Op {
    node: NodeNo,
    key: KeyNo,
    want: Want,
    state: OpState,
    at: Duration,
    /// What the node had when it was asked: replies may come late, and then this is what they must show.
    floor: Floor,
    stamp: Stamp,
    disks_replaced: u32,
    /// The latest that its node's wall clock showed until it was answered, if somebody looked.
    wall: Option<WallTime>,
}

impl Op {
    /// Whether it may have written something that nobody was told of.
    fn is_unknown_write(&self) -> bool {
        self.want != Want::Get && self.state != OpState::Answered
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpState {
    Open,
    Lost,
    Answered,
}

/// Where something was seen, and when.
#[derive(Clone, Copy)]
struct Sight {
    at: Duration,
    node: NodeNo,
    site: Site,
}

impl Ghost {
    /// Knows nothing yet.
    pub fn new() -> Ghost {
        Ghost::default()
    }

    /// Tells how wrong the run's wall clocks can be, so that deadlines and stamps can be judged too.
    pub fn set_clock_bounds(&mut self, bounds: ClockBounds) {
        self.bounds = Some(bounds);
    }

    /// Tells which keys have histories or siblings, which are judged by themselves.
    pub fn set_policies(&mut self, policies: Policies) {
        self.siblings.set_policies(policies.clone());
        self.histories.set_policies(policies);
    }

    /// A client submits a put, a delete or a get to a node. Other requests are none of the ghost's business.
    pub fn invoked(&mut self, at: Duration, op: OpId, node: &str, request: &Request) {
        let (key, want) = match request {
            Request::Put { key, value, content_type, ttl, .. } => {
                let (value, content_type) = (value.clone(), content_type.clone());
                (key, Want::Put { value, content_type, ttl: *ttl })
            }
            // Nobody may write a part of a value where there is no history.
            Request::Patch { key, .. } => (key, Want::Get),
            Request::Delete { key, .. } => (key, Want::Delete),
            Request::Get { key } | Request::Read { key, .. } => (key, Want::Get),
            Request::Members
            | Request::Status
            | Request::Join { .. }
            | Request::Leave { .. }
            | Request::Remove { .. }
            | Request::Sync { .. }
            | Request::Drain
            | Request::Explain { .. }
            | Request::SetMode { .. }
            | Request::Retime { .. }
            | Request::Import { .. } => return,
        };
        if self.histories.has(key) || self.siblings.has(key) {
            match self.histories.has(key) {
                true => self.histories.asked(request),
                false => self.siblings.asked(request),
            }
            if want != Want::Get || matches!(request, Request::Patch { .. }) {
                let node = self.facts.node_number(node);
                self.other_ops.insert(op, (node, key.clone(), sib::saw(request), self.disks_replaced));
            }
            return;
        }
        let (node, key) = (self.facts.node_number(node), self.facts.key_number(key));
        self.facts.key_mut(key).submitted.submit(&want);
        let floor = self.facts.floor(node, key);
        let stamp = self.facts.node(node).stamp;
        let disks_replaced = self.disks_replaced;
        let op =
            (op, Op { node, key, want, state: OpState::Open, at, floor, stamp, disks_replaced, wall: None });
        let before = self.ops.insert(op.0, op.1);
        assert!(before.is_none(), "every operation has an id of its own");
    }

    /// An answer to this comes at once: this is the latest that its node's wall clock showed while it was under way.
    pub fn clocked(&mut self, op: OpId, wall: WallTime) {
        if let Some(asked) = self.ops.get_mut(&op) {
            asked.wall = Some(wall);
        }
    }

    /// The node answers. An answer after [`Ghost::lost`] is not believed, and one to an unknown id is ignored.
    pub fn answered(&mut self, at: Duration, op: OpId, reply: &Reply) {
        if let Some((node, key, saw, disks_replaced)) = self.other_ops.remove(&op) {
            if let Reply::Written { id, .. } | Reply::Refused(Refusal::AckTimeout { id, .. }) = reply {
                self.latest_mortal = self.latest_mortal.max(id.stamp.millis);
                // What was written may have rotted before its write was confirmed.
                let number = self.facts.key_number(&key);
                let may_have_rotted =
                    disks_replaced != self.disks_replaced && self.facts.ever_rotten.contains(&number);
                let is_rotten = may_have_rotted || self.is_rotten(node, &key);
                let name = self.facts.node_name(node);
                if self.histories.has(&key) {
                    if !is_rotten {
                        self.histories.acked(name, &key, id.dot);
                    }
                    self.tally.add(Sometimes::Transactions);
                } else {
                    let merges = saw.as_ref().is_some_and(|saw| !saw.is_empty());
                    self.tally.add(if merges { Sometimes::WritesWithToken } else { Sometimes::Siblings });
                    if !is_rotten {
                        let broken = self.siblings.acked(name, &key, id.dot, saw);
                        self.report_others(Sight { at, node, site: Site::Reply }, broken);
                    }
                }
            }
            return;
        }
        if let Reply::Siblings { live, .. } = reply {
            self.tally.add_many(Sometimes::ReadsOfSiblings, usize::from(live.len() > 1));
        }
        let Some(mut asked) = self.ops.remove(&op) else { return };
        match asked.state {
            OpState::Open => {
                asked.state = OpState::Answered;
                self.judge_reply(at, &asked, reply);
            }
            OpState::Answered => {
                let sight = Sight { at, node: asked.node, site: Site::Reply };
                self.report("REPLY", sight, Some(asked.key), |_| "a second answer to one request".to_owned());
            }
            OpState::Lost => {}
        }
        self.ops.insert(op, asked);
    }

    /// No answer will come, or none that counts: whether the operation took place is unknown for good.
    pub fn lost(&mut self, _at: Duration, op: OpId) {
        self.other_ops.remove(&op);
        if let Some(asked) = self.ops.get_mut(&op).filter(|asked| asked.state == OpState::Open) {
            asked.state = OpState::Lost;
            if asked.want != Want::Get {
                self.tally.add(Sometimes::UnknownOutcomes);
            }
        }
    }

    /// A message leaves a node. Everything in it is durable there, and so is what it says it has.
    pub fn sent(&mut self, at: Duration, from: &str, message: &Message) {
        match message {
            Message::Push { entries } | Message::Step { entries, .. } => {
                let node = self.facts.node_number(from);
                let sight = Sight { at, node, site: Site::Message };
                let is_push = matches!(message, Message::Push { .. });
                self.tally
                    .add_many(if is_push { Sometimes::Pushed } else { Sometimes::Streamed }, entries.len());
                for Entry { key, version } in entries {
                    self.take_entry(sight, from, key, version);
                }
            }
            Message::Durable { dots } => {
                let node = self.facts.node_number(from);
                let mut held = Vec::new();
                for (origin, first, last) in dots.iter() {
                    let dot = |seq| Dot { origin, seq };
                    held.extend(self.facts.in_run(dot(first), dot(last)));
                }
                for version in held {
                    self.facts.claim(node, version);
                }
            }
            Message::Pull { seen, .. } => {
                let node = self.facts.node_number(from);
                self.facts.node_mut(node).pulled.clone_from(seen.told());
                self.tally.add(Sometimes::Pulls);
            }
            Message::StepEnd { cover, .. } => {
                if cover.is_some() {
                    self.tally.add(Sometimes::Covers);
                }
            }
            Message::Within { data, .. } => self.sent(at, from, data),
            Message::SyncFlight(flight) => self.shown(at, from, &flight.entries),
            Message::ReadTell { entries, .. } | Message::Repair { entries } => self.shown(at, from, entries),
            Message::SyncOpen { .. } | Message::SyncSame { .. } | Message::ReadAsk { .. } => {}
            Message::Table { .. }
            | Message::Meet { .. }
            | Message::AskDots { .. }
            | Message::Dots { .. }
            | Message::AskHorizons { .. }
            | Message::Horizons { .. }
            | Message::AskHeld { .. }
            | Message::Judged { .. }
            | Message::Ping { .. }
            | Message::Pong { .. }
            | Message::StepDone { .. }
            | Message::Refuse { .. }
            | Message::Answer { .. }
            | Message::News { .. }
            | Message::Reach { .. }
            | Message::Reached { .. } => {}
            Message::Ask { .. } => self.tally.add(Sometimes::Asked),
        }
    }

    /// Versions that a node shows outside streams.
    fn shown(&mut self, at: Duration, from: &str, entries: &[Entry]) {
        let node = self.facts.node_number(from);
        let sight = Sight { at, node, site: Site::Message };
        for Entry { key, version } in entries {
            self.take_entry(sight, from, key, version);
        }
    }

    /// A version that has left a node, and so is durable there.
    fn take_entry(&mut self, sight: Sight, from: &str, key: &Key, version: &Version) {
        // What is sent again from memory says nothing about a record that has rotted since.
        let is_other = self.histories.has(key) || self.siblings.has(key);
        if is_other {
            self.latest_mortal = self.latest_mortal.max(version.stamp.millis);
        }
        if is_other && self.is_rotten(sight.node, key) {
            if self.siblings.has(key) {
                self.siblings.met(key, version);
            }
            return;
        }
        if self.histories.has(key) {
            let broken = self.histories.shown(from, key, version);
            return self.report_others(sight, broken);
        }
        if self.siblings.has(key) {
            let broken = self.siblings.shown(from, key, version);
            return self.report_others(sight, broken);
        }
        let version = self.meet(sight, key, version);
        self.facts.claim(sight.node, version);
    }

    fn is_rotten(&mut self, node: NodeNo, key: &Key) -> bool {
        let key = self.facts.key_number(key);
        self.facts.node(node).rotten.contains(&key)
    }

    fn report_others(&mut self, sight: Sight, broken: impl IntoIterator<Item = Broken>) {
        for (code, key, text) in broken {
            let key = self.facts.key_number(&key);
            self.report(code, sight, Some(key), |_| text);
        }
    }

    /// The records of a node, or of the disk of one that is off; call it after a crash as well, with what was left.
    pub fn dumped(&mut self, at: Duration, node: &str, records: &Dump) {
        let sight = Sight { at, node: self.facts.node_number(node), site: Site::Dump };
        self.judge_records(sight, records);
    }

    /// A node starts again from its own disk.
    pub fn restarted(&mut self, _at: Duration, node: &str) {
        self.end_rebase(node);
        self.tally.add(Sometimes::Restarts);
    }

    /// A disk is wiped, set back to a backup or overwritten with a clone, while its node is off: it now holds
    /// `records`. `others` are all other disks of the cluster, those of nodes that are off included; what none of
    /// them holds may be gone for good.
    pub fn disk_replaced(&mut self, at: Duration, node: &str, records: &Dump, others: &[(&str, Dump)]) {
        for (other, records) in others {
            self.dumped(at, other, records);
        }
        self.histories.forget(node);
        self.siblings.forget(node);
        let node = self.facts.node_number(node);
        let mut rotten = std::mem::take(&mut self.facts.node_mut(node).rotten);
        self.facts.forget_owed();
        self.facts.forget(node);
        // A disk that was replaced as a whole has nothing rotten on it any more that anybody would know of.
        if let Some((_, key)) = self.rotting.take().filter(|(rotting, _)| *rotting == node) {
            rotten.insert(key);
            self.facts.node_mut(node).rotten = rotten;
        }
        self.disks_replaced += 1;
        self.tally.add(Sometimes::DisksReplaced);
        self.judge_records(Sight { at, node, site: Site::Dump }, records);
    }

    /// The record of a key on a node's disk rots; [`Ghost::disk_replaced`] follows with what is left of the disk.
    pub fn rotted(&mut self, node: &str, key: Key) {
        let (node, key) = (self.facts.node_number(node), self.facts.key_number(&key));
        self.rotting = Some((node, key));
        self.facts.ever_rotten.insert(key);
        self.tally.add(Sometimes::Rots);
    }

    /// A node logs. An error is something a person must look at, so the run has failed.
    pub fn event(&mut self, at: Duration, node: &str, event: &Event) {
        match event.name {
            "rebase" => {
                let node = self.facts.node_number(node);
                self.facts.begin_rebase(node);
                self.histories.is_behind();
                self.disks_replaced += 1;
                self.tally.add(Sometimes::Rebases);
            }
            "rebased" | "rebase-left" => self.end_rebase(node),
            "collected" => self.tally.add(Sometimes::Collections),
            "history-truncated" => self.tally.add(Sometimes::Truncations),
            _ => {}
        }
        if event.level == Level::Error {
            let sight = Sight { at, node: self.facts.node_number(node), site: Site::Log };
            self.report("LOG", sight, None, |_| format!("{}: {}", event.name, event.text));
        }
    }

    /// What a node says and shows is its own again.
    fn end_rebase(&mut self, node: &str) {
        let node = self.facts.node_number(node);
        if std::mem::take(&mut self.facts.node_mut(node).is_rebasing) {
            self.disks_replaced += 1;
        }
    }

    /// Faults are off and clients are silent from now on.
    pub fn quiet_from(&mut self, at: Duration) {
        self.quiet_from = Some(at);
        self.agree_from = None;
    }

    /// The world compared its nodes, cheaply or well, and they do or do not agree.
    pub fn compared(&mut self, at: Duration, agree: bool) {
        self.agree_from = if agree { self.agree_from.or(Some(at)) } else { None };
    }

    /// How long after the beginning of the quiet phase the nodes agreed and went on agreeing.
    pub fn converged_after(&self) -> Option<Duration> {
        Some(self.agree_from?.saturating_sub(self.quiet_from?))
    }

    /// Judges the whole cluster. `running` are the records of the nodes that had their chance to converge.
    pub fn judge_phase(&mut self, at: Duration, phase: Phase, running: &BTreeMap<String, Dump>) {
        let site = Site::Phase(phase);
        let mut nodes = Vec::new();
        let mut found = Vec::new();
        let before = self.facts.aside.count();
        running.values().for_each(|dump| self.facts.aside.union(&dump.aside));
        self.tally.add_many(Sometimes::SetAside, (self.facts.aside.count() - before) as usize);
        for (name, records) in running {
            let node = self.facts.node_number(name);
            nodes.push(node);
            self.facts.bind_to_pull(node);
            let mut broken = self.histories.dumped(name, records);
            broken.extend(self.siblings.dumped(name, records));
            self.report_others(Sight { at, node, site }, broken);
            found.push(self.take_in(Sight { at, node, site }, records));
        }
        let agree = conv::agree(running);
        self.compared(at, agree);
        if !agree {
            for (key, text) in conv::differences(running) {
                let key = self.facts.key_number(&key);
                self.report_cluster("CONV", at, site, key, text);
            }
        }
        if agree {
            for (name, text) in repl::judge(running) {
                let node = self.facts.node_number(&name);
                self.report("L-REPL", Sight { at, node, site }, None, |_| text);
            }
        }
        let others = self.histories.judge(running).into_iter().chain(self.siblings.judge(running));
        for (code, key, text) in others.collect::<Vec<_>>() {
            let key = self.facts.key_number(&key);
            // What a write saw where a record rotted is not what its node had once.
            if self.facts.ever_rotten.contains(&key) {
                continue;
            }
            self.report_cluster(code, at, site, key, text);
        }
        let mut collected = DotSet::default();
        running.values().for_each(|dump| collected.union(&dump.collected));
        for key in self.facts.key_numbers() {
            // A ruling that is lost with a rotten record may be made anew.
            if let Some(text) =
                vote::judge(&self.facts, key).filter(|_| !self.facts.ever_rotten.contains(&key))
            {
                self.report_cluster("VOTE", at, site, key, text);
            }
            let floor = self.facts.floor_of_all(&nodes, key);
            for ((&node, found), dump) in nodes.iter().zip(&found).zip(running.values()) {
                let found = found.get(&key).and_then(|versions| self.facts.greatest(versions));
                // Where a record has rotted, its delete may have been collected by others before that was noticed.
                let by_anybody = self.facts.ever_rotten.contains(&key).then_some(&collected);
                let collected = by_anybody.unwrap_or(&dump.collected);
                let found = self.facts.with_collected(key, found, collected);
                if let Some(fall) = ord::fall(&self.facts, key, found, floor, None) {
                    self.report(fall.code, Sight { at, node, site }, Some(key), |facts| {
                        let (found, missing) = (facts.show_found(found), facts.show(fall.missing));
                        format!("holds {found}; what survives of this key is {missing} or later")
                    });
                }
            }
        }
    }

    /// A node has collected these dots, which nobody had collected before, while the disk of `member` covers
    /// `covered`: every known delete among them must be in there.
    pub fn collected(&mut self, at: Duration, node: &str, news: &DotSet, (member, covered): (&str, &DotSet)) {
        for (origin, first, last) in news.minus(covered).iter() {
            let dot = |seq| Dot { origin, seq };
            let missed = self.facts.in_run(dot(first), dot(last));
            let missed: Vec<VersionNo> =
                missed.filter(|version| self.facts.rank(*version).tombstone).collect();
            for version in missed {
                let sight = Sight { at, node: self.facts.node_number(node), site: Site::Dump };
                let key = self.facts.version(version).key;
                self.report("SAFE-GC", sight, Some(key), |facts| {
                    format!("collected {}, which {member} has not covered", facts.show(version))
                });
            }
        }
    }

    /// What was broken so far, in the order it was noticed.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// How often each thing happened that a good sweep makes happen; all of them are listed.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.tally.counts()
    }

    fn judge_reply(&mut self, at: Duration, op: &Op, reply: &Reply) {
        let sight = Sight { at, node: op.node, site: Site::Reply };
        let is_get = op.want == Want::Get;
        match reply {
            Reply::Written { id, acked } if !is_get => self.judge_write(sight, op, id, *acked),
            Reply::Refused(Refusal::AckTimeout { id, acked, .. }) if !is_get => {
                self.tally.add(Sometimes::AckTimeouts);
                self.judge_write(sight, op, id, *acked);
            }
            Reply::Value(version) if is_get => self.judge_read(sight, op, version.as_ref()),
            Reply::Refused(_) => {
                self.tally.add(Sometimes::Refusals);
                self.facts.key_mut(op.key).submitted.refuse(&op.want);
            }
            Reply::Written { .. }
            | Reply::Value(_)
            | Reply::Siblings { .. }
            | Reply::Members(_)
            | Reply::Status(_)
            | Reply::Imported(_)
            | Reply::Synced(_)
            | Reply::Explained(_)
            | Reply::Done => {
                self.report("REPLY", sight, Some(op.key), |_| {
                    "an answer of another kind of request".to_owned()
                });
            }
        }
    }

    fn judge_write(&mut self, sight: Sight, op: &Op, id: &VersionId, acked: u16) {
        let key = self.facts.key_mut(op.key);
        key.submitted.done(&op.want);
        let is_put = op.want != Want::Delete;
        self.tally.add(if is_put { Sometimes::AckedPuts } else { Sometimes::AckedDeletes });
        let others = self.facts.key(op.key).versions.iter().map(|&known| self.facts.version(known));
        let before = others.filter(|known| known.dot != id.dot).map(|known| known.rank.stamp.0);
        let before = before.chain([self.latest_mortal]).max();
        if let (Some(wall), Some(bounds)) = (op.wall, &self.bounds)
            && let Some(text) = clock::judge_far(id.stamp, wall, before, bounds)
            // Nobody knows the stamp of a write that was not answered, and this one must be later.
            && !self.ops.values().any(|other| other.key == op.key && other.is_unknown_write())
        {
            self.report("HLC", sight, Some(op.key), |_| text);
        }
        if !matches!(op.want, Want::Put { ttl: None, .. }) {
            self.latest_mortal = self.latest_mortal.max(id.stamp.millis);
        }
        let version = self.meet_written(sight, op, id);
        self.facts.key_mut(op.key).acked.push((version, op.node));
        // What the node held when it was asked says nothing once a disk was replaced in between.
        if op.disks_replaced == self.disks_replaced {
            let stamp_of = |top| self.facts.rank(top).stamp;
            let row = op.floor.top.map(stamp_of).map(|(millis, counter)| Stamp { millis, counter });
            if let Some(text) = clock::judge(id.stamp, row, op.stamp, self.bounds.as_ref()) {
                self.report("HLC", sight, Some(op.key), |_| text);
            }
        }
        self.facts.claim(op.node, version);
        if acked > 1 {
            self.judge_confirmations(sight, op, version, acked);
        }
    }

    fn judge_confirmations(&mut self, sight: Sight, op: &Op, version: VersionNo, acked: u16) {
        self.tally.add(Sometimes::AckedByMany);
        if op.disks_replaced != self.disks_replaced || self.facts.ever_rotten.contains(&op.key) {
            return;
        }
        let holders = dur::holders(&self.facts, op.key, version);
        if holders < usize::from(acked) {
            self.report("DUR", sight, Some(op.key), |facts| {
                let version = facts.show(version);
                format!(
                    "acknowledged {version} on {acked} nodes, but only {holders} ever said that they have it"
                )
            });
            return;
        }
        // What they said in a pull binds them from now on as what they said of their own accord does.
        let nodes = self.facts.node_numbers();
        for node in nodes {
            if dur::holds(&self.facts, op.key, version, node) {
                self.facts.raise(node, version);
            }
        }
    }

    fn judge_read(&mut self, sight: Sight, op: &Op, version: Option<&Version>) {
        let floor = if op.disks_replaced == self.disks_replaced { op.floor } else { Floor::default() };
        let Some(version) = version else {
            self.tally.add(Sometimes::ReadsOfNothing);
            let top = floor.top.filter(|&top| !nores::may_be_hidden(&self.facts, op.key, top));
            let fall = top.and_then(|_| ord::fall(&self.facts, op.key, None, floor, Some(op.node)));
            if let Some(fall) = fall {
                self.report(fall.code, sight, Some(op.key), |facts| {
                    let missing = facts.show(fall.missing);
                    format!("served nothing after it had {missing}, and nothing can have hidden it")
                });
            }
            return;
        };
        self.tally.add(Sometimes::ReadsOfValues);
        let key = self.facts.key(op.key).key.clone();
        let found = self.meet(sight, &key, version);
        if version.tombstone {
            self.report("REPLY", sight, Some(op.key), |facts| format!("served {}", facts.show(found)));
        }
        if self.bounds.is_some_and(|bounds| bounds.is_expired(version, op.at)) {
            let deadline = version.expires_at.unwrap_or_default();
            self.report("TTL", sight, Some(op.key), |facts| {
                format!("served {} after its deadline {deadline}", facts.show(found))
            });
        }
        if let Some(fall) = ord::fall(&self.facts, op.key, Some(found), floor, Some(op.node)) {
            self.report(fall.code, sight, Some(op.key), |facts| {
                format!("served {} after it had {}", facts.show(found), facts.show(fall.missing))
            });
        }
        self.facts.claim(op.node, found);
    }

    /// Judges all records of one node against how far it had come, and takes them in.
    fn judge_records(&mut self, sight: Sight, records: &Dump) {
        self.facts.aside.union(&records.aside);
        let name = self.facts.node_name(sight.node);
        let mut broken = self.histories.dumped(name, records);
        broken.extend(self.siblings.dumped(name, records));
        self.report_others(sight, broken);
        self.facts.bind_to_pull(sight.node);
        let before: Vec<Floor> =
            self.facts.key_numbers().map(|key| self.facts.floor(sight.node, key)).collect();
        let found = self.take_in(sight, records);
        for (key, floor) in self.facts.key_numbers().zip(before) {
            let version = found.get(&key).and_then(|versions| self.facts.greatest(versions));
            let version = self.facts.with_collected(key, version, &records.collected);
            if let Some(fall) = ord::fall(&self.facts, key, version, floor, Some(sight.node)) {
                self.report(fall.code, sight, Some(key), |facts| {
                    format!("holds {} after it had {}", facts.show_found(version), facts.show(fall.missing))
                });
            }
        }
    }

    /// Takes all records of one node in: the versions under each key.
    fn take_in(&mut self, sight: Sight, records: &Dump) -> BTreeMap<KeyNo, Vec<VersionNo>> {
        let mut found: BTreeMap<KeyNo, Vec<VersionNo>> = BTreeMap::new();
        for (key, versions) in records {
            if self.histories.has(key) || self.siblings.has(key) {
                let key = self.facts.key_number(key);
                self.facts.node_mut(sight.node).rotten.remove(&key);
                continue;
            }
            for version in versions {
                let version = self.meet(sight, key, version);
                self.facts.raise(sight.node, version);
                let key = self.facts.version(version).key;
                self.facts.node_mut(sight.node).rotten.remove(&key);
                found.entry(key).or_default().push(version);
            }
        }
        found
    }

    /// The number of a version seen whole; judged the first time, and whenever its dot seems to name another.
    fn meet(&mut self, sight: Sight, key: &Key, version: &Version) -> VersionNo {
        let number = match self.facts.by_dot(version.dot) {
            None => self.add(key, version),
            Some(number) if dot::fits(&self.facts, self.facts.version(number), key, version) => {
                let known = self.facts.version_mut(number);
                if known.whole.is_some() {
                    return number;
                }
                known.whole = Some(version.clone());
                known.rank = Rank::of(version);
                number
            }
            Some(first) => {
                let key_number = self.facts.key_number(key);
                if let Some(number) = self.facts.impostor(key_number, version) {
                    return number;
                }
                let number = self.add(key, version);
                self.report_two_writes(sight, first, number);
                number
            }
        };
        self.judge_new(sight, number, version);
        number
    }

    /// The number of a write that a client was told of.
    fn meet_written(&mut self, sight: Sight, op: &Op, id: &VersionId) -> VersionNo {
        let written = Some(Written { id: *id, want: op.want.clone() });
        let first = self.facts.by_dot(id.dot);
        if let Some(first) = first {
            let known = self.facts.version_mut(first);
            if dot::fits_written(known, op.key, id, &op.want) {
                known.written = written;
                return first;
            }
        }
        let rank = Rank::of_written(id, op.want == Want::Delete);
        let number = self.facts.add(VersionFacts { key: op.key, dot: id.dot, rank, whole: None, written });
        if let Some(first) = first {
            self.report_two_writes(sight, first, number);
        }
        number
    }

    fn report_two_writes(&mut self, sight: Sight, first: VersionNo, second: VersionNo) {
        let key = self.facts.version(second).key;
        self.report("DOT", sight, Some(key), |facts| {
            let key = named(&facts.key(facts.version(first).key).key);
            format!("{} has the dot of {} under {key}", facts.show(second), facts.show(first))
        });
    }

    fn add(&mut self, key: &Key, version: &Version) -> VersionNo {
        let (key, dot, rank) = (self.facts.key_number(key), version.dot, Rank::of(version));
        self.facts.add(VersionFacts { key, dot, rank, whole: Some(version.clone()), written: None })
    }

    /// Judges the content of a version that is seen whole for the first time.
    fn judge_new(&mut self, sight: Sight, number: VersionNo, version: &Version) {
        if version.tombstone || version.expires_at.is_some() {
            self.latest_mortal = self.latest_mortal.max(version.stamp.millis);
        }
        let key = self.facts.version(number).key;
        let confirmed = version.confirms.and_then(|dot| self.facts.by_dot(dot));
        let confirmed = confirmed.and_then(|confirmed| self.facts.version(confirmed).whole.as_ref());
        if let Some(text) = self.facts.key(key).submitted.judge(version, confirmed) {
            self.report("NOINV", sight, Some(key), |facts| format!("{}: {text}", facts.show(number)));
        }
        self.tally.met(&self.facts, number);
    }

    fn report(
        &mut self,
        code: &'static str,
        sight: Sight,
        key: Option<KeyNo>,
        text: impl FnOnce(&Facts) -> String,
    ) {
        if self.is_news(code, Some(sight.node), key) {
            let Sight { at, node, site } = sight;
            let node = Some(self.facts.node_name(node).to_owned());
            let key = key.map(|key| self.facts.key(key).key.clone());
            self.violations.push(Violation { code, site, at, node, key, text: text(&self.facts) });
        }
    }

    fn report_cluster(&mut self, code: &'static str, at: Duration, site: Site, key: KeyNo, text: String) {
        if self.is_news(code, None, Some(key)) {
            let key = Some(self.facts.key(key).key.clone());
            self.violations.push(Violation { code, site, at, node: None, key, text });
        }
    }

    fn is_news(&mut self, code: &'static str, node: Option<NodeNo>, key: Option<KeyNo>) -> bool {
        self.violations.len() < VIOLATIONS_MAX && self.reported.insert((code, node, key))
    }
}

#[cfg(test)]
mod history;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

//! Who is in the cluster and how they are: probes, rumours, and now and then the whole table.
//!
//! A record is merged by its greatest `(life, incarnation, state)`, so a rumour and a full exchange are one
//! merge. Only the member itself raises its life and incarnation: that is how it refutes being called suspect
//! or down. A member that is down keeps its place and is still probed, so it comes back by itself.

use std::collections::{BTreeMap, BTreeSet};

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use super::message::Message;
use super::outbox::{Level, Outbox};
use super::pull::backoff;
use super::timing::Timing;
use crate::model::{Address, Instant, Member, MemberState, MemberView, Mode, NodeId, Now, Origin, WallTime};
use crate::mutants;
use crate::storage::{Batch, rows};

/// Most members that a table holds; records of further ones are dropped and counted.
pub const MEMBERS_MAX: usize = 1024;
/// Most rumours in one ping or pong, the sender's own record included.
pub const RUMOURS_MAX: usize = 8;
/// Most members greeted at a start; rumours bring the news to the rest.
pub const GREETED_MAX: usize = 8;
/// Most members that one round of the table exchange goes to.
pub const GOSSIP_PEERS_MAX: usize = 3;

/// The last life that is believed: far beyond any number of starts, far enough from the end of the type.
pub const LIFE_MAX: u64 = u64::MAX / 4;
/// Most characters of another node's reason that are kept and logged.
pub const REASON_CHARS_MAX: usize = 200;

/// The member table of one node and its timers.
#[derive(Debug)]
pub struct Membership {
    me: Member,
    timing: Timing,
    peers: BTreeMap<NodeId, Peer>,
    /// Members whose row in the store is behind the table.
    unsaved: Vec<NodeId>,
    /// Addresses to join through, and how often that failed in a row.
    seeds: Vec<Address>,
    join_failures: u32,
    /// Whether a member's whole table has come in this run.
    has_table: bool,
    next_join: Option<Instant>,
    /// The members still to be probed in this round, last first.
    round: Vec<NodeId>,
    probe: Option<Probe>,
    next_probe: Instant,
    next_gossip: Instant,
    /// Members that came (back) since the last call of [`Membership::take_met`].
    met: Vec<NodeId>,
    /// Reasons for which this node was refused, told once each.
    refusals: Vec<String>,
}

#[derive(Debug)]
struct Peer {
    member: Member,
    /// When it was last heard of, by each clock; `None` before the first word in this run.
    heard: Option<Instant>,
    last_seen: WallTime,
    /// When a suspect counts as down.
    down_at: Option<Instant>,
    /// How many more messages carry this record as a rumour.
    tell: u32,
}

#[derive(Debug)]
struct Probe {
    target: NodeId,
    nonce: u64,
    sent: Instant,
}

impl Membership {
    /// The table as the disk has it, with `me` as this node's own new life.
    pub fn load(
        me: Member,
        known: Vec<Member>,
        seeds: Vec<Address>,
        timing: Timing,
        now: Now,
        dice: &mut impl Rng,
    ) -> Membership {
        let peer = |member: Member| {
            // A record that says alive is hearsay from before this start, so it is put to the test at once; a
            // suspect has its time to answer once more.
            let is_suspect = member.state == MemberState::Suspect;
            let down_at = is_suspect.then(|| now.mono + timing.suspect_timeout);
            (member.id.clone(), Peer { member, heard: None, last_seen: WallTime(0), down_at, tell: 0 })
        };
        let known = known.into_iter().filter(|member| member.id != me.id).map(peer).collect();
        let next_gossip = now.mono + gossip_wait(&timing, dice);
        let seeds: Vec<Address> = seeds.into_iter().filter(|seed| *seed != me.address).collect();
        Membership {
            unsaved: vec![me.id.clone()],
            me,
            peers: known,
            join_failures: 0,
            has_table: false,
            next_join: Some(now.mono),
            seeds,
            round: Vec::new(),
            probe: None,
            next_probe: now.mono + timing.probe_interval,
            next_gossip,
            met: Vec::new(),
            refusals: Vec::new(),
            timing,
        }
    }

    /// This node's own record.
    pub fn me(&self) -> &Member {
        &self.me
    }

    /// Changes what this node says of itself; a new incarnation makes others take it.
    pub fn update_me(&mut self, change: impl FnOnce(&mut Member)) {
        change(&mut self.me);
        self.outdo(self.me.life, self.me.incarnation);
    }

    /// Makes this node's own record newer than one with this life and incarnation.
    fn outdo(&mut self, life: u64, incarnation: u32) {
        (self.me.life, self.me.incarnation) = match incarnation.checked_add(1) {
            Some(next) => (life, next),
            None => (life + 1, 0),
        };
        self.unsaved.push(self.me.id.clone());
    }

    /// Where a member is reached.
    pub fn address(&self, id: &NodeId) -> Option<&Address> {
        self.peers.get(id).map(|peer| &peer.member.address)
    }

    /// Whether a node is a member whose data counts: any that was not forgotten.
    pub fn takes_data_from(&self, id: &NodeId) -> bool {
        self.peers.get(id).is_some_and(|peer| peer.member.state != MemberState::Forgotten)
    }

    /// Members worth sending to: alive or suspect, in id order.
    pub fn reachable(&self) -> Vec<NodeId> {
        self.in_states(&[MemberState::Alive, MemberState::Suspect])
    }

    /// Members alive, in id order, without this node.
    pub fn healthy(&self) -> Vec<NodeId> {
        self.in_states(&[MemberState::Alive])
    }

    /// Members that count: alive, suspect or down, self included.
    pub fn count(&self) -> usize {
        self.in_states(&[MemberState::Alive, MemberState::Suspect, MemberState::Down]).len() + 1
    }

    /// The other members that count: alive, suspect or down, in id order.
    pub fn counted(&self) -> Vec<NodeId> {
        self.in_states(&[MemberState::Alive, MemberState::Suspect, MemberState::Down])
    }

    /// Whether this node knows who is a member: it has heard a member's table in this run, or is meant to be alone.
    pub fn knows_members(&self) -> bool {
        self.has_table || self.seeds.is_empty() && self.peers.is_empty()
    }

    /// Digest of the ids of all members that count, self included: equal where two nodes know the same members.
    pub fn roster(&self) -> u64 {
        let others = self.peers.values().filter(|peer| peer.member.state <= MemberState::Down);
        let mut ids: Vec<&NodeId> = others.map(|peer| &peer.member.id).chain([&self.me.id]).collect();
        ids.sort();
        let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
        for id in ids {
            hasher.update(&(id.as_str().len() as u64).to_be_bytes());
            hasher.update(id.as_str().as_bytes());
        }
        hasher.digest()
    }

    /// The life that a member is in, as far as this node knows.
    pub fn life(&self, id: &NodeId) -> Option<u64> {
        self.peers.get(id).map(|peer| peer.member.life)
    }

    /// The origins that are some member's present one; all others are closed.
    pub fn open_origins(&self) -> BTreeSet<Origin> {
        let others = self.peers.values().filter_map(|peer| peer.member.origin);
        others.chain(self.me.origin).collect()
    }

    /// Members alive, self included.
    pub fn alive_count(&self) -> usize {
        self.in_states(&[MemberState::Alive]).len() + 1
    }

    /// Every member that is not forgotten, self included, in id order.
    pub fn view(&self, now: Now) -> Vec<MemberView> {
        let me = MemberView { member: self.me.clone(), last_seen: now.wall };
        let others = self.peers.values().filter(|peer| peer.member.state != MemberState::Forgotten);
        let others = others.map(|peer| MemberView { member: peer.member.clone(), last_seen: peer.last_seen });
        let mut all: Vec<MemberView> = others.chain([me]).collect();
        all.sort_by(|a, b| a.member.id.cmp(&b.member.id));
        all
    }

    /// Members that came (back) since the last call.
    pub fn take_met(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.met)
    }

    /// Adds the rows that changed since the last call to `batch`; says whether this node's own record is among
    /// them.
    pub fn save(&mut self, batch: &mut Batch) -> bool {
        let mut own = false;
        for id in std::mem::take(&mut self.unsaved) {
            if id == self.me.id {
                own = true;
            } else if let Some(peer) = self.peers.get(&id) {
                rows::put_member(batch, &peer.member);
            }
        }
        own
    }

    /// Joins through one more address, at once.
    pub fn join(&mut self, now: Now, address: Address) {
        if address != self.me.address && !self.seeds.contains(&address) {
            self.seeds.push(address);
        }
        self.join_failures = 0;
        self.next_join = Some(now.mono);
    }

    /// Says goodbye to everyone who can hear it.
    pub fn leave(&mut self, out: &mut Outbox) {
        self.update_me(|me| {
            me.state = MemberState::Left;
            me.mode = Mode::Draining;
        });
        self.next_join = None;
        for id in self.reachable() {
            out.send(&id, self.table(false));
        }
    }

    /// Forgets a member for good.
    ///
    /// # Errors
    /// It is unknown, this node itself, or not down.
    pub fn remove(&mut self, id: &NodeId, out: &mut Outbox) -> Result<(), String> {
        if *id == self.me.id {
            return Err("a node cannot remove itself; ask it to leave".into());
        }
        let Some(peer) = self.peers.get(id) else { return Err(format!("no member is called {id}")) };
        if matches!(peer.member.state, MemberState::Alive | MemberState::Suspect) {
            return Err(format!("{id} is alive; ask it to leave"));
        }
        let record = Member { state: MemberState::Forgotten, ..peer.member.clone() };
        self.merge(Now::default(), record, out);
        Ok(())
    }

    /// Any word from a member is a sign of life. Says whether it was the first one in this run.
    pub fn on_heard(&mut self, now: Now, from: &NodeId) -> bool {
        let Some(peer) = self.peers.get_mut(from) else { return false };
        let is_first = peer.heard.is_none();
        peer.heard = Some(now.mono);
        peer.last_seen = now.wall;
        if is_first && !self.met.contains(from) {
            self.met.push(from.clone());
        }
        is_first
    }

    /// A whole table, the sender's own record first.
    pub fn on_table(
        &mut self,
        now: Now,
        from: &NodeId,
        members: Vec<Member>,
        answer: bool,
        out: &mut Outbox,
    ) {
        let Some(sender) = members.first().filter(|sender| sender.id == *from) else {
            out.count("tables_malformed", 1);
            return;
        };
        let sender = sender.clone();
        if sender.id == self.me.id && sender.address == self.me.address {
            // One of the seeds is this node itself, by another name.
            return;
        }
        if let Some(reason) = self.refuses(now, &sender) {
            out.count("joins_refused", 1);
            out.send_to(&sender.address, Message::Refuse { reason });
            return;
        }
        let is_up = sender.state == MemberState::Alive;
        for member in members {
            self.merge(now, member, out);
        }
        self.on_heard(now, from);
        if is_up {
            self.has_table = true;
            self.next_join = None;
            self.join_failures = 0;
        }
        if answer {
            out.send_to(&sender.address, self.table(false));
        }
    }

    /// The place is taken by another live node: the later one is told so.
    fn refuses(&self, now: Now, sender: &Member) -> Option<String> {
        let id = &sender.id;
        if *id == self.me.id {
            return Some(format!("node_id {id} is mine, and I am at {}", self.me.address));
        }
        let peer = self.peers.get(id)?;
        let is_there = peer.member.state == MemberState::Alive
            && peer.heard.is_some_and(|heard| now.mono.since(heard) <= self.timing.suspect_timeout);
        let elsewhere = peer.member.address != sender.address;
        (is_there && elsewhere && sender.joined != peer.member.joined)
            .then(|| format!("node_id {id} is alive at {}", peer.member.address))
    }

    /// Another node refuses to have us.
    pub fn on_refused(&mut self, from: &NodeId, reason: &str, out: &mut Outbox) {
        const REFUSALS_MAX: usize = 16;
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        if self.refusals.len() < REFUSALS_MAX && !self.refusals.contains(&reason) {
            out.event(Level::Warn, "refused", format!("{from} refuses this node: {reason}"));
            self.refusals.push(reason);
        }
    }

    /// A probe from a member.
    pub fn on_ping(
        &mut self,
        now: Now,
        from: &NodeId,
        (nonce, own_seen): (u64, u64),
        rumours: Vec<Member>,
        out: &mut Outbox,
    ) {
        self.on_rumours(now, from, rumours, out);
        if self.peers.contains_key(from) {
            let rumours = self.rumours_for(from);
            out.send(from, Message::Pong { nonce, seen: own_seen, rumours });
        }
    }

    /// The answer to a probe.
    pub fn on_pong(&mut self, now: Now, from: &NodeId, nonce: u64, rumours: Vec<Member>, out: &mut Outbox) {
        self.on_rumours(now, from, rumours, out);
        if mutants::is_on("pong-pongs") {
            let rumours = self.rumours_for(from);
            out.send(from, Message::Ping { nonce, seen: 0, rumours });
        }
        if self.probe.as_ref().is_some_and(|probe| probe.target == *from && probe.nonce == nonce) {
            self.probe = None;
        }
    }

    fn on_rumours(&mut self, now: Now, from: &NodeId, rumours: Vec<Member>, out: &mut Outbox) {
        for rumour in rumours.into_iter().take(RUMOURS_MAX) {
            self.merge(now, rumour, out);
        }
        if self.on_heard(now, from) && !self.has_table {
            // Others may remember lives of ours that this disk has forgotten; only a whole table tells.
            out.send(from, self.table(true));
        }
    }

    /// Does what is due: joins, probes, gives up on suspects, exchanges tables.
    pub fn on_tick(&mut self, now: Now, own_seen: u64, dice: &mut impl Rng, out: &mut Outbox) {
        if self.me.state == MemberState::Left {
            return;
        }
        if self.next_join.is_some_and(|at| at <= now.mono) {
            self.try_join(now, dice, out);
        }
        self.give_up_suspects(now, out);
        if self.next_probe <= now.mono {
            self.next_probe = now.mono + self.timing.probe_interval;
            self.end_probe(now, out);
            self.start_probe(now, own_seen, dice, out);
        }
        if self.next_gossip <= now.mono {
            self.next_gossip = now.mono + gossip_wait(&self.timing, dice);
            let mut peers = self.reachable();
            peers.shuffle(dice);
            for peer in peers.iter().take(dice.random_range(1..=GOSSIP_PEERS_MAX)) {
                out.send(peer, self.table(true));
            }
        }
    }

    /// When the next thing is due.
    pub fn next_wakeup(&self) -> Option<Instant> {
        if self.me.state == MemberState::Left {
            return None;
        }
        let suspects = self.peers.values().filter_map(|peer| peer.down_at);
        suspects.chain(self.next_join).chain([self.next_probe, self.next_gossip]).min()
    }

    /// Greets the seeds and some of those we knew, and again with a growing wait until one answers.
    fn try_join(&mut self, now: Now, dice: &mut impl Rng, out: &mut Outbox) {
        let mut known = self.in_states(&[MemberState::Alive, MemberState::Suspect, MemberState::Down]);
        if self.seeds.is_empty() && known.is_empty() {
            self.next_join = None;
            return;
        }
        known.shuffle(dice);
        known.truncate(GREETED_MAX);
        let known = known.iter().filter_map(|id| self.address(id)).cloned();
        let mut greeted: Vec<Address> = self.seeds.iter().cloned().chain(known).collect();
        greeted.sort();
        greeted.dedup();
        for address in &greeted {
            out.send_to(address, self.table(true));
        }
        self.join_failures += 1;
        self.next_join = Some(now.mono + backoff(&self.timing, self.join_failures, dice));
    }

    /// A probe that was not answered by the next one makes its target suspect, unless it was heard otherwise.
    fn end_probe(&mut self, now: Now, out: &mut Outbox) {
        let Some(probe) = self.probe.take() else { return };
        let Some(peer) = self.peers.get(&probe.target) else { return };
        let heard_since = peer.heard.is_some_and(|heard| heard >= probe.sent);
        if peer.member.state == MemberState::Alive && !heard_since {
            let record = Member { state: MemberState::Suspect, ..peer.member.clone() };
            self.merge(now, record, out);
        }
    }

    fn start_probe(&mut self, now: Now, own_seen: u64, dice: &mut impl Rng, out: &mut Outbox) {
        // Suspects are told every time, so that a live one can refute before it counts as down.
        let mut targets = self.in_states(&[MemberState::Suspect]);
        if let Some(target) = self.next_in_round(dice) {
            let nonce = dice.next_u64();
            self.probe = Some(Probe { target: target.clone(), nonce, sent: now.mono });
            targets.retain(|suspect| *suspect != target);
            self.ping(&target, nonce, own_seen, out);
        }
        for suspect in targets {
            self.ping(&suspect, dice.next_u64(), own_seen, out);
        }
    }

    fn ping(&mut self, target: &NodeId, nonce: u64, own_seen: u64, out: &mut Outbox) {
        let rumours = self.rumours_for(target);
        out.send(target, Message::Ping { nonce, seen: own_seen, rumours });
    }

    fn next_in_round(&mut self, dice: &mut impl Rng) -> Option<NodeId> {
        loop {
            if let Some(id) = self.round.pop() {
                if self.is_probed(&id) {
                    return Some(id);
                }
                continue;
            }
            self.round = self.in_states(&[MemberState::Alive, MemberState::Suspect, MemberState::Down]);
            if self.round.is_empty() {
                return None;
            }
            self.round.shuffle(dice);
        }
    }

    fn is_probed(&self, id: &NodeId) -> bool {
        let last = if mutants::is_on("down-unprobed") { MemberState::Suspect } else { MemberState::Down };
        self.peers.get(id).is_some_and(|peer| peer.member.state <= last)
    }

    fn give_up_suspects(&mut self, now: Now, out: &mut Outbox) {
        let due: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.down_at.is_some_and(|at| at <= now.mono))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            let peer = self.peers.get_mut(&id).expect("just listed");
            peer.down_at = None;
            let heard = peer.heard.is_some_and(|at| now.mono.since(at) < self.timing.suspect_timeout);
            if heard {
                // It talks to us, so it lives, whoever suspects it; its own refutation is on its way.
                peer.down_at = Some(now.mono + self.timing.suspect_timeout);
                continue;
            }
            let record = Member { state: MemberState::Down, ..peer.member.clone() };
            self.merge(now, record, out);
        }
    }

    /// Our own record, and what changed lately, those first that the target must refute.
    fn rumours_for(&mut self, target: &NodeId) -> Vec<Member> {
        let mut out = vec![self.me.clone()];
        let believed = self.peers.get(target).map(|peer| &peer.member);
        out.extend(believed.filter(|member| member.state != MemberState::Alive).cloned());
        for (id, peer) in &mut self.peers {
            if out.len() >= RUMOURS_MAX {
                break;
            }
            if peer.tell > 0 && id != target {
                peer.tell -= 1;
                out.push(peer.member.clone());
            }
        }
        out
    }

    fn table(&self, answer: bool) -> Message {
        let others = self.peers.values().map(|peer| peer.member.clone());
        Message::Table { members: [self.me.clone()].into_iter().chain(others).collect(), answer }
    }

    fn in_states(&self, states: &[MemberState]) -> Vec<NodeId> {
        let wanted = self.peers.values().filter(|peer| states.contains(&peer.member.state));
        wanted.map(|peer| peer.member.id.clone()).collect()
    }

    fn merge(&mut self, now: Now, record: Member, out: &mut Outbox) {
        if record.life > LIFE_MAX {
            out.count("members_malformed", 1);
            return;
        }
        if record.id == self.me.id {
            self.merge_own(&record, out);
            return;
        }
        let tell = 3 * (usize::BITS - self.peers.len().leading_zeros()) + 3;
        let Some(peer) = self.peers.get_mut(&record.id) else {
            self.add(now, record, tell, out);
            return;
        };
        let joined = record.joined.min(peer.member.joined);
        let is_echo = mutants::is_on("leave-echoes") && record.state == MemberState::Left;
        if rank(&record) <= rank(&peer.member) && !(is_echo && peer.member.state < MemberState::Left) {
            if joined != peer.member.joined {
                peer.member.joined = joined;
                self.unsaved.push(record.id);
            }
            return;
        }
        let before = std::mem::replace(&mut peer.member, Member { joined, ..record });
        let after = &peer.member;
        peer.tell = tell;
        peer.down_at = (after.state == MemberState::Suspect).then(|| now.mono + self.timing.suspect_timeout);
        self.unsaved.push(after.id.clone());
        let is_new_life = after.life > before.life;
        let is_back = after.state == MemberState::Alive && (is_new_life || before.state >= MemberState::Down);
        if is_back && !self.met.contains(&after.id) {
            self.met.push(after.id.clone());
        }
        if before.state != after.state || is_new_life {
            tell_change(&before, after, out);
        }
    }

    fn add(&mut self, now: Now, record: Member, tell: u32, out: &mut Outbox) {
        if self.peers.len() >= MEMBERS_MAX {
            out.count("members_over_limit", 1);
            return;
        }
        if record.state == MemberState::Alive {
            // Met it is with its own first word: what is hearsay yet need not know us, and may not exist.
            out.event(Level::Info, "member-joined", format!("{} at {}", record.id, record.address));
        }
        let down_at = (record.state == MemberState::Suspect).then(|| now.mono + self.timing.suspect_timeout);
        self.unsaved.push(record.id.clone());
        let id = record.id.clone();
        self.peers.insert(id, Peer { member: record, heard: None, last_seen: WallTime(0), down_at, tell });
    }

    /// What others believe of this node, if it is newer than what it is, is outdone by a newer record.
    fn merge_own(&mut self, record: &Member, out: &mut Outbox) {
        if record.joined < self.me.joined {
            self.me.joined = record.joined;
            self.unsaved.push(self.me.id.clone());
        }
        let is_mutant = mutants::is_on("never-refutes");
        if rank(record) <= rank(&self.me) || self.me.state == MemberState::Left || is_mutant {
            return;
        }
        out.count("refutations", 1);
        if record.life > self.me.life {
            // This disk has forgotten lives that others remember, so a new one begins.
            self.outdo(record.life, u32::MAX);
        } else {
            self.outdo(record.life, record.incarnation);
        }
    }
}

/// What records of one member are compared by.
fn rank(member: &Member) -> (u64, u32, MemberState) {
    (member.life, member.incarnation, member.state)
}

fn gossip_wait(timing: &Timing, dice: &mut impl Rng) -> std::time::Duration {
    let (min, max) = (timing.gossip_interval_min, timing.gossip_interval_max);
    min + max.saturating_sub(min).mul_f64(dice.random_range(0.0..=1.0))
}

fn tell_change(before: &Member, after: &Member, out: &mut Outbox) {
    let (level, name) = match after.state {
        MemberState::Alive if after.life > before.life => (Level::Info, "member-rejoined"),
        MemberState::Alive if before.state == MemberState::Suspect => (Level::Info, "member-refuted"),
        MemberState::Alive => (Level::Info, "member-back"),
        MemberState::Suspect => (Level::Info, "member-suspect"),
        MemberState::Down => (Level::Warn, "member-down"),
        MemberState::Left => (Level::Info, "member-left"),
        MemberState::Forgotten => (Level::Warn, "member-forgotten"),
    };
    out.event(level, name, format!("{} at {}", after.id, after.address));
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;

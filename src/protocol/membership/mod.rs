//! Who is in the cluster and how they are.
//!
//! One table, merged by the greatest `(life, incarnation, state)`, so that a rumour and a full exchange are one
//! merge. Only a member itself raises its life and incarnation: that is how it refutes being called suspect or
//! down. A member that is down keeps its place and is still probed, so it comes back by itself.
//!
//! One idea per file: `merge` the table's law, `probe` who is asked whether they live, `suspicion` how long a
//! silent member has, `gossip` how news travels, `join` how nodes meet and who is turned away, `farewell` how
//! members go. The dice and the time are arguments; nothing here knows the disk but by its rows.

mod farewell;
mod gossip;
mod join;
mod merge;
mod probe;
mod suspicion;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use super::message::Message;
use super::outbox::Outbox;
use super::timing::Timing;
use crate::model::{Address, Instant, Member, MemberState, MemberView, NodeId, Now, Origin, WallTime};
use crate::mutants;
use crate::storage::Batch;
use crate::storage::rows::{self, MemberRow};

pub use farewell::GRAVES_MAX;
pub use gossip::{GOSSIP_PEERS_MAX, NEWS_PEERS, NEWS_RUMOURS_MAX, RUMOURS_MAX};
pub use join::{CLAIMS_MAX, GREETED_MAX, REASON_CHARS_MAX, REFUSALS_MAX};
pub use merge::{LIFE_MAX, MEMBERS_MAX};
pub use probe::{HEALTH_MAX, PROBE_STEPS, PROBES_MAX, RELAYED_MAX, RELAYS};
pub use suspicion::{CONFIRMATIONS, HAILED_MAX};

/// The member table of one node and its timers.
#[derive(Debug)]
pub struct Membership {
    me: Member,
    timing: Timing,
    peers: BTreeMap<NodeId, Peer>,
    /// Members whose row in the store is behind the table.
    unsaved: BTreeSet<NodeId>,
    joining: join::Joining,
    probing: probe::Probing,
    gossip: gossip::Gossip,
    /// When suspects are told again what is believed of them.
    next_hail: Option<Instant>,
    /// When those that are down are a little longer down.
    next_away: Instant,
    /// Members that came (back) since the last call of [`Membership::take_met`].
    met: Vec<NodeId>,
}

/// What is known of another member.
#[derive(Debug)]
struct Peer {
    member: Member,
    /// When it was last heard of, by each clock; `None` before the first word in this run.
    heard: Option<Instant>,
    last_seen: WallTime,
    /// While it is a suspect.
    suspicion: Option<suspicion::Suspicion>,
    /// How many more messages carry this record as a rumour.
    tell: u32,
    /// How long it has been down while this node ran.
    away: Duration,
}

impl Membership {
    /// The table as the disk has it, with `me` as this node's own new life.
    pub fn load(
        me: Member,
        known: Vec<MemberRow>,
        seeds: Vec<Address>,
        timing: Timing,
        now: Now,
        dice: &mut impl Rng,
    ) -> Membership {
        let mut table = Membership {
            unsaved: [me.id.clone()].into(),
            joining: join::Joining::new(&me, seeds, now),
            probing: probe::Probing::new(now.mono + timing.probe_interval),
            gossip: gossip::Gossip::new(now.mono + gossip::wait(&timing, dice)),
            next_hail: None,
            next_away: now.mono + farewell::away_step(&timing),
            peers: BTreeMap::new(),
            met: Vec::new(),
            me,
            timing,
        };
        for row in known {
            if row.member.id == table.me.id {
                continue;
            }
            // A record that says alive is hearsay from before this start, so it is put to the test at once; a
            // suspect has its time to answer once more.
            let is_suspect = row.member.state == MemberState::Suspect;
            let id = row.member.id.clone();
            let peer = Peer { last_seen: row.last_seen, away: row.away, ..Peer::new(row.member) };
            table.peers.insert(id.clone(), peer);
            if is_suspect {
                table.begin_suspicion(now, &id);
            }
        }
        table
    }

    /// This node's own record.
    pub fn me(&self) -> &Member {
        &self.me
    }

    /// The timers.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Changes what this node says of itself; a new incarnation makes others take it.
    pub fn update_me(&mut self, now: Now, change: impl FnOnce(&mut Member)) {
        change(&mut self.me);
        self.outdo(now, self.me.life, self.me.incarnation);
    }

    /// Takes other timers from now on; what is under way ends by the old ones.
    pub fn set_timing(&mut self, now: Now, timing: Timing, dice: &mut impl Rng) {
        self.timing = timing;
        self.gossip.next_exchange = now.mono + gossip::wait(&self.timing, dice);
        self.probing.next_probe = now.mono + self.timing.probe_interval;
    }

    /// Where a member is reached.
    pub fn address(&self, id: &NodeId) -> Option<&Address> {
        self.peers.get(id).map(|peer| &peer.member.address)
    }

    /// The record of another member.
    pub fn member(&self, id: &NodeId) -> Option<&Member> {
        self.peers.get(id).map(|peer| &peer.member)
    }

    /// Every record but this node's own, in id order, those who left and were forgotten included.
    pub fn others(&self) -> impl Iterator<Item = &Member> {
        self.peers.values().map(|peer| &peer.member)
    }

    /// Whether data is exchanged with a node: a member that was not forgotten and has the same policies.
    pub fn takes_data_from(&self, id: &NodeId) -> bool {
        self.peers.get(id).is_some_and(|peer| {
            peer.member.state != MemberState::Forgotten && peer.member.policies == self.me.policies
        })
    }

    /// Members worth sending to: alive or suspect, in id order.
    pub fn reachable(&self) -> Vec<NodeId> {
        self.in_states(&[MemberState::Alive, MemberState::Suspect])
    }

    /// Members alive, in id order, without this node.
    pub fn healthy(&self) -> Vec<NodeId> {
        self.in_states(&[MemberState::Alive])
    }

    /// Members worth sending data to: reachable, and of the same policies.
    pub fn data_peers(&self) -> Vec<NodeId> {
        let mut peers = self.reachable();
        peers.retain(|id| self.takes_data_from(id));
        peers
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
        self.joining.has_table || self.joining.is_alone() && self.peers.is_empty()
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

    /// Whether more than half of the members that count are alive as far as this node knows.
    pub fn sees_majority(&self) -> bool {
        self.alive_count() * 2 > self.count()
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
                let row =
                    MemberRow { member: peer.member.clone(), last_seen: peer.last_seen, away: peer.away };
                rows::put_member(batch, &row);
            } else {
                rows::remove_member(batch, &id);
            }
        }
        own
    }

    /// Any word from a member is a sign of life. Says whether it was the first one in this run.
    pub fn on_heard(&mut self, now: Now, from: &NodeId, out: &mut Outbox) -> bool {
        let Some(peer) = self.peers.get_mut(from) else { return false };
        let is_first = peer.heard.is_none();
        peer.heard = Some(now.mono);
        peer.last_seen = now.wall;
        if is_first && !self.met.contains(from) {
            self.met.push(from.clone());
        }
        self.answered(from, out);
        is_first
    }

    /// Does what is due: joins, probes, gives up on suspects, spreads news, exchanges tables.
    pub fn on_tick(&mut self, now: Now, own_seen: u64, dice: &mut impl Rng, out: &mut Outbox) {
        if self.me.state == MemberState::Left {
            return;
        }
        self.notice_a_stall(now, out);
        self.join_if_due(now, dice, out);
        self.judge_claims(now, own_seen, out);
        if self.joining.stands_back() {
            return;
        }
        self.give_up_suspects(now, out);
        self.go_on_probing(now, own_seen, dice, out);
        self.hail_suspects(now, own_seen, dice, out);
        self.spread_news(now, dice, out);
        self.exchange_tables(now, dice, out);
        self.forget_the_long_gone(now, out);
    }

    /// When the next thing is due.
    pub fn next_wakeup(&self) -> Option<Instant> {
        if self.me.state == MemberState::Left {
            return None;
        }
        let joining = self.joining.next_wakeup();
        if self.joining.stands_back() {
            return joining;
        }
        let suspects = self.peers.values().filter_map(|peer| peer.suspicion.as_ref()?.down_at.into());
        let timers = [joining, self.probing.next_wakeup(), self.next_hail, self.gossip.next_wakeup()];
        suspects.chain(timers.into_iter().flatten()).chain([self.next_away]).min()
    }

    /// A node that was stopped for a while cannot tell its own silence from that of others: nobody is called
    /// down for it, and every question is asked again.
    fn notice_a_stall(&mut self, now: Now, out: &mut Outbox) {
        let Some(due) = self.next_wakeup() else { return };
        let late = now.mono.since(due);
        if late <= self.timing.probe_interval || mutants::is_on("stall-unnoticed") {
            return;
        }
        out.count("stalls", 1);
        self.probing.forget_questions();
        for peer in self.peers.values_mut() {
            if let Some(suspicion) = &mut peer.suspicion {
                suspicion.since = suspicion.since + late;
                suspicion.down_at = suspicion.down_at + late;
            }
        }
    }

    fn in_states(&self, states: &[MemberState]) -> Vec<NodeId> {
        let wanted = self.peers.values().filter(|peer| states.contains(&peer.member.state));
        wanted.map(|peer| peer.member.id.clone()).collect()
    }
}

impl Peer {
    fn new(member: Member) -> Peer {
        Peer { member, heard: None, last_seen: WallTime(0), suspicion: None, tell: 0, away: Duration::ZERO }
    }
}

/// Up to `count` of `from`, each as likely as any other.
fn some_of(mut from: Vec<NodeId>, count: usize, dice: &mut impl Rng) -> Vec<NodeId> {
    let (chosen, _) = from.partial_shuffle(dice, count);
    chosen.to_vec()
}

#[cfg(test)]
mod tests;

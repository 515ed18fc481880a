//! The law of the table: of two records of one member the greater `(life, incarnation, state)` is kept.
//!
//! What others believe of this node itself is outdone by a newer record if it is newer than what the node is.

use super::gossip::tells;
use super::*;
use crate::protocol::outbox::Level;

/// Most members that a table holds; records of further ones are dropped and counted.
pub const MEMBERS_MAX: usize = 1024;
/// The last life that is believed: far beyond any number of starts, far enough from the end of the type.
pub const LIFE_MAX: u64 = u64::MAX / 4;

impl Membership {
    pub(super) fn merge(&mut self, now: Now, record: Member, out: &mut Outbox) {
        if record.life > LIFE_MAX {
            out.count("members_malformed", 1);
            return;
        }
        if record.id == self.me.id {
            self.merge_own(now, &record, out);
            return;
        }
        let Some(peer) = self.peers.get_mut(&record.id) else {
            self.add(now, record, out);
            return;
        };
        let joined = record.joined.min(peer.member.joined);
        let is_echo = mutants::is_on("leave-echoes")
            && record.state == MemberState::Left
            && peer.member.state < MemberState::Left;
        let is_newer = match is_echo || mutants::is_on("older-record-wins") {
            true => record.state != peer.member.state,
            false => rank(&record) > rank(&peer.member),
        };
        if !is_newer {
            let is_stale = record.state != MemberState::Alive && rank(&record) < rank(&peer.member);
            if is_stale {
                // Whoever still believes that may have missed the refutation, so it is told once more.
                peer.tell = peer.tell.max(1);
            }
            if joined != peer.member.joined {
                peer.member.joined = joined;
                self.unsaved.insert(record.id);
            }
            return;
        }
        let id = record.id.clone();
        let before = std::mem::replace(&mut peer.member, Member { joined, ..record });
        self.changed(now, &id, &before, out);
    }

    /// What follows when a record has taken the place of an older one.
    fn changed(&mut self, now: Now, id: &NodeId, before: &Member, out: &mut Outbox) {
        let tell = tells(self.peers.len());
        let peer = self.peers.get_mut(id).expect("just merged");
        let after = peer.member.clone();
        peer.tell = tell;
        peer.suspicion = None;
        if after.state != MemberState::Down {
            peer.away = Duration::ZERO;
        }
        self.unsaved.insert(id.clone());
        self.gossip.has_news(now);
        let is_new_life = after.life > before.life;
        let is_back = after.state == MemberState::Alive && (is_new_life || before.state >= MemberState::Down);
        if is_back && !self.met.contains(id) {
            self.met.push(id.clone());
        }
        if before.state != after.state || is_new_life {
            tell_change(before, &after, out);
        }
        if before.address != after.address {
            let text = format!("{id} moved from {} to {}", before.address, after.address);
            out.event(Level::Info, "member-moved", text);
        }
        if before.policies != after.policies || before.protocol != after.protocol {
            self.tell_differences(&after, out);
        }
        if after.state == MemberState::Suspect {
            self.begin_suspicion(now, id);
        }
        self.bury_within_bounds();
    }

    fn add(&mut self, now: Now, record: Member, out: &mut Outbox) {
        if self.peers.len() >= MEMBERS_MAX {
            out.count("members_over_limit", 1);
            return;
        }
        if record.state == MemberState::Alive {
            // Met it is with its own first word: what is hearsay yet need not know us, and may not exist.
            out.event(Level::Info, "member-joined", format!("{} at {}", record.id, record.address));
        }
        self.tell_differences(&record, out);
        self.unsaved.insert(record.id.clone());
        let (id, state) = (record.id.clone(), record.state);
        let tell = tells(self.peers.len() + 1);
        self.peers.insert(id.clone(), Peer { tell, ..Peer::new(record) });
        self.gossip.has_news(now);
        if state == MemberState::Suspect {
            self.begin_suspicion(now, &id);
        }
        self.bury_within_bounds();
    }

    /// Why a member exchanges no data with this node, said once per change.
    fn tell_differences(&self, member: &Member, out: &mut Outbox) {
        if member.policies != self.me.policies && member.state <= MemberState::Down {
            let text = format!("{} has other policies by prefix; no data flows between us", member.id);
            out.event(Level::Warn, "policies-differ", text);
        }
    }

    /// What others believe of this node, if it is newer than what it is, is outdone by a newer record.
    fn merge_own(&mut self, now: Now, record: &Member, out: &mut Outbox) {
        let is_elsewhere = record.address != self.me.address;
        if record.joined < self.me.joined && !is_elsewhere {
            self.me.joined = record.joined;
            self.unsaved.insert(self.me.id.clone());
        }
        let is_mutant = mutants::is_on("never-refutes");
        if rank(record) <= rank(&self.me) || self.me.state == MemberState::Left || is_mutant {
            return;
        }
        if is_elsewhere && record.state <= MemberState::Suspect && self.yields_to(record) {
            self.stand_back(now, record, out);
            return;
        }
        out.count("refutations", 1);
        if record.state == MemberState::Suspect {
            self.probing.lose_health();
        }
        if record.life > self.me.life {
            // This disk has forgotten lives that others remember, so a new one begins.
            self.outdo(now, record.life, u32::MAX);
        } else {
            self.outdo(now, record.life, record.incarnation);
        }
    }

    /// Makes this node's own record newer than one with this life and incarnation.
    pub(super) fn outdo(&mut self, now: Now, life: u64, incarnation: u32) {
        (self.me.life, self.me.incarnation) = match incarnation.checked_add(1) {
            Some(next) => (life, next),
            None => (life + 1, 0),
        };
        self.unsaved.insert(self.me.id.clone());
        self.gossip.has_own_news(now, tells(self.peers.len()));
    }
}

/// What records of one member are compared by.
pub(super) fn rank(member: &Member) -> (u64, u32, MemberState) {
    (member.life, member.incarnation, member.state)
}

fn tell_change(before: &Member, after: &Member, out: &mut Outbox) {
    let (level, name) = match after.state {
        MemberState::Alive if before.state == MemberState::Forgotten => (Level::Warn, "forgotten-returned"),
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

//! How members go: by saying goodbye, by an operator's word, or because they were down for too long.
//!
//! Those who left or were forgotten stay in the table as graves, so that an old rumour does not bring them back;
//! the graves are bounded. The time that a member is down is counted while this node runs, by the monotonic
//! clock, so that neither a jump of the wall clock nor this node's own absence makes anybody be forgotten.

use super::*;
use crate::model::Mode;

/// Most members that left or were forgotten of whom a record is kept; beyond it those of the smallest rank go.
pub const GRAVES_MAX: usize = 256;
/// Into how many steps the wait before a member is forgotten is cut; its row is written once per step.
const AWAY_STEPS: u32 = 256;

/// How often those that are down are noted to be down for longer.
pub(super) fn away_step(timing: &Timing) -> Duration {
    (timing.forget_after / AWAY_STEPS).max(Duration::from_millis(1))
}

impl Membership {
    /// Says goodbye to everyone who can hear it.
    pub fn leave(&mut self, now: Now, out: &mut Outbox) {
        self.update_me(now, |me| {
            me.state = MemberState::Left;
            me.mode = Mode::Draining;
        });
        for id in self.reachable() {
            out.send(&id, self.table(false));
        }
    }

    /// Forgets a member: one that is down or left, and with `force` also one that seems to live. One that does
    /// live comes back by itself, as if it had been away for too long: to keep it out, stop it.
    ///
    /// # Errors
    /// It is unknown, this node itself, or not down.
    pub fn remove(&mut self, now: Now, id: &NodeId, force: bool, out: &mut Outbox) -> Result<(), String> {
        if *id == self.me.id {
            return Err("a node cannot remove itself; ask it to leave".into());
        }
        let Some(peer) = self.peers.get(id) else { return Err(format!("no member is called {id}")) };
        if peer.member.state <= MemberState::Suspect && !force {
            return Err(format!("{id} is alive; ask it to leave, or force it"));
        }
        let record = Member { state: MemberState::Forgotten, ..peer.member.clone() };
        self.merge(now, record, out);
        Ok(())
    }

    /// Counts how long members have been down, and forgets those that were for too long, if this side can be
    /// sure that it is not itself the part that is cut off.
    pub(super) fn forget_the_long_gone(&mut self, now: Now, out: &mut Outbox) {
        if self.next_away > now.mono {
            return;
        }
        let step = away_step(&self.timing);
        self.next_away = now.mono + step;
        let has_majority = self.sees_majority() || mutants::is_on("minority-forgets");
        let mut forgotten = Vec::new();
        for (id, peer) in &mut self.peers {
            if peer.member.state != MemberState::Down {
                continue;
            }
            peer.away += step;
            self.unsaved.insert(id.clone());
            if peer.away >= self.timing.forget_after && has_majority {
                forgotten.push(Member { state: MemberState::Forgotten, ..peer.member.clone() });
            }
        }
        for record in forgotten {
            self.merge(now, record, out);
        }
    }

    /// Keeps the number of graves within its bound.
    pub(super) fn bury_within_bounds(&mut self) {
        let graves = || self.peers.iter().filter(|(_, peer)| peer.member.state >= MemberState::Left);
        if graves().count() <= GRAVES_MAX {
            return;
        }
        let oldest = graves().min_by_key(|(id, peer)| (peer.member.joined, (*id).clone()));
        let oldest = oldest.map(|(id, _)| id.clone()).expect("there are many");
        self.peers.remove(&oldest);
        self.unsaved.insert(oldest);
    }
}

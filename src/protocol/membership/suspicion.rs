//! How long a silent member has before it counts as down.
//!
//! A suspicion that nobody else confirms lasts twice `suspect_timeout`: the trouble may be ours. Each further
//! node that has failed to reach the suspect shortens it, down to `suspect_timeout`. Until then the suspect is
//! told again and again what is believed of it, by everyone who believes it.

use super::*;

/// How many other nodes must confirm a suspicion for it to last no longer than `suspect_timeout`.
pub const CONFIRMATIONS: usize = 3;
/// Most suspects that are told at once what is believed of them.
pub const HAILED_MAX: usize = 16;
/// A suspicion that nobody confirms lasts this many times `suspect_timeout`.
const UNCONFIRMED_FACTOR: f64 = 2.0;

/// Why a member is a suspect, and until when it may answer.
#[derive(Debug)]
pub(super) struct Suspicion {
    pub(super) since: Instant,
    /// Who said that they failed to reach it, this node included.
    accusers: BTreeSet<NodeId>,
    pub(super) down_at: Instant,
}

impl Membership {
    /// A member's record says suspect from now on.
    pub(super) fn begin_suspicion(&mut self, now: Now, id: &NodeId) {
        let down_at = now.mono + self.suspicion_lasts(0);
        let suspicion = Suspicion { since: now.mono, accusers: BTreeSet::new(), down_at };
        self.peers.get_mut(id).expect("the caller has it").suspicion = Some(suspicion);
        self.next_hail = Some(self.next_hail.map_or(now.mono, |at| at.min(now.mono)));
    }

    /// This node itself could not reach a member.
    pub(super) fn accuse(&mut self, now: Now, id: &NodeId, out: &mut Outbox) {
        let Some(peer) = self.peers.get(id) else { return };
        if peer.member.state == MemberState::Alive {
            let record = Member { state: MemberState::Suspect, ..peer.member.clone() };
            self.merge(now, record, out);
        }
        self.confirm(id, self.me.id.clone());
    }

    /// Another node says whom it could not reach.
    pub(super) fn on_unreached(&mut self, from: &NodeId, unreached: &[NodeId]) {
        for id in unreached.iter().filter(|id| *id != from) {
            self.confirm(id, from.clone());
        }
    }

    fn confirm(&mut self, id: &NodeId, by: NodeId) {
        let known = self.peers.get(id).and_then(|peer| peer.suspicion.as_ref());
        let Some(known) = known.filter(|known| !known.accusers.contains(&by)) else { return };
        if known.accusers.len() > CONFIRMATIONS {
            return;
        }
        let lasts = self.suspicion_lasts(known.accusers.len());
        let suspicion = self.peers.get_mut(id).and_then(|peer| peer.suspicion.as_mut()).expect("just found");
        suspicion.accusers.insert(by);
        suspicion.down_at = suspicion.down_at.min(suspicion.since + lasts);
    }

    /// How long a suspicion lasts that `confirmed` nodes share beside the first one.
    fn suspicion_lasts(&self, confirmed: usize) -> Duration {
        let shortest = self.timing.suspect_timeout;
        // The two that the suspicion is about, and those who cannot answer, confirm nothing.
        let wanted = CONFIRMATIONS.min(self.reachable().len().saturating_sub(1));
        if confirmed >= wanted || mutants::is_on("suspicion-impatient") {
            return shortest;
        }
        let part = (confirmed as f64 + 1.0).ln() / (wanted as f64 + 1.0).ln();
        shortest.mul_f64(UNCONFIRMED_FACTOR - (UNCONFIRMED_FACTOR - 1.0) * part)
    }

    /// Whom this node has itself failed to reach since they are suspects.
    pub(super) fn unreached(&self) -> Vec<NodeId> {
        let is_mine = |peer: &&Peer| {
            peer.suspicion.as_ref().is_some_and(|suspicion| suspicion.accusers.contains(&self.me.id))
        };
        self.peers
            .values()
            .filter(is_mine)
            .take(NEWS_RUMOURS_MAX)
            .map(|peer| peer.member.id.clone())
            .collect()
    }

    pub(super) fn give_up_suspects(&mut self, now: Now, out: &mut Outbox) {
        let is_due = |peer: &Peer| peer.suspicion.as_ref().is_some_and(|it| it.down_at <= now.mono);
        let due: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| is_due(peer)).map(|(id, _)| id.clone()).collect();
        for id in due {
            let patience = self.timing.suspect_timeout;
            let peer = self.peers.get_mut(&id).expect("just listed");
            if peer.heard.is_some_and(|at| now.mono.since(at) < patience) && !mutants::is_on("deaf-judge") {
                // It talks to us, so it lives, whoever suspects it; its own refutation is on its way.
                peer.suspicion.as_mut().expect("just looked").down_at = now.mono + patience;
                continue;
            }
            let record = Member { state: MemberState::Down, ..peer.member.clone() };
            self.merge(now, record, out);
        }
    }

    /// Tells suspects what is believed of them, and accuses those that stay silent.
    pub(super) fn hail_suspects(&mut self, now: Now, own_seen: u64, dice: &mut impl Rng, out: &mut Outbox) {
        if self.next_hail.is_none_or(|at| at > now.mono) {
            return;
        }
        let suspects = self.in_states(&[MemberState::Suspect]);
        self.next_hail = (!suspects.is_empty()).then(|| now.mono + self.timing.probe_interval / 2);
        for id in &suspects {
            let peer = &self.peers[id];
            let Some(suspicion) = &peer.suspicion else { continue };
            let is_silent = peer.heard.is_none_or(|heard| heard < suspicion.since)
                && now.mono.since(suspicion.since) >= self.probing.stretched(self.timing.probe_interval);
            if is_silent && !suspicion.accusers.contains(&self.me.id) {
                self.confirm(id, self.me.id.clone());
                let tell = gossip::tells(self.peers.len());
                self.peers.get_mut(id).expect("a suspect is a peer").tell = tell;
                self.gossip.has_news(now);
            }
        }
        for id in some_of(suspects, HAILED_MAX, dice) {
            self.ping(&id, dice.next_u64(), own_seen, out);
        }
    }
}

//! Who is asked whether they live: everyone in turn, those that are down included, and every other time the one
//! member that this node watches.
//!
//! Turns alone are drawn by each node for itself, so once in a while nobody asks a member for some seconds. All
//! nodes stand on a ring of hashed names, and each watches the next one that lives: so everybody is watched by
//! somebody, and a death is met within two intervals. The rest of the probes look everywhere, since a watcher
//! can die along with whom it watches.
//!
//! A probe lasts two intervals. It asks directly four times, and from the second time on also through a few
//! others; any word from the target ends it, whatever it was about. A node that hears nothing from the helpers
//! either doubts itself: its questions wait longer.

use super::*;

/// How often a probe asks before it accuses.
pub const PROBE_STEPS: u32 = 4;
/// How many others are asked to reach the target with each later step of a probe.
pub const RELAYS: usize = 3;
/// Most probes under way.
pub const PROBES_MAX: usize = 8;
/// Most questions that are relayed for others at a time.
pub const RELAYED_MAX: usize = 64;
/// The most by which a node doubts itself: its questions wait up to one and this many times as long.
pub const HEALTH_MAX: u32 = 3;

#[derive(Debug)]
pub(super) struct Probing {
    /// The members still to be probed in this round, last first.
    round: Vec<NodeId>,
    /// Whether the next probe is the turn of the member that is watched.
    watches: bool,
    probes: Vec<Probe>,
    pub(super) next_probe: Instant,
    relayed: Vec<Relayed>,
    /// How much this node doubts itself, up to [`HEALTH_MAX`].
    doubt: u32,
}

/// A question under way.
#[derive(Debug)]
struct Probe {
    target: NodeId,
    nonce: u64,
    step: u32,
    next_step: Instant,
    /// Between two steps.
    pause: Duration,
    asked: BTreeSet<NodeId>,
    /// Whether a helper said anything.
    is_heard: bool,
}

/// A question asked for somebody else.
#[derive(Debug)]
struct Relayed {
    asker: NodeId,
    nonce: u64,
    target: NodeId,
    until: Instant,
}

impl Probing {
    pub(super) fn new(next_probe: Instant) -> Probing {
        Probing {
            round: Vec::new(),
            watches: false,
            probes: Vec::new(),
            next_probe,
            relayed: Vec::new(),
            doubt: 0,
        }
    }

    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        let steps = self.probes.iter().map(|probe| probe.next_step);
        let relayed = self.relayed.iter().map(|relayed| relayed.until);
        steps.chain(relayed).chain([self.next_probe]).min()
    }

    /// A time to wait, longer while this node doubts itself.
    pub(super) fn stretched(&self, time: Duration) -> Duration {
        time * (1 + self.doubt)
    }

    pub(super) fn lose_health(&mut self) {
        self.doubt = (self.doubt + 1).min(HEALTH_MAX);
    }

    /// After a stall: nobody can have answered.
    pub(super) fn forget_questions(&mut self) {
        self.probes.clear();
        self.relayed.clear();
        self.lose_health();
    }
}

impl Membership {
    pub(super) fn go_on_probing(&mut self, now: Now, own_seen: u64, dice: &mut impl Rng, out: &mut Outbox) {
        self.answer_for_the_silent(now, out);
        self.step_probes(now, own_seen, dice, out);
        if self.probing.next_probe <= now.mono {
            self.probing.next_probe = now.mono + self.probing.stretched(self.timing.probe_interval);
            self.start_probe(now, own_seen, dice, out);
        }
    }

    fn start_probe(&mut self, now: Now, own_seen: u64, dice: &mut impl Rng, out: &mut Outbox) {
        let Some(target) = self.next_target(dice) else { return };
        let state = self.peers[&target].member.state;
        let is_asked = self.probing.probes.iter().any(|probe| probe.target == target);
        if is_asked || state == MemberState::Suspect {
            // It is being asked already; suspects are hailed.
            return;
        }
        let nonce = dice.next_u64();
        self.ping(&target, nonce, own_seen, out);
        if state == MemberState::Down || self.probing.probes.len() >= PROBES_MAX {
            // Of one that is down nothing worse can be said.
            return;
        }
        let pause = self.probing.stretched(self.timing.probe_interval) / 2;
        let next_step = now.mono + pause;
        let asked = BTreeSet::new();
        self.probing.probes.push(Probe { target, nonce, step: 1, next_step, pause, asked, is_heard: false });
    }

    fn step_probes(&mut self, now: Now, own_seen: u64, dice: &mut impl Rng, out: &mut Outbox) {
        let (due, waiting): (Vec<Probe>, Vec<Probe>) =
            self.probing.probes.drain(..).partition(|probe| probe.next_step <= now.mono);
        self.probing.probes = waiting;
        for mut probe in due {
            if self.peers.get(&probe.target).is_none_or(|peer| peer.member.state != MemberState::Alive) {
                continue;
            }
            if probe.step >= PROBE_STEPS {
                if !probe.asked.is_empty() && !probe.is_heard {
                    self.probing.lose_health();
                }
                self.accuse(now, &probe.target, out);
                continue;
            }
            probe.step += 1;
            probe.next_step = now.mono + probe.pause;
            self.ping(&probe.target, probe.nonce, own_seen, out);
            if !mutants::is_on("no-relays") {
                self.ask_relays(&mut probe, dice, out);
            }
            self.probing.probes.push(probe);
        }
    }

    fn ask_relays(&self, probe: &mut Probe, dice: &mut impl Rng, out: &mut Outbox) {
        let mut helpers = self.in_states(&[MemberState::Alive]);
        helpers.retain(|id| *id != probe.target);
        let fresh: Vec<NodeId> = helpers.iter().filter(|id| !probe.asked.contains(id)).cloned().collect();
        // In a small cluster the same few are asked again.
        let from = if fresh.len() >= RELAYS { fresh } else { helpers };
        for helper in some_of(from, RELAYS, dice) {
            out.send(&helper, Message::Reach { nonce: probe.nonce, target: probe.target.clone() });
            probe.asked.insert(helper);
        }
    }

    pub(super) fn ping(&mut self, target: &NodeId, nonce: u64, own_seen: u64, out: &mut Outbox) {
        let rumours = self.rumours_for(target, RUMOURS_MAX);
        out.send(target, Message::Ping { nonce, seen: own_seen, table: self.digest(), rumours });
    }

    /// Asked to reach somebody for another node.
    pub fn on_reach(
        &mut self,
        now: Now,
        from: &NodeId,
        (nonce, target): (u64, NodeId),
        own_seen: u64,
        out: &mut Outbox,
    ) {
        self.on_heard(now, from, out);
        let is_known = self.peers.get(&target).is_some_and(|peer| peer.member.state <= MemberState::Down);
        if !is_known || target == *from || self.probing.relayed.len() >= RELAYED_MAX {
            out.send(from, Message::Reached { nonce, target, answered: false });
            return;
        }
        self.ping(&target, nonce, own_seen, out);
        let until = now.mono + self.timing.probe_interval / 2;
        self.probing.relayed.push(Relayed { asker: from.clone(), nonce, target, until });
    }

    /// What became of a question that somebody else asked for this node.
    pub fn on_reached(
        &mut self,
        now: Now,
        from: &NodeId,
        (nonce, target): (u64, &NodeId),
        answered: bool,
        out: &mut Outbox,
    ) {
        self.on_heard(now, from, out);
        let is_it = |probe: &Probe| probe.nonce == nonce && probe.target == *target;
        if answered {
            self.probing.probes.retain(|probe| !is_it(probe));
        } else if let Some(probe) = self.probing.probes.iter_mut().find(|probe| is_it(probe)) {
            probe.is_heard = true;
        }
    }

    /// A member said a word: whoever asked about it is answered.
    pub(super) fn answered(&mut self, from: &NodeId, out: &mut Outbox) {
        let before = self.probing.probes.len();
        self.probing.probes.retain(|probe| probe.target != *from);
        if self.probing.probes.len() < before {
            self.probing.doubt = self.probing.doubt.saturating_sub(1);
        }
        let (answered, waiting): (Vec<Relayed>, Vec<Relayed>) =
            self.probing.relayed.drain(..).partition(|relayed| relayed.target == *from);
        self.probing.relayed = waiting;
        for Relayed { asker, nonce, target, .. } in answered {
            out.send(&asker, Message::Reached { nonce, target, answered: true });
        }
        let is_down = self.peers.get(from).is_some_and(|peer| peer.member.state == MemberState::Down);
        if is_down {
            // It lives and does not know what is believed of it: the next probe tells it.
            self.probing.round.retain(|id| id != from);
            self.probing.round.push(from.clone());
        }
    }

    fn answer_for_the_silent(&mut self, now: Now, out: &mut Outbox) {
        let (over, waiting): (Vec<Relayed>, Vec<Relayed>) =
            self.probing.relayed.drain(..).partition(|relayed| relayed.until <= now.mono);
        self.probing.relayed = waiting;
        for Relayed { asker, nonce, target, .. } in over {
            out.send(&asker, Message::Reached { nonce, target, answered: false });
        }
    }

    fn next_target(&mut self, dice: &mut impl Rng) -> Option<NodeId> {
        self.probing.watches = !self.probing.watches && !mutants::is_on("unwatched");
        let watched = self.probing.watches.then(|| self.watched()).flatten();
        watched.or_else(|| self.next_in_round(dice))
    }

    /// The member alive that comes next after this node on the ring of hashed names.
    fn watched(&self) -> Option<NodeId> {
        let place = |id: &NodeId| xxhash_rust::xxh3::xxh3_64(id.as_str().as_bytes());
        let me = place(&self.me.id);
        let alive = self.peers.values().filter(|peer| peer.member.state == MemberState::Alive);
        let next = alive.min_by_key(|peer| (place(&peer.member.id).wrapping_sub(me), &peer.member.id));
        next.map(|peer| peer.member.id.clone())
    }

    /// Everyone once per round, in an order drawn anew for each, so that nobody waits longer than two rounds.
    fn next_in_round(&mut self, dice: &mut impl Rng) -> Option<NodeId> {
        loop {
            if let Some(id) = self.probing.round.pop() {
                if self.is_probed(&id) {
                    return Some(id);
                }
                continue;
            }
            let states = match mutants::is_on("down-unprobed") {
                true => &[MemberState::Alive, MemberState::Suspect][..],
                false => &[MemberState::Alive, MemberState::Suspect, MemberState::Down][..],
            };
            self.probing.round = self.in_states(states);
            if self.probing.round.is_empty() {
                return None;
            }
            self.probing.round.shuffle(dice);
        }
    }

    fn is_probed(&self, id: &NodeId) -> bool {
        self.peers.get(id).is_some_and(|peer| peer.member.state <= MemberState::Down)
    }
}

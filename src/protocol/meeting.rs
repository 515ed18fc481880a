//! Meetings: what two nodes settle before any data passes between them.
//!
//! Each node has a *number*, drawn at its start and again whenever it collects or rebases; the sum of both names
//! the meeting. It stands once each side knows what the other has covered and collected, each has covered what
//! the other collected (or was held against it in a rebase), and their policies agree. A frame sent in an earlier
//! meeting is discarded unread, so however late it comes, it brings nothing back that was deleted and collected
//! since. What members have covered is also what the stable cut is made of.
//!
//! Leaves to others: what is collected (`collect`), and how a side that is behind catches up (`rebase`).

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;

use super::membership::Membership;
use super::message::Message;
use super::outbox::{Level, Outbox};
use super::outline::{Assembly, Outline, Part, RANGES, Which, part_of};
use super::pull::backoff;
use super::replica::Replica;
use super::timing::Timing;
use crate::model::{DotSet, Instant, NodeId, Now};
use crate::mutants;

/// How often a peer that speaks in a meeting that is over is told so.
pub const STALE_PATIENCE: Duration = Duration::from_millis(100);

/// The meetings of one node.
#[derive(Debug)]
pub struct Meetings {
    timing: Timing,
    policies: u64,
    run: u64,
    fence: u64,
    draws: u32,
    by_peer: BTreeMap<NodeId, Meeting>,
    /// Whether this node is held against a peer just now: then no data passes at all.
    is_suspended: bool,
    /// Peers with whom a meeting began or ended since this was last asked.
    changed: Vec<NodeId>,
}

/// One peer, as far as data goes.
#[derive(Debug, Default)]
struct Meeting {
    theirs: Option<Theirs>,
    /// The number under which the meeting stands.
    number: Option<u64>,
    /// Whether this node has to be held against the peer first.
    is_behind: bool,
    asking: Option<(Which, Assembly)>,
    /// When the peer was last told of this node's sets.
    told: Option<Instant>,
    /// When it is told again.
    next_tell: Option<Instant>,
    failures: u32,
}

/// What a peer told of itself.
#[derive(Clone, Debug)]
struct Theirs {
    life: u64,
    run: u64,
    draws: u32,
    fence: u64,
    roster: u64,
    policies: u64,
    /// What it has certainly covered, in this life.
    covered: DotSet,
    is_covered_whole: bool,
    /// All that it had covered at one moment, the last of which it told.
    at_once: Option<DotSet>,
    /// What it has collected; known whole or not at all.
    collected: Option<DotSet>,
}

/// What a [`Message::Meet`] says.
#[derive(Clone, Debug)]
pub struct Told {
    /// See the message.
    pub life: u64,
    /// See the message.
    pub run: u64,
    /// See the message.
    pub draws: u32,
    /// See the message.
    pub fence: u64,
    /// See the message.
    pub roster: u64,
    /// See the message.
    pub policies: u64,
    /// See the message.
    pub seen: Outline,
    /// See the message.
    pub collected: Outline,
    /// See the message.
    pub answer: bool,
}

/// What a node knows of itself when it meets others.
#[derive(Clone, Copy)]
pub struct Own<'a> {
    /// Its sets.
    pub replica: &'a Replica,
    /// Its members.
    pub members: &'a Membership,
}

impl Meetings {
    /// No meeting yet; `policies` is the digest of this node's policies.
    pub fn new(timing: Timing, policies: u64, dice: &mut impl Rng) -> Meetings {
        Meetings {
            timing,
            policies,
            run: dice.next_u64(),
            fence: dice.next_u64(),
            draws: 0,
            by_peer: BTreeMap::new(),
            is_suspended: false,
            changed: Vec::new(),
        }
    }

    /// Takes other timers from now on.
    pub fn set_timing(&mut self, timing: Timing) {
        self.timing = timing;
    }

    /// A peer came (back): opens a meeting with it.
    pub fn on_met(&mut self, now: Now, peer: &NodeId, own: Own<'_>, out: &mut Outbox) {
        let life = own.members.life(peer);
        let meeting = self.by_peer.entry(peer.clone()).or_default();
        if meeting.theirs.as_ref().is_some_and(|theirs| Some(theirs.life) != life) {
            meeting.theirs = None;
            meeting.asking = None;
        }
        meeting.failures = 0;
        // Whatever stood has ended: what was under way is asked for again.
        if meeting.number.take().is_some() {
            out.set_meeting(peer, None);
            self.changed.push(peer.clone());
        }
        self.tell(now, peer, own, true, out);
        self.settle(peer, own, out);
    }

    /// A peer is gone for good.
    pub fn on_gone(&mut self, peer: &NodeId, out: &mut Outbox) {
        self.by_peer.remove(peer);
        out.set_meeting(peer, None);
    }

    /// A peer told of itself.
    pub fn on_meet(&mut self, now: Now, from: &NodeId, told: Told, own: Own<'_>, out: &mut Outbox) {
        let meeting = self.by_peer.entry(from.clone()).or_default();
        let before = meeting.theirs.take();
        let is_late =
            |theirs: &&Theirs| told.life < theirs.life || told.run == theirs.run && told.draws < theirs.draws;
        if let Some(before) = before.as_ref().filter(is_late) {
            out.count("meets_late", 1);
            meeting.theirs = Some(before.clone());
            return;
        }
        let is_new = before.as_ref().is_none_or(|theirs| theirs.fence != told.fence);
        let known = |outline: &Outline, mine: &DotSet, theirs: Option<&DotSet>| {
            outline.resolve(mine).or_else(|| outline.resolve(theirs?))
        };
        let whole = known(&told.seen, own.replica.seen(), before.as_ref().map(|theirs| &theirs.covered));
        let collected_before = before.as_ref().and_then(|theirs| theirs.collected.as_ref());
        let collected = known(&told.collected, own.replica.collected(), collected_before);
        // Under one number a node's sets only grow, and what it has collected does not change.
        let same = before.filter(|_| !is_new);
        let is_covered_whole = whole.is_some() || same.as_ref().is_some_and(|theirs| theirs.is_covered_whole);
        let (mut covered, same_collected) =
            same.map(|theirs| (theirs.covered, theirs.collected)).unwrap_or_default();
        covered.union(whole.as_ref().unwrap_or(told.seen.told()));
        let at_once = whole;
        let collected = same_collected.or(collected);
        let Told { life, run, draws, fence, roster, policies, .. } = told;
        meeting.theirs = Some(Theirs {
            life,
            run,
            draws,
            fence,
            roster,
            policies,
            covered,
            is_covered_whole,
            at_once,
            collected,
        });
        meeting.failures = 0;
        if is_new {
            meeting.asking = None;
            if policies != self.policies {
                let text = format!("{from} has other policies than this node: no data passes between them");
                out.event(Level::Warn, "policies-differ", text);
            }
        }
        if told.answer {
            self.tell(now, from, own, false, out);
        }
        self.ask(from, own, out);
        self.settle(from, own, out);
    }

    /// A peer asks for ranges of a set.
    pub fn on_ask(
        &mut self,
        from: &NodeId,
        (fence, which): (u64, Which),
        (digests, first): (&[u64], u8),
        own: Own<'_>,
        out: &mut Outbox,
    ) {
        if digests.len() != RANGES || fence != self.fence {
            out.count("asks_late", 1);
            return;
        }
        let part = part_of(own.replica.set(which), digests, first);
        out.send(from, Message::Dots { fence, which, part });
    }

    /// A peer answers.
    pub fn on_answer(
        &mut self,
        from: &NodeId,
        (fence, which): (u64, Which),
        part: &Part,
        own: Own<'_>,
        out: &mut Outbox,
    ) {
        let Some(meeting) = self.by_peer.get_mut(from) else { return };
        let Some(theirs) = meeting.theirs.as_mut().filter(|theirs| theirs.fence == fence) else { return };
        let Some((_, assembly)) = meeting.asking.as_mut().filter(|(asked, _)| *asked == which) else {
            return;
        };
        if let Some(set) = assembly.take(part) {
            match which {
                Which::Seen => {
                    theirs.covered.union(&set);
                    theirs.is_covered_whole = true;
                }
                Which::Collected => theirs.collected = Some(set),
            }
            meeting.asking = None;
        } else if part.last < u8::MAX {
            self.question(from, out);
        }
        self.ask(from, own, out);
        self.settle(from, own, out);
    }

    /// Whether a message sent in the meeting `number` may be read. If not, the peer is told where this node is.
    pub fn accepts(&mut self, now: Now, from: &NodeId, number: u64, own: Own<'_>, out: &mut Outbox) -> bool {
        let meeting = self.by_peer.entry(from.clone()).or_default();
        if meeting.number == Some(number) || mutants::is_on("no-fence") {
            return true;
        }
        out.count("messages_of_old_meetings", 1);
        let is_told = meeting.told.is_some_and(|told| now.mono.since(told) < STALE_PATIENCE);
        if !is_told && !self.is_suspended {
            self.tell(now, from, own, true, out);
        }
        false
    }

    /// Opens what is not open yet, again and again with a growing wait.
    pub fn on_tick(&mut self, now: Now, own: Own<'_>, dice: &mut impl Rng, out: &mut Outbox) {
        let reachable = own.members.reachable();
        let is_due = |meeting: &Meeting| meeting.next_tell.is_some_and(|at| at <= now.mono);
        let due: Vec<NodeId> = self
            .by_peer
            .iter()
            .filter(|(_, meeting)| is_due(meeting))
            .map(|(peer, _)| peer.clone())
            .collect();
        for peer in due {
            let meeting = self.by_peer.get_mut(&peer).expect("just listed");
            meeting.next_tell = None;
            if meeting.number.is_some() || !reachable.contains(&peer) {
                // It is told when it is met again.
                continue;
            }
            meeting.failures += 1;
            let wait = backoff(&self.timing, meeting.failures, dice);
            if meeting.asking.is_some() {
                self.question(&peer, out);
            } else {
                self.tell(now, &peer, own, true, out);
            }
            let meeting = self.by_peer.get_mut(&peer).expect("just listed");
            meeting.next_tell = Some(now.mono + wait);
        }
    }

    /// When the next thing is due.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.by_peer.values().filter_map(|meeting| meeting.next_tell).min()
    }

    /// Draws this node's number anew: every meeting there was is over. Those who have covered all that this node
    /// collected are told at once, and it goes on with them in new ones.
    pub fn renew(&mut self, now: Now, own: Own<'_>, dice: &mut impl Rng, out: &mut Outbox) {
        self.fence = dice.next_u64();
        self.draws += 1;
        let reachable = own.members.reachable();
        let peers: Vec<NodeId> = self.by_peer.keys().cloned().collect();
        for peer in peers {
            self.settle(&peer, own, out);
            if reachable.contains(&peer) {
                let is_open = self.is_open(&peer);
                self.tell(now, &peer, own, !is_open, out);
            }
        }
    }

    /// Lets no data pass until it is called again with `false`.
    pub fn suspend(&mut self, is_suspended: bool, own: Own<'_>, out: &mut Outbox) {
        self.is_suspended = is_suspended;
        let peers: Vec<NodeId> = self.by_peer.keys().cloned().collect();
        for peer in peers {
            self.settle(&peer, own, out);
        }
    }

    /// Tells a peer of this node and wants to hear of it, now.
    pub fn refresh(&mut self, now: Now, peer: &NodeId, own: Own<'_>, out: &mut Outbox) {
        self.tell(now, peer, own, true, out);
    }

    /// A peer has these dots, as it says within a meeting.
    pub fn covers(&mut self, peer: &NodeId, dots: &DotSet) {
        if let Some(theirs) = self.by_peer.get_mut(peer).and_then(|meeting| meeting.theirs.as_mut()) {
            theirs.covered.union(dots);
        }
    }

    /// A peer tells what it has seen within a meeting; all of it, if this node can tell what that is. Else it asks,
    /// and the peer has to say it again.
    pub fn learn(
        &mut self,
        peer: &NodeId,
        outline: &Outline,
        own: Own<'_>,
        out: &mut Outbox,
    ) -> Option<DotSet> {
        let theirs = self.by_peer.get_mut(peer)?.theirs.as_mut()?;
        let set = outline.resolve(own.replica.seen()).or_else(|| outline.resolve(&theirs.covered));
        theirs.covered.union(set.as_ref().unwrap_or(outline.told()));
        theirs.at_once = set.clone().or(theirs.at_once.take());
        if set.is_none() {
            let meeting = self.by_peer.get_mut(peer).expect("just found");
            let base = own.replica.seen().clone();
            meeting.asking.get_or_insert_with(|| (Which::Seen, Assembly::new(base)));
            self.question(peer, out);
        }
        set
    }

    /// A peer has covered exactly what this node has, as it said in this life of it: their digests are equal.
    pub fn is_equal(&mut self, peer: &NodeId, life: u64, own: Own<'_>) {
        let theirs = self.by_peer.get_mut(peer).and_then(|meeting| meeting.theirs.as_mut());
        let Some(theirs) = theirs.filter(|theirs| theirs.life == life) else { return };
        if theirs.covered != *own.replica.seen() {
            theirs.covered = own.replica.seen().clone();
            theirs.is_covered_whole = true;
        }
        if theirs.at_once.as_ref() != Some(own.replica.seen()) {
            theirs.at_once = Some(own.replica.seen().clone());
        }
    }

    /// How many versions of `seen` a peer is not known to have, and how many it is known to have beyond.
    pub fn apart(&self, peer: &NodeId, seen: &DotSet) -> (u64, u64) {
        let theirs = self.by_peer.get(peer).and_then(|meeting| meeting.theirs.as_ref());
        let Some(theirs) = theirs else { return (seen.count(), 0) };
        (seen.minus(&theirs.covered).count(), theirs.covered.minus(seen).count())
    }

    /// What every member has covered, those that cannot be reached included; and the members of whom this is not
    /// known, or not of the same table of members. Only if there are none of these does the cut count.
    pub fn stable_cut(&self, own: Own<'_>) -> (DotSet, Vec<NodeId>) {
        let roster = own.members.roster();
        let mut cut = own.replica.seen().clone();
        let mut unknown = Vec::new();
        let counted =
            if mutants::is_on("cut-reachable") { own.members.reachable() } else { own.members.counted() };
        for peer in counted {
            let theirs = self.by_peer.get(&peer).and_then(|meeting| meeting.theirs.as_ref());
            let is_present = |theirs: &&Theirs| Some(theirs.life) == own.members.life(&peer);
            match theirs.filter(is_present).filter(|theirs| theirs.roster == roster) {
                Some(theirs) => cut = cut.intersection(&theirs.covered),
                None => unknown.push(peer),
            }
        }
        (cut, unknown)
    }

    /// What every member had covered at some moment, and all that any of them had at its own: whoever writes later
    /// writes on top of the first, and what was written before is in the second. `None` if a member has not told.
    pub fn moments(&self, own: Own<'_>) -> Option<(DotSet, DotSet)> {
        let (mut all, mut any) = (own.replica.seen().clone(), own.replica.seen().clone());
        for peer in own.members.counted() {
            let theirs = self.by_peer.get(&peer).and_then(|meeting| meeting.theirs.as_ref())?;
            let theirs = theirs.at_once.as_ref()?;
            all = all.intersection(theirs);
            any.union(theirs);
        }
        Some((all, any))
    }

    /// Whether a peer is known to know the same members and to have covered all that this node has.
    pub fn is_whole(&self, peer: &NodeId, own: Own<'_>) -> bool {
        let theirs = self.by_peer.get(peer).and_then(|meeting| meeting.theirs.as_ref());
        theirs.is_some_and(|theirs| {
            Some(theirs.life) == own.members.life(peer)
                && theirs.roster == own.members.roster()
                && theirs.covered.includes(own.replica.seen())
        })
    }

    /// A peer's number, as last heard.
    pub fn fence_of(&self, peer: &NodeId) -> Option<u64> {
        Some(self.by_peer.get(peer)?.theirs.as_ref()?.fence)
    }

    /// This node's own number.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Whether data passes to and from this peer.
    pub fn is_open(&self, peer: &NodeId) -> bool {
        self.by_peer.get(peer).is_some_and(|meeting| meeting.number.is_some())
    }

    /// The number that a meeting with this peer has or would have.
    pub fn number(&self, peer: &NodeId) -> Option<u64> {
        let theirs = self.by_peer.get(peer)?.theirs.as_ref()?;
        Some(self.fence.wrapping_add(theirs.fence))
    }

    /// What a peer has collected that this node neither covered nor was held against: for this it has to rebase.
    pub fn behind(&self, peer: &NodeId, own: Own<'_>) -> Option<&DotSet> {
        let theirs = self.by_peer.get(peer)?.theirs.as_ref()?;
        let collected = theirs.collected.as_ref().filter(|_| theirs.policies == self.policies)?;
        (!passes(own.replica.seen(), own.replica.collected(), collected)).then_some(collected)
    }

    /// Some reachable peer that this node is behind, if there is one.
    pub fn find_ahead(&self, own: Own<'_>) -> Option<NodeId> {
        if !self.by_peer.values().any(|meeting| meeting.is_behind) {
            return None;
        }
        own.members.reachable().into_iter().find(|peer| self.behind(peer, own).is_some())
    }

    /// Whether a peer in a meeting has collected just what this node has. It stays so while the meeting stands.
    pub fn has_collected_alike(&self, peer: &NodeId, replica: &Replica) -> bool {
        let theirs = self.by_peer.get(peer).and_then(|meeting| meeting.theirs.as_ref());
        theirs.and_then(|theirs| theirs.collected.as_ref()) == Some(replica.collected())
    }

    /// What all peers that this node meets say they have collected.
    pub fn collected_elsewhere(&self) -> DotSet {
        let mut all = DotSet::default();
        for meeting in self.by_peer.values().filter(|meeting| meeting.number.is_some()) {
            if let Some(collected) = meeting.theirs.as_ref().and_then(|theirs| theirs.collected.as_ref()) {
                all.union(collected);
            }
        }
        all
    }

    /// Peers with whom a meeting began or ended since the last call, and whether one stands now.
    pub fn take_changed(&mut self) -> Vec<(NodeId, bool)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|peer| (self.is_open(&peer), peer)).map(|(open, peer)| (peer, open)).collect()
    }

    fn tell(&mut self, now: Now, peer: &NodeId, own: Own<'_>, answer: bool, out: &mut Outbox) {
        let open = own.members.open_origins();
        let message = Message::Meet {
            life: own.members.me().life,
            run: self.run,
            draws: self.draws,
            fence: self.fence,
            roster: own.members.roster(),
            policies: self.policies,
            seen: Outline::of(own.replica.seen(), &open),
            collected: Outline::of(own.replica.collected(), &open),
            answer,
        };
        out.send(peer, message);
        let meeting = self.by_peer.entry(peer.clone()).or_default();
        meeting.told = Some(now.mono);
        if meeting.number.is_none() {
            meeting.next_tell.get_or_insert(now.mono + self.timing.retry_min);
        }
    }

    /// Asks for what the outlines left open, one set at a time.
    fn ask(&mut self, peer: &NodeId, own: Own<'_>, out: &mut Outbox) {
        let Some(meeting) = self.by_peer.get_mut(peer) else { return };
        let (Some(theirs), None) = (&meeting.theirs, &meeting.asking) else { return };
        let which = match (theirs.is_covered_whole, &theirs.collected) {
            (false, _) => Which::Seen,
            (true, None) => Which::Collected,
            (true, Some(_)) => return,
        };
        meeting.asking = Some((which, Assembly::new(own.replica.set(which).clone())));
        self.question(peer, out);
    }

    fn question(&self, peer: &NodeId, out: &mut Outbox) {
        let Some(meeting) = self.by_peer.get(peer) else { return };
        let (Some(theirs), Some((which, assembly))) = (&meeting.theirs, &meeting.asking) else { return };
        let (digests, first) = assembly.question();
        out.send(peer, Message::AskDots { fence: theirs.fence, which: *which, digests, first });
    }

    /// Says whether the meeting with a peer stands, as things are.
    fn settle(&mut self, peer: &NodeId, own: Own<'_>, out: &mut Outbox) {
        let is_behind = self.behind(peer, own).is_some();
        let (fence, policies, is_suspended) = (self.fence, self.policies, self.is_suspended);
        let Some(meeting) = self.by_peer.get_mut(peer) else { return };
        meeting.is_behind = is_behind;
        let number = meeting.theirs.as_ref().filter(|_| !is_suspended).and_then(|theirs| {
            let collected = theirs.collected.as_ref()?;
            let (seen, mine) = (own.replica.seen(), own.replica.collected());
            let stands = theirs.policies == policies
                && theirs.is_covered_whole
                && (passes(seen, mine, collected) && passes(&theirs.covered, collected, mine)
                    || mutants::is_on("no-fence"));
            stands.then(|| fence.wrapping_add(theirs.fence))
        });
        if number == meeting.number {
            return;
        }
        meeting.number = number;
        if number.is_some() {
            meeting.next_tell = None;
        } else {
            meeting.next_tell = meeting.next_tell.or(meeting.told.map(|told| told + self.timing.retry_min));
        }
        out.set_meeting(peer, number);
        self.changed.push(peer.clone());
    }
}

/// Whether a side that has covered `seen`, and was held against `rebased`, is up to a cut.
fn passes(seen: &DotSet, rebased: &DotSet, cut: &DotSet) -> bool {
    cut == rebased || cut.minus(rebased).minus(seen).is_empty()
}

#[cfg(test)]
#[path = "meeting_tests.rs"]
mod tests;

//! How nodes meet, and who is turned away.
//!
//! Seeds are greeted with a growing wait until one answers; later, now and then, those of them that are no
//! known member's address, so that seeds which come late and halves that never met find each other.
//!
//! A name is one node's. Who speaks up under the name of a member that is alive elsewhere has to wait while that
//! member is asked; if it answers, the claim is refused with the reason. A node that finds itself outdone by
//! another one of its name yields if it joined later: it stands back and only goes on greeting. So a name never
//! flaps between two nodes.

use super::*;
use crate::protocol::outbox::Level;
use crate::protocol::pull::backoff;

/// Most members greeted at a start; rumours bring the news to the rest.
pub const GREETED_MAX: usize = 8;
/// Most characters of another node's reason that are kept and logged.
pub const REASON_CHARS_MAX: usize = 200;
/// Most reasons that are remembered, so as to be told only once; beyond them they are forgotten and told again.
pub const REFUSALS_MAX: usize = 64;
/// Most claims to a taken name that are looked into at a time.
pub const CLAIMS_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Joining {
    /// Addresses to join through.
    seeds: Vec<Address>,
    failures: u32,
    /// Whether a member's whole table has come in this run.
    pub(super) has_table: bool,
    /// Another node lives under our name.
    stands_back: bool,
    next: Option<Instant>,
    claims: BTreeMap<NodeId, Claim>,
    /// Reasons that were told or heard, once each.
    refusals: BTreeSet<(Address, String)>,
}

/// Somebody speaks up under the name of a member that is alive at another address.
#[derive(Debug)]
struct Claim {
    member: Member,
    next_ask: Instant,
    until: Instant,
}

impl Joining {
    pub(super) fn new(me: &Member, seeds: Vec<Address>, now: Now) -> Joining {
        let mut seeds: Vec<Address> = seeds.into_iter().filter(|seed| *seed != me.address).collect();
        seeds.sort();
        seeds.dedup();
        Joining {
            seeds,
            failures: 0,
            has_table: false,
            stands_back: false,
            next: Some(now.mono),
            claims: BTreeMap::new(),
            refusals: BTreeSet::new(),
        }
    }

    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        self.claims.values().map(|claim| claim.next_ask.min(claim.until)).chain(self.next).min()
    }

    /// Whether this node is meant to join nobody.
    pub(super) fn is_alone(&self) -> bool {
        self.seeds.is_empty()
    }

    pub(super) fn stands_back(&self) -> bool {
        self.stands_back
    }

    /// Says whether this reason is new.
    fn note(&mut self, address: &Address, reason: &str) -> bool {
        if self.refusals.len() >= REFUSALS_MAX {
            self.refusals.clear();
        }
        self.refusals.insert((address.clone(), reason.to_owned())) || mutants::is_on("refuses-aloud")
    }
}

impl Membership {
    /// Joins through one more address, at once.
    pub fn join(&mut self, now: Now, address: Address) {
        if address != self.me.address && !self.joining.seeds.contains(&address) {
            self.joining.seeds.push(address);
        }
        self.joining.failures = 0;
        self.joining.next = Some(now.mono);
    }

    /// Greets the seeds and some of those we knew, and again with a growing wait until one answers.
    pub(super) fn join_if_due(&mut self, now: Now, dice: &mut impl Rng, out: &mut Outbox) {
        if self.joining.next.is_none_or(|at| at > now.mono) {
            return;
        }
        let mut greeted = self.strange_seeds();
        if !self.joining.has_table {
            let known = self.in_states(&[MemberState::Alive, MemberState::Suspect, MemberState::Down]);
            let known = some_of(known, GREETED_MAX, dice);
            greeted.extend(known.iter().filter_map(|id| self.address(id)).cloned());
            greeted.extend(self.joining.seeds.iter().cloned());
            greeted.sort();
            greeted.dedup();
        }
        for address in &greeted {
            out.send_to(address, self.table(true));
        }
        self.joining.failures += 1;
        let wait = match self.joining.has_table {
            true => self.timing.retry_max,
            false => backoff(&self.timing, self.joining.failures, dice),
        };
        let is_alone = self.joining.is_alone() && self.peers.is_empty();
        self.joining.next = (!is_alone).then(|| now.mono + wait);
    }

    /// Seeds that are no known member's address: not there yet, or those of a part that we have not met.
    fn strange_seeds(&self) -> Vec<Address> {
        let is_known = |seed: &Address| {
            self.others().any(|member| member.address == *seed && member.state != MemberState::Forgotten)
        };
        self.joining.seeds.iter().filter(|seed| !is_known(seed)).cloned().collect()
    }

    /// A whole table, the sender's own record first.
    pub fn on_table(
        &mut self,
        now: Now,
        from: &NodeId,
        members: Vec<Member>,
        (answer, own_seen): (bool, u64),
        out: &mut Outbox,
    ) {
        let Some(sender) = members.first().filter(|sender| sender.id == *from).cloned() else {
            out.count("tables_malformed", 1);
            return;
        };
        if sender.id == self.me.id && sender.address == self.me.address {
            // One of the seeds is this node itself, by another name.
            return;
        }
        if !self.admits(now, &sender, own_seen, out) {
            return;
        }
        for member in members {
            self.merge(now, member, out);
        }
        self.on_heard(now, from, out);
        if sender.state == MemberState::Alive {
            if !self.joining.has_table {
                let has_seeds = !self.joining.seeds.is_empty() && !mutants::is_on("seeds-at-boot-only");
                self.joining.next = has_seeds.then(|| now.mono + self.timing.retry_max);
            }
            self.joining.has_table = true;
            self.joining.stands_back = false;
            self.joining.failures = 0;
        }
        if answer {
            out.send_to(&sender.address, self.table(false));
        }
    }

    /// Whether `sender`, who speaks for itself, may be a member here. If not it is told why, or has to wait.
    pub(super) fn admits(&mut self, now: Now, sender: &Member, own_seen: u64, out: &mut Outbox) -> bool {
        if sender.id == self.me.id {
            let reason = format!("node_id {} is mine, and I am at {}", sender.id, self.me.address);
            self.refuse(sender, "name", reason, out);
            return false;
        }
        if !sender.protocol.meets(self.me.protocol) {
            let reason = format!(
                "{} speaks protocol {}, and {} speaks {}",
                sender.id, sender.protocol, self.me.id, self.me.protocol
            );
            self.refuse(sender, "protocol", reason, out);
            return false;
        }
        self.notice_reuse(now, sender, out);
        let Some(peer) = self.peers.get(&sender.id) else { return true };
        let is_elsewhere = peer.member.address != sender.address;
        let holds_name = peer.member.state <= MemberState::Suspect;
        if !is_elsewhere {
            self.settle_claim(sender, out);
            return true;
        }
        if !holds_name || mutants::is_on("newest-address-wins") {
            return true;
        }
        self.claim(now, sender, own_seen, out);
        false
    }

    fn refuse(&mut self, sender: &Member, kind: &str, reason: String, out: &mut Outbox) {
        if self.joining.note(&sender.address, &reason) {
            out.count("joins_refused", 1);
            let text = format!("{} at {}: {reason}", sender.id, sender.address);
            let name = if kind == "protocol" { "protocol-conflict" } else { "name-conflict" };
            out.event(Level::Warn, name, text);
        }
        out.send_to(&sender.address, Message::Refuse { reason });
    }

    /// The name is taken: its holder is asked, and has as long as a probe to answer.
    fn claim(&mut self, now: Now, sender: &Member, own_seen: u64, out: &mut Outbox) {
        if self.joining.claims.contains_key(&sender.id) {
            return;
        }
        if self.joining.claims.len() >= CLAIMS_MAX {
            out.count("claims_over_limit", 1);
            return;
        }
        let pause = self.timing.probe_interval / 2;
        let claim = Claim {
            member: sender.clone(),
            next_ask: now.mono + pause,
            until: now.mono + pause * PROBE_STEPS,
        };
        self.joining.claims.insert(sender.id.clone(), claim);
        self.ping(&sender.id.clone(), 0, own_seen, out);
    }

    /// The holder of a name has spoken from where it lives.
    fn settle_claim(&mut self, holder: &Member, out: &mut Outbox) {
        if let Some(claim) = self.joining.claims.remove(&holder.id) {
            let reason = format!("node_id {} is alive at {}", holder.id, holder.address);
            self.refuse(&claim.member, "name", reason, out);
        }
    }

    pub(super) fn judge_claims(&mut self, now: Now, own_seen: u64, out: &mut Outbox) {
        let due = |claim: &Claim| claim.next_ask.min(claim.until) <= now.mono;
        let due: Vec<NodeId> =
            self.joining.claims.iter().filter(|(_, claim)| due(claim)).map(|(id, _)| id.clone()).collect();
        for id in due {
            let claim = self.joining.claims.get_mut(&id).expect("just listed");
            if claim.until > now.mono {
                claim.next_ask = now.mono + self.timing.probe_interval / 2;
                self.ping(&id, 0, own_seen, out);
                continue;
            }
            let claim = self.joining.claims.remove(&id).expect("just looked");
            self.grant(now, claim.member, out);
        }
    }

    /// Nobody defended the name: the node has moved, or its disk was wiped.
    fn grant(&mut self, now: Now, member: Member, out: &mut Outbox) {
        let (id, address) = (member.id.clone(), member.address.clone());
        let held = self.peers.get(&id).map(|peer| peer.member.clone());
        if let Some(held) = held.filter(|held| merge::rank(held) >= merge::rank(&member)) {
            // Its disk has forgotten who it was. The table tells it; till then the old place counts as silent.
            if held.state == MemberState::Alive {
                self.merge(now, Member { state: MemberState::Suspect, ..held }, out);
            }
        } else {
            self.merge(now, member, out);
            self.on_heard(now, &id, out);
        }
        out.send_to(&address, self.table(false));
    }

    /// A member speaks from an address that another one is known by: that one is not there any more.
    fn notice_reuse(&mut self, now: Now, sender: &Member, out: &mut Outbox) {
        let is_other = |member: &&Member| {
            member.id != sender.id && member.address == sender.address && member.state == MemberState::Alive
        };
        let Some(other) = self.others().find(is_other).cloned() else { return };
        let text = format!("{} speaks from {}, where {} was", sender.id, sender.address, other.id);
        out.event(Level::Warn, "address-reused", text);
        self.merge(now, Member { state: MemberState::Suspect, ..other }, out);
    }

    /// Whether the node that this record of our own name is about may keep the name.
    pub(super) fn yields_to(&self, record: &Member) -> bool {
        (record.joined, &record.address) < (self.me.joined, &self.me.address)
    }

    /// Another node lives under our name, and came first.
    pub(super) fn stand_back(&mut self, now: Now, record: &Member, out: &mut Outbox) {
        let reason =
            format!("{} is the name of the node at {}, which joined first", record.id, record.address);
        if self.joining.note(&record.address, &reason) {
            out.event(Level::Warn, "name-conflict", format!("{reason}; this node stands back"));
        }
        self.joining.stands_back = true;
        self.joining.has_table = false;
        self.joining.next = Some(now.mono + self.timing.retry_max);
    }

    /// Another node refuses to have us.
    pub fn on_refused(&mut self, from: &NodeId, reason: &str, out: &mut Outbox) {
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        let me = self.me.address.clone();
        if self.joining.note(&me, &reason) {
            out.event(Level::Warn, "refused", format!("{from} refuses this node: {reason}"));
        }
    }
}

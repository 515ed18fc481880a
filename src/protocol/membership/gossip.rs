//! How news travels: at once to a few, then with every ping and pong, each record a bounded number of times;
//! and now and then the whole table, so that lost rumours heal.

use super::*;

/// Most rumours in one ping or pong, the sender's own record included.
pub const RUMOURS_MAX: usize = 8;
/// Most rumours in one message of news, the sender's own record included.
pub const NEWS_RUMOURS_MAX: usize = 64;
/// How many members are told news at a time.
pub const NEWS_PEERS: usize = 3;
/// Most members that one round of the table exchange goes to.
pub const GOSSIP_PEERS_MAX: usize = 3;

#[derive(Debug)]
pub(super) struct Gossip {
    /// When news is told again.
    next_news: Option<Instant>,
    /// How many more messages of news there are to be about this node's own record.
    own_tell: u32,
    /// Digest of the table as it is.
    digest: Option<u64>,
    /// When whole tables may be exchanged again because they differ.
    next_repair: Instant,
    pub(super) next_exchange: Instant,
}

impl Gossip {
    pub(super) fn new(next_exchange: Instant) -> Gossip {
        Gossip { next_news: None, own_tell: 0, digest: None, next_repair: Instant::default(), next_exchange }
    }

    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        self.next_news.into_iter().chain([self.next_exchange]).min()
    }

    /// Something changed: it is told in this very turn, unless news was told a moment ago.
    pub(super) fn has_news(&mut self, now: Now) {
        self.digest = None;
        self.next_news.get_or_insert(now.mono);
    }

    pub(super) fn has_own_news(&mut self, now: Now, tells: u32) {
        self.own_tell = tells;
        self.has_news(now);
    }
}

/// How many messages of one node carry a record as a rumour, in a table of so many others: the natural
/// logarithm, so that with nobody lost each node hears it several times, and four more.
pub(super) fn tells(others: usize) -> u32 {
    let nodes = others as f64 + 1.0;
    nodes.ln().ceil() as u32 + 4
}

pub(super) fn wait(timing: &Timing, dice: &mut impl Rng) -> Duration {
    let (min, max) = (timing.gossip_interval_min, timing.gossip_interval_max);
    min + max.saturating_sub(min).mul_f64(dice.random_range(0.0..=1.0))
}

impl Membership {
    /// Our own record, what the target must refute, and what changed lately, that first which was told least.
    pub(super) fn rumours_for(&mut self, target: &NodeId, most: usize) -> Vec<Member> {
        let mut out = vec![self.me.clone()];
        let believed = self.peers.get(target).map(|peer| &peer.member);
        out.extend(believed.filter(|member| member.state != MemberState::Alive).cloned());
        let mut fresh: Vec<&mut Peer> = self
            .peers
            .iter_mut()
            .filter(|(id, peer)| peer.tell > 0 && *id != target)
            .map(|(_, p)| p)
            .collect();
        fresh.sort_by_key(|peer| std::cmp::Reverse(peer.tell));
        for peer in fresh.into_iter().take(most.saturating_sub(out.len())) {
            peer.tell -= 1;
            out.push(peer.member.clone());
        }
        out
    }

    pub(super) fn spread_news(&mut self, now: Now, dice: &mut impl Rng, out: &mut Outbox) {
        if self.gossip.next_news.is_none_or(|at| at > now.mono) {
            return;
        }
        self.gossip.next_news = None;
        if mutants::is_on("no-news") {
            return;
        }
        let mut is_told = false;
        for target in some_of(self.reachable(), NEWS_PEERS, dice) {
            let is_news = |(id, peer): (&NodeId, &Peer)| peer.tell > 0 && *id != target;
            if self.gossip.own_tell == 0 && !self.peers.iter().any(is_news) {
                continue;
            }
            self.gossip.own_tell = self.gossip.own_tell.saturating_sub(1);
            let rumours = self.rumours_for(&target, NEWS_RUMOURS_MAX);
            out.send(&target, Message::News { rumours, unreached: self.unreached() });
            is_told = true;
        }
        let has_more = self.gossip.own_tell > 0 || self.peers.values().any(|peer| peer.tell > 0);
        // What nobody here can be told goes with the pings.
        self.gossip.next_news = (is_told && has_more).then(|| now.mono + self.timing.probe_interval / 5);
    }

    pub(super) fn exchange_tables(&mut self, now: Now, dice: &mut impl Rng, out: &mut Outbox) {
        if self.gossip.next_exchange > now.mono {
            return;
        }
        self.gossip.next_exchange = now.mono + wait(&self.timing, dice);
        let count = dice.random_range(1..=GOSSIP_PEERS_MAX);
        for peer in some_of(self.reachable(), count, dice) {
            out.send(&peer, self.table(true));
        }
    }

    pub(super) fn table(&self, answer: bool) -> Message {
        let others = self.peers.values().map(|peer| peer.member.clone());
        Message::Table { members: [self.me.clone()].into_iter().chain(others).collect(), answer }
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
        if self.on_rumours(now, from, rumours, own_seen, out) && self.peers.contains_key(from) {
            let rumours = self.rumours_for(from, RUMOURS_MAX);
            out.send(from, Message::Pong { nonce, seen: own_seen, table: self.digest(), rumours });
        }
    }

    /// The answer to a probe. Where nothing is being told and the tables still differ, a rumour was lost: whole
    /// tables are exchanged.
    pub fn on_pong(
        &mut self,
        now: Now,
        from: &NodeId,
        (table, own_seen): (u64, u64),
        rumours: Vec<Member>,
        out: &mut Outbox,
    ) {
        let is_ours = self.on_rumours(now, from, rumours, own_seen, out);
        if mutants::is_on("pong-pongs") {
            self.ping(from, 0, own_seen, out);
        }
        if !is_ours || table == 0 || table == self.digest() {
            return;
        }
        let is_quiet = self.gossip.next_news.is_none() && self.gossip.next_repair <= now.mono;
        if is_quiet && self.peers.contains_key(from) && !mutants::is_on("tables-uncompared") {
            self.gossip.next_repair = now.mono + self.timing.probe_interval * 2;
            out.count("tables_differed", 1);
            out.send(from, self.table(true));
        }
    }

    /// What two tables are compared by: everyone that counts, with its rank.
    pub(super) fn digest(&mut self) -> u64 {
        if let Some(digest) = self.gossip.digest {
            return digest;
        }
        let counted = self.peers.values().map(|peer| &peer.member).filter(|it| it.state <= MemberState::Down);
        let of_member = |member: &Member| {
            let (life, incarnation, state) = merge::rank(member);
            let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
            hasher.update(&life.to_le_bytes());
            hasher.update(&incarnation.to_le_bytes());
            hasher.update(&[state as u8]);
            hasher.update(member.id.as_str().as_bytes());
            hasher.digest()
        };
        let sum = counted.chain([&self.me]).map(of_member).fold(0, u64::wrapping_add);
        *self.gossip.digest.insert(sum.max(1))
    }

    /// What changed lately, from somebody who just heard.
    pub fn on_news(
        &mut self,
        now: Now,
        from: &NodeId,
        rumours: Vec<Member>,
        unreached: &[NodeId],
        own_seen: u64,
        out: &mut Outbox,
    ) {
        out.count("rumours", rumours.len() as u64);
        if self.on_rumours(now, from, rumours, own_seen, out) {
            self.on_unreached(from, unreached);
        }
    }

    /// Says whether the sender is one of us.
    fn on_rumours(
        &mut self,
        now: Now,
        from: &NodeId,
        rumours: Vec<Member>,
        own_seen: u64,
        out: &mut Outbox,
    ) -> bool {
        if self.joining.stands_back() {
            // Whoever still has us in its table means the node that has the name.
            return false;
        }
        let own = rumours.first().filter(|own| own.id == *from).cloned();
        if let Some(own) = &own
            && !self.admits(now, own, own_seen, out)
        {
            return false;
        }
        let is_new = !self.peers.contains_key(from);
        for rumour in rumours.into_iter().take(NEWS_RUMOURS_MAX) {
            self.merge(now, rumour, out);
        }
        let is_first = self.on_heard(now, from, out);
        if is_first && (is_new || !self.joining.has_table) {
            // Others may remember lives of ours that this disk has forgotten, and two clusters that meet have
            // more to tell than themselves: only whole tables do.
            out.send(from, self.table(true));
        }
        true
    }
}

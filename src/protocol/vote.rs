//! Votes on timestamp collisions: two values of one key with equal stamps, neither of them a ruling.
//!
//! The merge has already decided by the order, at once and everywhere alike; a vote only asks which of the two
//! the healthy members held first, and lets that one be confirmed by a *ruling*, a version like any other. So a
//! vote never blocks anything, and whatever is lost of it leaves the order's winner standing.
//!
//! Promises: only the node that took one of the two from a client asks, once per pair, the loser's writer later
//! than the winner's; a poll ends after `vote_max` whoever is silent; whoever remembers nothing abstains, and where
//! all abstain nothing is confirmed; tombstones and rulings are never voted on. Leaves to the replica the writing
//! of the ruling, which requires the row to be still one of the two.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng;

use super::membership::Membership;
use super::message::Message;
use super::order;
use super::outbox::{Level, Outbox};
use crate::model::{Dot, DotSet, Instant, Key, NodeId, Origin, Stamp, Version};
use crate::storage::rows;
use crate::storage::{Read, StorageError};

/// Most polls at once, asked or waiting; collisions beyond it keep the order's winner.
pub const POLLS_MAX: usize = 256;
/// Most bytes of values that polls keep.
pub const POLL_BYTES_MAX: usize = 16 << 20;
/// Most keys of which the order of arrival is remembered; beyond it the longest unused is forgotten.
pub const ARRIVALS_MAX: usize = 4096;
/// Most versions of one key whose order of arrival is remembered.
pub const ARRIVALS_OF_KEY_MAX: usize = 16;

/// What becomes of two values of one key with equal stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollisionRule {
    /// The healthy members vote on which came first; ties, and silence, go to the older author.
    Majority,
    /// The older author wins.
    Oldest,
}

impl CollisionRule {
    /// The word for it in a configuration.
    pub fn word(self) -> &'static str {
        match self {
            CollisionRule::Majority => "majority",
            CollisionRule::Oldest => "oldest",
        }
    }

    /// Reads that word.
    ///
    /// # Errors
    /// What was found and what was expected.
    pub fn from_word(word: &str) -> Result<CollisionRule, String> {
        match word {
            "majority" => Ok(CollisionRule::Majority),
            "oldest" => Ok(CollisionRule::Oldest),
            other => Err(format!("`{other}` is neither majority nor oldest")),
        }
    }
}

/// Two values of one key with equal stamps met at this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    /// Where.
    pub key: Key,
    /// What the row was.
    pub held: Version,
    /// What came.
    pub came: Version,
}

/// What a poll found: this write is to be confirmed by this many votes, if the row is still one of the pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where.
    pub key: Key,
    /// The winner of the order, then the loser.
    pub pair: [Dot; 2],
    /// The write to confirm.
    pub confirmed: Version,
    /// How many said that they held it first; at least one.
    pub votes: u16,
}

/// The polls of one node, and what it remembers for those of others.
#[derive(Debug)]
pub struct Votes {
    rule: CollisionRule,
    vote_max: Duration,
    arrivals: BTreeMap<Key, Arrivals>,
    /// The keys of `arrivals` by when they were last used.
    by_use: BTreeMap<u64, Key>,
    polls: BTreeMap<u64, Poll>,
    bytes: usize,
    verdicts: Vec<Verdict>,
    uses: u64,
}

/// The order in which the values of one stamp came to a key.
#[derive(Debug)]
struct Arrivals {
    stamp: Stamp,
    dots: Vec<Dot>,
    /// Pairs that this node has asked about, or will.
    asked: Vec<[Dot; 2]>,
    used: u64,
}

#[derive(Debug)]
struct Poll {
    key: Key,
    /// The winner of the order, then the loser.
    pair: [Version; 2],
    phase: PollPhase,
}

#[derive(Debug)]
enum PollPhase {
    /// The winner's writer is expected to ask; if nothing came by then, this node asks.
    Waiting { until: Instant },
    /// Members were asked.
    Asked { silent: BTreeSet<NodeId>, votes: [u16; 2], until: Instant },
}

impl Votes {
    /// No polls yet. `vote_max` bounds each. Under [`CollisionRule::Oldest`] a node never asks, and still answers.
    pub fn new(rule: CollisionRule, vote_max: Duration) -> Votes {
        Votes {
            rule,
            vote_max,
            arrivals: BTreeMap::new(),
            by_use: BTreeMap::new(),
            polls: BTreeMap::new(),
            bytes: 0,
            verdicts: Vec::new(),
            uses: 0,
        }
    }

    /// Takes another bound for the polls that begin from now on.
    pub fn set_patience(&mut self, vote_max: Duration) {
        self.vote_max = vote_max;
    }

    /// Two versions collided here: remembers which was first, and plans a poll if one of them was this run's own.
    pub fn on_collision(
        &mut self,
        now: Instant,
        own: Option<Origin>,
        collision: Collision,
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) {
        let Collision { key, held, came } = collision;
        let text = format!("{key}: {} and {} have the stamp {}", held.dot, came.dot, held.stamp);
        out.event(Level::Info, "collision", text);
        let is_news = self.remember(&key, held.stamp, held.dot, came.dot);
        let pair = if order::beats(&came, &held) { [came, held] } else { [held, came] };
        let dots = pair.each_ref().map(|version| version.dot);
        if self.rule == CollisionRule::Oldest {
            return;
        }
        let until = match own {
            Some(own) if own == dots[0].origin => now,
            Some(own) if own == dots[1].origin => now + loser_wait(self.vote_max),
            _ => return,
        };
        let size = size(&pair);
        if !is_news || self.polls.len() >= POLLS_MAX || self.bytes + size > POLL_BYTES_MAX {
            out.count("collisions_not_voted", 1);
            return;
        }
        self.bytes += size;
        let poll = Poll { key, pair, phase: PollPhase::Waiting { until } };
        self.polls.insert(dice.next_u64(), poll);
    }

    /// A member asks which of two versions this node held first.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn on_ask(
        &self,
        (store, seen): (&impl Read, &DotSet),
        from: &NodeId,
        (poll, key, pair): (u64, &Key, [Dot; 2]),
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let first = self.first_of(store, seen, key, pair)?;
        out.count("votes_cast", u64::from(first.is_some()));
        out.send(from, Message::Answer { poll, first });
        Ok(())
    }

    /// A member answers.
    pub fn on_answer(&mut self, from: &NodeId, poll: u64, first: Option<Dot>, out: &mut Outbox) {
        let Some(known) = self.polls.get_mut(&poll) else {
            out.count("answers_late", 1);
            return;
        };
        let PollPhase::Asked { silent, votes, .. } = &mut known.phase else { return };
        if !silent.remove(from) {
            return;
        }
        if let Some(choice) = known.pair.iter().position(|version| Some(version.dot) == first) {
            votes[choice] += 1;
        }
        if silent.is_empty() {
            self.close(poll, out);
        }
    }

    /// Asks what is due to be asked and closes what has waited long enough.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn on_tick(
        &mut self,
        now: Instant,
        (store, seen): (&impl Read, &DotSet),
        members: &Membership,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let due: Vec<u64> =
            self.polls.iter().filter(|(_, poll)| poll.wakeup() <= now).map(|(id, _)| *id).collect();
        for id in due {
            match self.polls[&id].phase {
                PollPhase::Waiting { .. } => self.ask(now, (store, seen), members, id, out)?,
                PollPhase::Asked { .. } => self.close(id, out),
            }
        }
        Ok(())
    }

    /// When the next thing is due.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.polls.values().map(Poll::wakeup).min()
    }

    /// What the polls that closed since the last call found.
    pub fn take_verdicts(&mut self) -> Vec<Verdict> {
        std::mem::take(&mut self.verdicts)
    }

    fn ask(
        &mut self,
        now: Instant,
        (store, seen): (&impl Read, &DotSet),
        members: &Membership,
        id: u64,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let poll = &self.polls[&id];
        let (key, pair) = (poll.key.clone(), poll.dots());
        if !is_open(store, &key, pair)? {
            self.remove(id);
            out.count("polls_overtaken", 1);
            return Ok(());
        }
        let mut votes = [0; 2];
        if let Some(first) = self.first_of(store, seen, &key, pair)? {
            votes[usize::from(first == pair[1])] += 1;
        }
        let electorate = members.healthy();
        out.count("polls", 1);
        for member in &electorate {
            out.send(member, Message::Ask { poll: id, key: key.clone(), pair });
        }
        let silent: BTreeSet<NodeId> = electorate.into_iter().collect();
        let is_alone = silent.is_empty();
        let poll = self.polls.get_mut(&id).expect("just read");
        poll.phase = PollPhase::Asked { silent, votes, until: now + self.vote_max };
        if is_alone {
            self.close(id, out);
        }
        Ok(())
    }

    /// Counts: the more votes, then the winner of the order, which among equal stamps is the older author's.
    fn close(&mut self, id: u64, out: &mut Outbox) {
        let poll = self.remove(id);
        let PollPhase::Asked { votes, .. } = poll.phase else {
            unreachable!("only what was asked is counted")
        };
        let pair = poll.dots();
        let winner = usize::from(votes[1] > votes[0]);
        let text = format!("{}: {} to {} for {} against {}", poll.key, votes[0], votes[1], pair[0], pair[1]);
        out.event(Level::Info, "collision-vote", text);
        if votes[winner] > 0 {
            let [first, second] = poll.pair;
            let confirmed = if winner == 0 { first } else { second };
            self.verdicts.push(Verdict { key: poll.key, pair, confirmed, votes: votes[winner] });
        }
    }

    fn remove(&mut self, id: u64) -> Poll {
        let poll = self.polls.remove(&id).expect("the caller found it there");
        self.bytes -= size(&poll.pair);
        poll
    }

    /// Which of the two this node certainly held first, if it can tell.
    fn first_of(
        &self,
        store: &impl Read,
        seen: &DotSet,
        key: &Key,
        pair: [Dot; 2],
    ) -> Result<Option<Dot>, StorageError> {
        if let Some(arrivals) = self.arrivals.get(key)
            && let Some(first) = arrivals.dots.iter().find(|dot| pair.contains(dot))
        {
            return Ok(Some(*first));
        }
        // The other one has not come yet. Had it come and gone, `seen` would have it, and this node abstains.
        let holds_alone = |dot: Dot, other: Dot| !seen.contains(other) && seen.contains(dot);
        let [a, b] = pair;
        let record = rows::record(store, key)?;
        let held = order::greatest(record.versions()).map(|version| version.dot);
        Ok(held.filter(|&dot| dot == a && holds_alone(a, b) || dot == b && holds_alone(b, a)))
    }

    /// Remembers that `first` was held when `second` came. Says whether this node has not planned to ask about
    /// the pair yet, and takes it that it will.
    fn remember(&mut self, key: &Key, stamp: Stamp, first: Dot, second: Dot) -> bool {
        self.uses += 1;
        let used = self.uses;
        let blank = || Arrivals { stamp, dots: Vec::new(), asked: Vec::new(), used };
        let arrivals = self.arrivals.entry(key.clone()).or_insert_with(blank);
        if arrivals.stamp != stamp {
            *arrivals = blank();
        }
        self.by_use.remove(&arrivals.used);
        self.by_use.insert(used, key.clone());
        arrivals.used = used;
        for dot in [first, second] {
            if !arrivals.dots.contains(&dot) && arrivals.dots.len() < ARRIVALS_OF_KEY_MAX {
                arrivals.dots.push(dot);
            }
        }
        let pair = [first.min(second), first.max(second)];
        let is_news = !arrivals.asked.contains(&pair) && arrivals.asked.len() < ARRIVALS_OF_KEY_MAX;
        if is_news {
            arrivals.asked.push(pair);
        }
        self.forget_unused();
        is_news
    }

    fn forget_unused(&mut self) {
        if self.arrivals.len() > ARRIVALS_MAX {
            let (_, unused) = self.by_use.pop_first().expect("every key was used");
            self.arrivals.remove(&unused);
        }
    }
}

impl Poll {
    fn dots(&self) -> [Dot; 2] {
        self.pair.each_ref().map(|version| version.dot)
    }

    fn wakeup(&self) -> Instant {
        match self.phase {
            PollPhase::Waiting { until } | PollPhase::Asked { until, .. } => until,
        }
    }
}

/// How long the loser's writer waits for the winner's to ask: longer than that one's whole poll may take.
fn loser_wait(vote_max: Duration) -> Duration {
    vote_max + vote_max / 5
}

/// Whether the row is still one of the pair.
fn is_open(store: &impl Read, key: &Key, pair: [Dot; 2]) -> Result<bool, StorageError> {
    let record = rows::record(store, key)?;
    Ok(order::greatest(record.versions()).is_some_and(|version| pair.contains(&version.dot)))
}

fn size(pair: &[Version; 2]) -> usize {
    pair.iter().map(|version| version.value.len()).sum()
}

#[cfg(test)]
#[path = "vote_tests.rs"]
mod tests;

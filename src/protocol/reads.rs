//! Reads that ask several nodes: answered with the winner of what enough of them hold, and every stale copy that was
//! met is repaired, this node's own and the peers'.
//!
//! Repairing merges, so no older version ever replaces a newer one. Nobody waits for the slowest: the client has its
//! answer once enough have answered, and those that answer later are repaired later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng;

use super::message::Message;
use super::outbox::Outbox;
use crate::model::{Dot, Entry, Instant, Key, NodeId, Refusal, Reply, RequestId};

/// Most reads that wait for answers.
pub const READS_MAX: usize = 4096;

/// The reads under way at one node.
#[derive(Debug, Default)]
pub struct Reads {
    by_poll: BTreeMap<u64, Poll>,
}

#[derive(Debug)]
struct Poll {
    key: Key,
    /// Until it is answered.
    id: Option<RequestId>,
    /// How many nodes have to answer, this one included.
    asked: u16,
    /// Peers that may still answer.
    waiting: BTreeSet<NodeId>,
    /// What those that have answered hold.
    held: BTreeMap<NodeId, BTreeSet<Dot>>,
    ends_at: Instant,
}

impl Reads {
    /// Whether one more read may wait.
    pub fn has_room(&self) -> bool {
        self.by_poll.len() < READS_MAX
    }

    /// Asks `peers` what they hold under `key`.
    pub fn begin(
        &mut self,
        (id, key): (RequestId, Key),
        asked: u16,
        peers: Vec<NodeId>,
        ends_at: Instant,
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) {
        let poll = dice.next_u64();
        for peer in &peers {
            out.send(peer, Message::ReadAsk { poll, key: key.clone() });
        }
        let (waiting, held) = (peers.into_iter().collect(), BTreeMap::new());
        self.by_poll.insert(poll, Poll { key, id: Some(id), asked, waiting, held, ends_at });
    }

    /// The key that an answer of `from` is about, if it was asked.
    pub fn key_of(&self, poll: u64, from: &NodeId) -> Option<&Key> {
        self.by_poll.get(&poll).filter(|poll| poll.waiting.contains(from)).map(|poll| &poll.key)
    }

    /// A peer answered, and this node has merged what it told; `row` is what is held here now. Sends everybody who
    /// is behind what they lack, and says which request can be answered.
    pub fn on_tell(
        &mut self,
        from: &NodeId,
        (number, told): (u64, &[Entry]),
        row: &[Entry],
        out: &mut Outbox,
    ) -> Option<RequestId> {
        let poll = self.by_poll.get_mut(&number)?;
        if !poll.waiting.remove(from) {
            return None;
        }
        poll.held.insert(from.clone(), told.iter().map(|entry| entry.version.dot).collect());
        let here: BTreeSet<Dot> = row.iter().map(|entry| entry.version.dot).collect();
        for (peer, held) in &mut poll.held {
            if !here.is_subset(held) {
                held.clone_from(&here);
                out.send(peer, Message::Repair { entries: row.to_vec() });
                out.count("read_repairs", 1);
            }
        }
        let answered = poll.held.len() + 1;
        let id = if answered >= usize::from(poll.asked) { poll.id.take() } else { None };
        if poll.waiting.is_empty() && (id.is_some() || poll.id.is_none()) {
            self.by_poll.remove(&number);
        }
        id
    }

    /// Gives up on what has taken too long.
    pub fn on_tick(&mut self, now: Instant, out: &mut Outbox) {
        let over: Vec<u64> =
            self.by_poll.iter().filter(|(_, poll)| poll.ends_at <= now).map(|(number, _)| *number).collect();
        for number in over {
            let poll = self.by_poll.remove(&number).expect("just listed");
            if let Some(id) = poll.id {
                let answered = u16::try_from(poll.held.len() + 1).unwrap_or(u16::MAX);
                out.reply(id, Reply::Refused(Refusal::ReadTimeout { answered, asked: poll.asked }));
            }
        }
    }

    /// When the next one has taken too long.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.by_poll.values().map(|poll| poll.ends_at).min()
    }
}

/// How long a read waits for answers if the client does not say.
pub const READ_PATIENCE: Duration = Duration::from_secs(5);

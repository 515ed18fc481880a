//! Which peer is reached how: queues by address, connections by node id, and the rule that leaves one
//! connection per pair. Plain state behind one lock; time comes in as an argument, and nothing here waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::handshake::Hello;
use super::queue::Queue;
use crate::model::{Address, NodeId};

/// Most connections, handshakes included.
pub const CONNECTIONS_MAX: usize = 256;
/// Most addresses that have a queue; beyond it the one unused longest is forgotten.
pub const LINKS_MAX: usize = 1024;
/// Most aliases, and most own addresses, that are remembered; beyond it they are learned anew.
pub const ALIASES_MAX: usize = 256;
/// How long an address that led to this very node is not tried again.
pub const SELF_MEMORY: Duration = Duration::from_secs(60);
/// First wait after a failed dial; doubles up to [`BACKOFF_MAX`].
pub const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Longest wait after a failed dial, and the wait after a refusal.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Two connections of one pair that come up within this time were dialed at the same time, from both sides.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(5);

/// Everything the connections of this process share.
#[derive(Debug, Default)]
pub struct Registry {
    links: BTreeMap<Address, Link>,
    /// Addresses that led to a node which says it is reached at another one.
    aliases: BTreeMap<Address, Address>,
    /// Addresses that led to this very node, until when that is believed.
    own: BTreeMap<Address, Instant>,
    connections: BTreeMap<NodeId, Connection>,
    /// Numbers connections, so that an old one is told from the current one.
    serial: u64,
    /// Connections that are up or in their handshake, retired ones included.
    open: usize,
    stopping: bool,
}

/// The way to one address.
#[derive(Debug)]
struct Link {
    queue: Queue,
    /// Whose connection carries the queue, once there is one.
    peer: Option<NodeId>,
    dialing: bool,
    /// No dial before this time.
    retry_at: Instant,
    backoff: Duration,
    used: Instant,
}

/// The current connection to a peer.
#[derive(Debug)]
struct Connection {
    serial: u64,
    instance: u128,
    address: Address,
    dialed_by_lower: bool,
    since: Instant,
    wake: Arc<Notify>,
}

/// What became of a frame, and what the caller must do about it.
#[derive(Debug)]
pub enum Sent {
    /// It waits; wake the connection.
    Wake(Arc<Notify>),
    /// It waits; dial the address.
    Dial(Address),
    /// It waits for a dial that is under way.
    Waits,
    /// Its queue is full.
    Full,
    /// Its address is not tried just now.
    Unreachable,
    /// It was for this very node.
    Own,
}

/// A connection that has come up.
#[derive(Debug)]
pub struct Registered {
    /// Its number.
    pub serial: u64,
    /// Rung when there is something to write, or the connection is no longer the current one.
    pub wake: Arc<Notify>,
}

/// What a connection's writer does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Write these.
    Write(Vec<Bytes>),
    /// Nothing waits.
    Wait,
    /// Say no more on this connection.
    Finish,
}

/// How a dial ended when it did not connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Nobody answered.
    Unreachable,
    /// Somebody does not want to talk.
    Refused,
    /// It was this very node.
    Own,
}

impl Registry {
    /// Queues a frame for whoever is reached at `to`.
    pub fn send(&mut self, own: &Address, to: &Address, frame: Bytes, now: Instant) -> Sent {
        if to == own || self.own.get(to).is_some_and(|until| now < *until) {
            return Sent::Own;
        }
        let to = self.aliases.get(to).unwrap_or(to).clone();
        let stopping = self.stopping;
        let Some(link) = self.link(&to, now) else { return Sent::Full };
        link.used = now;
        if link.peer.is_none() && !link.dialing && (now < link.retry_at || stopping) {
            return Sent::Unreachable;
        }
        if !link.queue.push(frame) {
            return Sent::Full;
        }
        if let Some(id) = link.peer.clone() {
            return Sent::Wake(self.connections[&id].wake.clone());
        }
        if std::mem::replace(&mut link.dialing, true) { Sent::Waits } else { Sent::Dial(to) }
    }

    /// The link to an address, made if there is room for it.
    fn link(&mut self, to: &Address, now: Instant) -> Option<&mut Link> {
        if !self.links.contains_key(to) && self.links.len() >= LINKS_MAX {
            let idle = self.links.iter().filter(|(_, link)| link.peer.is_none() && !link.dialing);
            let oldest = idle.min_by_key(|(_, link)| link.used).map(|(address, _)| address.clone())?;
            self.links.remove(&oldest);
        }
        Some(self.links.entry(to.clone()).or_insert_with(|| Link {
            queue: Queue::default(),
            peer: None,
            dialing: false,
            retry_at: now,
            backoff: BACKOFF_MIN,
            used: now,
        }))
    }

    /// Takes room for one more connection, which [`Registry::leave`] gives back.
    pub fn enter(&mut self) -> bool {
        let room = self.open < CONNECTIONS_MAX && !self.stopping;
        self.open += usize::from(room);
        room
    }

    /// A connection or a handshake is over.
    pub fn leave(&mut self) {
        self.open -= 1;
    }

    /// How many connections are up or in their handshake.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Whether another node than `id` is connected and says it is reached at `address`.
    pub fn is_taken(&self, address: &Address, id: &NodeId) -> bool {
        let peer = self.links.get(address).and_then(|link| link.peer.as_ref());
        peer.is_some_and(|peer| peer != id)
    }

    /// A dial of `dialed` led to a node that says it is reached at `says`.
    pub fn dial_succeeded(&mut self, dialed: &Address, says: &Address, now: Instant) {
        let Some(link) = self.links.get_mut(dialed) else { return };
        link.dialing = false;
        // A peer that is connected and says it is reached at `dialed` keeps its queue.
        if dialed == says || link.peer.is_some() {
            return;
        }
        let mut waiting = self.links.remove(dialed).expect("just looked at").queue;
        self.remember_alias(dialed, says);
        let Some(link) = self.link(says, now) else { return };
        loop {
            let frames = waiting.next_batch();
            if frames.is_empty() {
                return;
            }
            // A full queue drops what does not fit, as always.
            for frame in frames {
                let _ = link.queue.push(frame);
            }
        }
    }

    /// Keeps aliases one step long.
    fn remember_alias(&mut self, alias: &Address, says: &Address) {
        if self.aliases.len() >= ALIASES_MAX {
            self.aliases.clear();
        }
        self.aliases.remove(says);
        self.aliases
            .values_mut()
            .filter(|address| *address == alias)
            .for_each(|address| *address = says.clone());
        self.aliases.insert(alias.clone(), says.clone());
    }

    /// A dial of `dialed` led to nobody to talk to. `jitter` is from 0 to 1. Returns how many frames were
    /// dropped: what waited is old by the time of the next try.
    pub fn dial_failed(&mut self, dialed: &Address, failed: Failed, jitter: f64, now: Instant) -> usize {
        // Whatever said it was reached there is not; the names that led to it may lead elsewhere by now.
        self.aliases.retain(|_, says| says != dialed);
        if failed == Failed::Own {
            if self.own.len() >= ALIASES_MAX {
                self.own.clear();
            }
            self.own.insert(dialed.clone(), now + SELF_MEMORY);
        }
        let Some(link) = self.links.get_mut(dialed) else { return 0 };
        link.dialing = false;
        if link.peer.is_some() {
            // The peer dialed us meanwhile.
            return 0;
        }
        if failed == Failed::Refused {
            link.backoff = BACKOFF_MAX;
        }
        link.back_off(jitter, now);
        link.queue.clear()
    }

    /// A handshake is done. The new connection becomes the current one unless it is the loser of two that
    /// were dialed at the same time; a connection that is not the current one says no more, and is read
    /// until the other side has finished too, so that nothing on the way is lost.
    pub fn register(&mut self, me: &NodeId, peer: &Hello, dialed_by_me: bool, now: Instant) -> Registered {
        self.serial += 1;
        let serial = self.serial;
        let wake = Arc::new(Notify::new());
        let dialed_by_lower = dialed_by_me == (*me < peer.id);
        if let Some(current) = self.connections.get(&peer.id) {
            let together = current.instance == peer.instance && now - current.since < DUPLICATE_WINDOW;
            if together && current.dialed_by_lower && !dialed_by_lower {
                return Registered { serial, wake };
            }
            let current = self.connections.remove(&peer.id).expect("just looked at");
            self.unlink(&current.address, &peer.id);
            current.wake.notify_one();
        }
        if let Some(link) = self.link(&peer.address, now) {
            if let Some(other) = link.peer.replace(peer.id.clone()) {
                // A node that was there under another name is there no longer.
                if let Some(replaced) = self.connections.remove(&other) {
                    replaced.wake.notify_one();
                }
            }
            let (instance, address) = (peer.instance, peer.address.clone());
            let connection =
                Connection { serial, instance, address, dialed_by_lower, since: now, wake: wake.clone() };
            self.connections.insert(peer.id.clone(), connection);
        }
        wake.notify_one();
        Registered { serial, wake }
    }

    fn unlink(&mut self, address: &Address, id: &NodeId) {
        if let Some(link) = self.links.get_mut(address).filter(|link| link.peer.as_ref() == Some(id)) {
            link.peer = None;
        }
    }

    fn current(&self, id: &NodeId, serial: u64) -> Option<&Connection> {
        self.connections.get(id).filter(|connection| connection.serial == serial)
    }

    /// What the writer of connection `serial` to `id` does next.
    pub fn next(&mut self, id: &NodeId, serial: u64) -> Next {
        let Some(address) = self.current(id, serial).map(|connection| connection.address.clone()) else {
            return Next::Finish;
        };
        let link = self.links.get_mut(&address).expect("a connected link is kept");
        let batch = link.queue.next_batch();
        match (batch.is_empty(), self.stopping) {
            (false, _) => Next::Write(batch),
            (true, false) => Next::Wait,
            (true, true) => Next::Finish,
        }
    }

    /// A connection has ended. Returns the address to dial when frames wait for it.
    pub fn ended(&mut self, id: &NodeId, serial: u64, jitter: f64, now: Instant) -> Option<Address> {
        let connection = self.current(id, serial)?;
        let (address, since) = (connection.address.clone(), connection.since);
        self.connections.remove(id);
        let stopping = self.stopping;
        let link = self.links.get_mut(&address)?;
        link.peer = None;
        if now - since < BACKOFF_MAX {
            // Connections that do not last are dialed as slowly as ones that do not come up.
            link.back_off(jitter, now);
        } else {
            (link.retry_at, link.backoff) = (now, BACKOFF_MIN);
        }
        if now < link.retry_at || link.dialing || link.queue.is_empty() || stopping {
            return None;
        }
        link.dialing = true;
        Some(address)
    }

    /// No new connections from now on; the present ones end once their queues are empty.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.connections.values().for_each(|connection| connection.wake.notify_one());
    }

    /// The peers that are connected.
    pub fn connected(&self) -> Vec<NodeId> {
        self.connections.keys().cloned().collect()
    }
}

impl Link {
    fn back_off(&mut self, jitter: f64, now: Instant) {
        self.retry_at = now + self.backoff.mul_f64(0.5 + jitter / 2.0);
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;

//! The only async code: brings clock, network and clients to a node, one turn at a time.
#![allow(clippy::disallowed_methods, reason = "this layer is where clocks, tasks and threads are allowed")]

#[cfg(test)]
mod failing_disk;
mod run;
pub mod tokio_world;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use crate::model::{Address, Instant, NodeId, Now, Reply, Request, WallTime};
use crate::node::{Event, Output};
pub use run::{Ended, NoObserver, Observer, run, run_observed};

/// Frames between nodes. Sending neither waits nor fails: a lost frame looks the same.
#[async_trait]
pub trait Network: Send {
    /// Hands a frame over, or drops it.
    fn send(&mut self, to: &Address, frame: Bytes);

    /// The next frame and who sent it. Cancel safe: a frame is either returned or still there. `None` when the
    /// network is gone for good.
    async fn recv(&mut self) -> Option<(NodeId, Bytes)>;

    /// A frame that is there already.
    fn try_recv(&mut self) -> Option<(NodeId, Bytes)>;
}

/// Reads the time and waits for it.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Now;

    /// Returns at `deadline` or a little later; `None` never returns.
    async fn sleep_until(&self, deadline: Option<Instant>);

    /// Waits out a simulated disk. A real disk has already waited, so `duration` is zero then.
    async fn wait(&self, duration: Duration);
}

/// A client's request on its way into the loop.
#[derive(Debug)]
pub struct Letter {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes; the asker may be gone by then.
    pub answer: oneshot::Sender<Reply>,
}

/// Most events of a run that are kept for whoever asks.
pub const EVENTS_KEPT_MAX: usize = 1024;

/// Beats once a turn is durable, for whoever waits to read what it wrote, and keeps the last events that the node
/// told. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    turns: watch::Sender<u64>,
    kept: Arc<Mutex<Kept>>,
}

/// What a node noticed, and when by its own wall clock.
#[derive(Clone, Debug)]
pub struct Noticed {
    /// When.
    pub at: WallTime,
    /// What.
    pub event: Event,
}

/// Events from some point on.
#[derive(Clone, Debug, Default)]
pub struct NoticedSince {
    /// With their numbers, in their order; the first event of a run is number 1.
    pub events: Vec<(u64, Noticed)>,
    /// The number of the last of them, or of the last that there is.
    pub next: u64,
    /// How many before them are not kept any more.
    pub missed: u64,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    events: VecDeque<Noticed>,
}

impl Pulse {
    /// A turn is durable, and leads to these outputs.
    pub fn beat(&self, now: Now, outputs: &[Output]) {
        let events = outputs.iter().filter_map(|output| match output {
            Output::Event(event) => Some(Noticed { at: now.wall, event: event.clone() }),
            Output::Send { .. } | Output::Reply { .. } | Output::Stop => None,
        });
        for noticed in events {
            let mut kept = self.kept();
            kept.last += 1;
            kept.events.push_back(noticed);
            if kept.events.len() > EVENTS_KEPT_MAX {
                kept.events.pop_front();
            }
        }
        self.turns.send_modify(|turns| *turns += 1);
    }

    /// Hears the beats from now on.
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    /// At most `limit` of the events after number `since`. A number from before this run, which is greater than all
    /// there are, means all that are kept.
    pub fn noticed_after(&self, since: u64, limit: usize) -> NoticedSince {
        let kept = self.kept();
        if limit == 0 {
            return NoticedSince { next: kept.last, ..NoticedSince::default() };
        }
        let first = kept.last - kept.events.len() as u64;
        let since = if since > kept.last { 0 } else { since };
        let from = since.max(first);
        let events = (from + 1..).zip(kept.events.range((from - first) as usize..).cloned()).take(limit);
        let events: Vec<(u64, Noticed)> = events.collect();
        NoticedSince { next: events.last().map_or(from, |(id, _)| *id), missed: from - since, events }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("nobody panics with the lock")
    }
}

/// Most requests that wait for the loop; a client beyond it is told to come back.
pub const MAILBOX_MAX: usize = 4096;

/// A mailbox's two ends.
pub fn mailbox() -> (Mailbox, mpsc::Receiver<Letter>) {
    let (sender, receiver) = mpsc::channel(MAILBOX_MAX);
    (Mailbox { sender }, receiver)
}

/// The clients' end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Mailbox {
    sender: mpsc::Sender<Letter>,
}

/// Why the loop did not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoAnswer {
    /// [`MAILBOX_MAX`] requests wait already. Nothing was done.
    #[error("the node is busy")]
    Busy,
    /// The node stopped, perhaps after doing it.
    #[error("the node stopped before it answered")]
    Stopped,
}

impl Mailbox {
    /// Asks the node and waits for its one reply.
    ///
    /// # Errors
    /// The loop is overloaded or over.
    pub async fn ask(&self, request: Request) -> Result<Reply, NoAnswer> {
        let (answer, reply) = oneshot::channel();
        self.sender.try_send(Letter { request, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NoAnswer::Busy,
            mpsc::error::TrySendError::Closed(_) => NoAnswer::Stopped,
        })?;
        reply.await.map_err(|_| NoAnswer::Stopped)
    }
}

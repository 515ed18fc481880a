//! The loop's own thread, so that a disk that takes its time never stalls a socket.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::{Peers, SystemClock, TcpNetwork};
use crate::driver::{Clock, Ended, Letter, Observer, Pulse, run_observed};
use crate::model::{NodeId, Now};
use crate::node::{Node, Output};
use crate::protocol::wire::WireError;
use crate::storage::{Storage, StorageError};

/// A node whose disk failed is opened again at most this often; failing sooner ends the loop.
pub const REOPEN_INTERVAL: Duration = Duration::from_secs(60);

/// How long a node whose disk is full waits before it tries whether there is room: at first, and at most.
pub const ROOM_PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// Why the loop ended badly. The process should end too.
#[derive(Debug, thiserror::Error)]
pub enum LoopFailure {
    /// The disk failed, and opening the node again did not help.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The system gives no thread or no runtime.
    #[error("the loop's thread does not start: {0}")]
    Start(std::io::Error),
    /// A bug: the loop's thread panicked, and said where on standard error.
    #[error("the loop panicked")]
    Panicked,
}

/// A running loop.
#[derive(Debug)]
pub struct LoopThread {
    ended: oneshot::Receiver<Result<Ended, LoopFailure>>,
}

impl LoopThread {
    /// Waits for the loop's end; the node and its disk are closed by then. Cancel safe; ask no more once it
    /// has answered.
    ///
    /// # Errors
    /// The loop ended badly.
    pub async fn ended(&mut self) -> Result<Ended, LoopFailure> {
        (&mut self.ended).await.unwrap_or(Err(LoopFailure::Panicked))
    }
}

/// Runs a node on a thread of its own.
///
/// When its disk fails, the node is dropped and `reopen` makes the next one, at most once per
/// [`REOPEN_INTERVAL`]; requests under way then get no answer, since their outcome is unknown. A disk that is full is
/// no broken disk: then the next node waits for room, as often as it takes.
///
/// # Errors
/// The system gives no thread or no runtime.
pub fn spawn_loop<S: Storage + Send + 'static>(
    node: Node<S>,
    clock: SystemClock,
    network: TcpNetwork,
    mailbox: mpsc::Receiver<Letter>,
    pulse: Pulse,
    reopen: impl FnMut() -> Result<Node<S>, StorageError> + Send + 'static,
) -> Result<LoopThread, LoopFailure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(LoopFailure::Start)?;
    let (tell, ended) = oneshot::channel();
    let name = format!("loop {}", node.id());
    let body = move || {
        let result = runtime.block_on(run_reopening(node, clock, network, mailbox, pulse, reopen));
        // Nobody may be waiting for the end any more.
        let _ = tell.send(result.map_err(LoopFailure::Storage));
    };
    thread::Builder::new().name(name).spawn(body).map_err(LoopFailure::Start)?;
    Ok(LoopThread { ended })
}

async fn run_reopening<S: Storage>(
    node: Node<S>,
    clock: SystemClock,
    mut network: TcpNetwork,
    mut mailbox: mpsc::Receiver<Letter>,
    pulse: Pulse,
    mut reopen: impl FnMut() -> Result<Node<S>, StorageError>,
) -> Result<Ended, StorageError> {
    let mut observer = Watch { peers: network.peers().clone(), pulse };
    let mut reopened: Option<Instant> = None;
    let mut node = Some(node);
    let mut crowded: Option<Crowded> = None;
    loop {
        let mut running = match node.take() {
            Some(node) => node,
            None => match reopen() {
                Err(StorageError::Full(reason)) => {
                    let pause = Crowded::note(&mut crowded);
                    tracing::warn!(event = "disk-full", "{reason}; trying again in {} s", pause.as_secs());
                    thread::sleep(pause);
                    continue;
                }
                other => other?,
            },
        };
        if let Some(crowded) = &mut crowded
            && std::mem::take(&mut crowded.is_news)
        {
            let now = clock.now();
            running.wait_for_room(now, now.mono + crowded.pause);
        }
        let result = run_observed(&mut running, &clock, &mut network, &mut mailbox, &mut observer).await;
        let error = match result {
            Ok(ended) => return Ok(ended),
            Err(error) => error,
        };
        let id = running.id().clone();
        // The disk must be closed before it can be opened again.
        drop(running);
        if let StorageError::Full(reason) = &error {
            Crowded::note(&mut crowded);
            tracing::warn!(node = %id, event = "disk-full", "{reason}; the node is opened again, for reads only");
            continue;
        }
        if reopened.is_some_and(|at| at.elapsed() < REOPEN_INTERVAL) {
            return Err(error);
        }
        tracing::error!(node = %id, event = "disk-failed", "{error}; the node is opened again from its disk");
        reopened = Some(Instant::now());
    }
}

/// A disk that was full.
struct Crowded {
    at: Instant,
    /// How long to wait before the next trial.
    pause: Duration,
    /// Whether the next node has still to be told.
    is_news: bool,
}

impl Crowded {
    /// Notes that the disk is full. Found full again soon after a trial, it is tried less often.
    fn note(crowded: &mut Option<Crowded>) -> Duration {
        let (first, most) = ROOM_PAUSE;
        let pause = match crowded {
            Some(before) if before.at.elapsed() < before.pause * 4 => (before.pause * 2).min(most),
            _ => first,
        };
        *crowded = Some(Crowded { at: Instant::now(), pause, is_news: true });
        pause
    }
}

/// Counts the frames that the loop could not read, and says when a turn is durable.
struct Watch {
    peers: Peers,
    pulse: Pulse,
}

impl Observer for Watch {
    fn before_outputs(&mut self, now: Now, outputs: &[Output]) -> Option<usize> {
        self.pulse.beat(now, outputs);
        None
    }

    fn nonsense(&mut self, _from: &NodeId, _error: &WireError) {
        self.peers.count_malformed();
    }
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;

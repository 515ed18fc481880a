//! The loop's own thread, so that a disk that takes its time never stalls a socket.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::{Peers, SystemClock, TcpNetwork};
use crate::driver::{Ended, Letter, Observer, Pulse, run_observed};
use crate::model::{NodeId, Now};
use crate::node::{Node, Output};
use crate::protocol::wire::WireError;
use crate::storage::{Storage, StorageError};

/// A node whose disk failed is opened again at most this often; failing sooner ends the loop.
pub const REOPEN_INTERVAL: Duration = Duration::from_secs(60);

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
/// [`REOPEN_INTERVAL`]; requests under way then get no answer, since their outcome is unknown.
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
    loop {
        let mut running = match node.take() {
            Some(node) => node,
            None => reopen()?,
        };
        let result = run_observed(&mut running, &clock, &mut network, &mut mailbox, &mut observer).await;
        let error = match result {
            Ok(ended) => return Ok(ended),
            Err(error) => error,
        };
        let id = running.id().clone();
        // The disk must be closed before it can be opened again.
        drop(running);
        if reopened.is_some_and(|at| at.elapsed() < REOPEN_INTERVAL) {
            return Err(error);
        }
        tracing::error!(node = %id, event = "disk-failed", "{error}; the node is opened again from its disk");
        reopened = Some(Instant::now());
    }
}

/// Counts the frames that the loop could not read, and says when a turn is durable.
struct Watch {
    peers: Peers,
    pulse: Pulse,
}

impl Observer for Watch {
    fn before_outputs(&mut self, _now: Now, _outputs: &[Output]) -> Option<usize> {
        self.pulse.beat();
        None
    }

    fn nonsense(&mut self, _from: &NodeId, _error: &WireError) {
        self.peers.count_malformed();
    }
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;

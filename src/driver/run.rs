//! The loop: waits for clock, network and clients, takes a bounded share of each, and flushes once.
//!
//! A turn is the same whichever source woke it: one `Now`, a tick, then messages, then requests, each in the
//! order of its source. So no source starves another, a busy node persists once for many writes, and a run
//! replays. Nothing here knows tokio's timers or tasks: the same code runs inside the simulator.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Clock, Letter, Network};
use crate::model::{Instant, NodeId, Now, Reply, Request, RequestId};
use crate::node::{Event, Input, Level, Node, Output};
use crate::protocol::wire::{self, Assembler, WireError};
use crate::storage::{Storage, StorageError};

/// Most frames taken in one turn.
pub const TURN_FRAMES_MAX: usize = 256;
/// Most requests taken in one turn.
pub const TURN_LETTERS_MAX: usize = 1024;
/// A turn takes no further frame, or request, once it has this many bytes of them.
pub const TURN_BYTES_MAX: usize = 8 << 20;
/// Most peers whose unfinished messages are kept; beyond it the one that was silent longest is forgotten.
pub const ASSEMBLERS_MAX: usize = 256;
/// The loop never sleeps shorter than this, so that a timer which fails to fire costs little.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// Why the loop ended without a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Every client's end of the mailbox is gone.
    NoClients,
    /// The node left its cluster.
    Left,
    /// The observer let the power fail.
    PowerFailed,
}

/// Watches a node's turns, and may end them where a crash could.
pub trait Observer: Send {
    /// A turn begins with these inputs.
    fn turn(&mut self, _now: Now, _inputs: &[Input]) {}

    /// The turn is durable and its outputs are about to be carried out. `Some(n)`: the power fails after the
    /// first `n` of them.
    fn before_outputs(&mut self, _now: Now, _outputs: &[Output]) -> Option<usize> {
        None
    }

    /// A peer sent a frame that is none.
    fn nonsense(&mut self, _from: &NodeId, _error: &WireError) {}
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}

/// Runs a node until nobody needs it any more.
///
/// # Errors
/// The disk is broken. The node must be dropped; whether its last turn is durable is unknown.
pub async fn run<S: Storage>(
    node: &mut Node<S>,
    clock: &dyn Clock,
    network: &mut dyn Network,
    mailbox: &mut mpsc::Receiver<Letter>,
) -> Result<Ended, StorageError> {
    run_observed(node, clock, network, mailbox, &mut NoObserver).await
}

/// [`run`], watched.
///
/// # Errors
/// As [`run`].
pub async fn run_observed<S: Storage>(
    node: &mut Node<S>,
    clock: &dyn Clock,
    network: &mut dyn Network,
    mailbox: &mut mpsc::Receiver<Letter>,
    observer: &mut dyn Observer,
) -> Result<Ended, StorageError> {
    let mut desk = Desk::new(node);
    // The first turn waits for nothing: opening the node may have left something to say.
    let mut share = Share::default();
    loop {
        share.fill(network, mailbox);
        let closed = share.closed;
        let now = clock.now();
        let inputs = desk.inputs(share, observer);
        observer.turn(now, &inputs);
        let flushed = turn(node, now, inputs)?;
        clock.wait(flushed.persist_takes).await;

        let fails_after = observer.before_outputs(now, &flushed.outputs);
        let count = fails_after.unwrap_or(flushed.outputs.len());
        let stop = desk.carry_out(flushed.outputs.into_iter().take(count), network);
        if fails_after.is_some() {
            return Ok(Ended::PowerFailed);
        }
        if stop {
            return Ok(Ended::Left);
        }
        if closed {
            return Ok(Ended::NoClients);
        }
        let wakeup = node.next_wakeup();
        debug_assert!(wakeup.is_none_or(|at| at > now.mono), "every timer that was due has fired");
        let deadline = wakeup.map(|at| at.max(now.mono + SLEEP_MIN));
        share = wait(clock, deadline, network, mailbox, desk.network_is_there).await;
        desk.network_is_there &= !share.network_gone;
    }
}

/// One turn of the node.
fn turn<S: Storage>(
    node: &mut Node<S>,
    now: Now,
    inputs: Vec<Input>,
) -> Result<crate::node::Flushed, StorageError> {
    for input in inputs {
        node.handle(now, input)?;
    }
    // A timer that a message or a request has set for this very moment fires in the same turn.
    if node.next_wakeup().is_some_and(|at| at <= now.mono) {
        node.handle(now, Input::Tick)?;
    }
    node.flush(now)
}

/// Waits for the first of time, a frame or a request; takes no more than that one.
async fn wait(
    clock: &dyn Clock,
    deadline: Option<Instant>,
    network: &mut dyn Network,
    mailbox: &mut mpsc::Receiver<Letter>,
    network_is_there: bool,
) -> Share {
    let mut share = Share::default();
    tokio::select! {
        biased;
        () = clock.sleep_until(deadline) => {}
        frame = network.recv(), if network_is_there => match frame {
            Some((from, frame)) => share.take_frame(from, frame),
            None => share.network_gone = true,
        },
        letter = mailbox.recv() => match letter {
            Some(letter) => share.take_letter(letter),
            None => share.closed = true,
        },
    }
    share
}

/// What one turn takes of what is ready.
#[derive(Default)]
struct Share {
    frames: Vec<(NodeId, Bytes)>,
    frame_bytes: usize,
    letters: Vec<Letter>,
    letter_bytes: usize,
    /// No client is left.
    closed: bool,
    /// The network will never bring anything again.
    network_gone: bool,
}

impl Share {
    fn fill(&mut self, network: &mut dyn Network, mailbox: &mut mpsc::Receiver<Letter>) {
        while self.frames.len() < TURN_FRAMES_MAX && self.frame_bytes < TURN_BYTES_MAX {
            let Some((from, frame)) = network.try_recv() else { break };
            self.take_frame(from, frame);
        }
        while self.letters.len() < TURN_LETTERS_MAX && self.letter_bytes < TURN_BYTES_MAX {
            match mailbox.try_recv() {
                Ok(letter) => self.take_letter(letter),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.closed = true;
                    break;
                }
            }
        }
    }

    fn take_frame(&mut self, from: NodeId, frame: Bytes) {
        self.frame_bytes += frame.len();
        self.frames.push((from, frame));
    }

    fn take_letter(&mut self, letter: Letter) {
        self.letter_bytes += match &letter.request {
            Request::Put { value, .. } => value.len(),
            Request::Import { entries } => entries.iter().map(|entry| entry.version.value.len()).sum(),
            _ => 0,
        };
        self.letters.push(letter);
    }
}

/// What the loop keeps between turns: who waits for an answer, and the halves of messages.
struct Desk {
    id: NodeId,
    /// Holds one entry per request that the node has not answered, and the node bounds those.
    answers: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    requests: u64,
    /// Starts anywhere, so that parts of a message that a crash cut off never fit a later one's.
    message_number: u64,
    peers: BTreeMap<NodeId, Peer>,
    frames: u64,
    network_is_there: bool,
}

#[derive(Default)]
struct Peer {
    assembler: Assembler,
    heard: u64,
    warned: BTreeSet<&'static str>,
}

impl Desk {
    fn new<S: Storage>(node: &mut Node<S>) -> Desk {
        Desk {
            id: node.id().clone(),
            answers: BTreeMap::new(),
            requests: 0,
            message_number: node.draw(),
            peers: BTreeMap::new(),
            frames: 0,
            network_is_there: true,
        }
    }

    /// Turns a share into inputs: a tick, messages, requests.
    fn inputs(&mut self, share: Share, observer: &mut dyn Observer) -> Vec<Input> {
        let mut inputs = vec![Input::Tick];
        for (from, frame) in share.frames {
            match self.peer(&from).assembler.push(frame) {
                Ok(Some(message)) => inputs.push(Input::Message { from, message }),
                Ok(None) => {}
                Err(error) => self.complain(&from, &error, observer),
            }
        }
        for Letter { request, answer } in share.letters {
            self.requests += 1;
            let id = RequestId(self.requests);
            self.answers.insert(id, answer);
            inputs.push(Input::Request { id, request });
        }
        inputs
    }

    fn peer(&mut self, id: &NodeId) -> &mut Peer {
        if !self.peers.contains_key(id) && self.peers.len() >= ASSEMBLERS_MAX {
            let silent = self.peers.iter().min_by_key(|(_, peer)| peer.heard).map(|(id, _)| id.clone());
            self.peers.remove(&silent.expect("the table is full"));
        }
        self.frames += 1;
        let peer = self.peers.entry(id.clone()).or_default();
        peer.heard = self.frames;
        peer
    }

    /// Once per peer and kind of nonsense, not once per frame.
    fn complain(&mut self, from: &NodeId, error: &WireError, observer: &mut dyn Observer) {
        observer.nonsense(from, error);
        if self.peer(from).warned.insert(error_name(error)) {
            tracing::warn!(node = %self.id, peer = %from, event = "frame-dropped", "{error}");
        }
    }

    /// Returns whether the node wants to stop.
    fn carry_out(&mut self, outputs: impl Iterator<Item = Output>, network: &mut dyn Network) -> bool {
        let mut stop = false;
        for output in outputs {
            match output {
                Output::Send { to, message } => {
                    self.message_number = self.message_number.wrapping_add(1);
                    match wire::encode(&message, self.message_number) {
                        Ok(frames) => frames.into_iter().for_each(|frame| network.send(&to, frame)),
                        Err(error) => {
                            tracing::error!(node = %self.id, %to, event = "message-not-sent", "{error}");
                        }
                    }
                }
                Output::Reply { id, reply } => {
                    let answer = self.answers.remove(&id).expect("one reply per request");
                    // Whoever asked may have stopped waiting; then nobody needs the answer.
                    let _ = answer.send(reply);
                }
                Output::Event(event) => log(&self.id, &event),
                Output::Stop => stop = true,
            }
        }
        stop
    }
}

fn log(node: &NodeId, Event { level, name, text }: &Event) {
    match level {
        Level::Info => tracing::info!(%node, event = name, "{text}"),
        Level::Warn => tracing::warn!(%node, event = name, "{text}"),
        Level::Error => tracing::error!(%node, event = name, "{text}"),
    }
}

fn error_name(error: &WireError) -> &'static str {
    match error {
        WireError::Length { .. } => "length",
        WireError::Magic => "magic",
        WireError::Version(_) => "version",
        WireError::Codec { .. } => "codec",
        WireError::Checksum => "checksum",
        WireError::Payload(_) => "payload",
        WireError::Parts => "parts",
        WireError::Compressed => "compressed",
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;

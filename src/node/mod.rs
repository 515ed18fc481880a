//! A node: one value that reacts to inputs. It composes the machines of [`crate::protocol`] over one store.
//!
//! `flush` is the only exit: it makes the turn's writes durable and only then hands its outputs over, so that
//! nothing leaves a node which a crash could take back.

pub mod settings;

use std::time::Duration;

use crate::model::{Address, Instant, NodeId, Now, Reply, Request, RequestId};
use crate::protocol::Message;
use crate::storage::{Storage, StorageError};
pub use settings::Settings;

/// Everything that can happen to a node. Nothing else ever changes its state.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client asks. Exactly one [`Output::Reply`] with this id follows.
    Request {
        /// Comes back in the reply.
        id: RequestId,
        /// What it asks.
        request: Request,
    },
    /// A peer's message arrives: possibly late, twice, or out of order.
    Message {
        /// Who sent it, as far as the connection could tell.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// Time may have passed. Early, late and repeated ticks are harmless.
    Tick,
}

/// Everything a node can ask of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Best effort. The node survives this being lost or delivered twice.
    Send {
        /// Where the peer listens.
        to: Address,
        /// What to say.
        message: Message,
    },
    /// Answers one request.
    Reply {
        /// Which.
        id: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// Something worth a line in the log; decided once, here.
    Event(Event),
    /// The node has left its cluster and wants its process to end.
    Stop,
}

/// Something worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How loud.
    pub level: Level,
    /// A stable name, such as `member-down`.
    pub name: &'static str,
    /// The facts, in words.
    pub text: String,
}

/// How loud an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Good to know.
    Info,
    /// Odd, and dealt with.
    Warn,
    /// A person must look at it; the simulator treats it as a failed run.
    Error,
}

/// What a turn leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// How long the world still has to wait before it carries the outputs out: zero with a real disk.
    pub persist_takes: Duration,
    /// What to carry out then, in order.
    pub outputs: Vec<Output>,
}

/// One replica as a plain value: no threads, no sockets, no clock, no ambient randomness.
pub struct Node<S> {
    store: S,
}

impl<S: Storage> Node<S> {
    /// Starts a node on its disk: reads what survived and begins a new life, durably. `dice` seeds everything
    /// the node draws; it must differ from start to start.
    ///
    /// # Errors
    /// The disk is broken, or belongs to a node with another id.
    pub fn open(
        _store: S,
        _settings: Settings,
        _dice: [u8; 32],
        _now: Now,
    ) -> Result<Node<S>, StorageError> {
        unimplemented!()
    }

    /// Reacts to one input. The only failure is a broken disk, which ends this node's run.
    ///
    /// # Errors
    /// The disk is broken; drop the node and open it again.
    pub fn handle(&mut self, _now: Now, _input: Input) -> Result<(), StorageError> {
        unimplemented!()
    }

    /// Makes the turn's writes durable and only then hands its outputs over, so that nothing is ever sent or
    /// acknowledged which a crash could take back.
    ///
    /// # Errors
    /// The disk is broken; drop the node and open it again.
    pub fn flush(&mut self, _now: Now) -> Result<Flushed, StorageError> {
        unimplemented!()
    }

    /// When the node next wants an [`Input::Tick`], if no input comes before.
    pub fn next_wakeup(&self) -> Option<Instant> {
        None
    }

    /// The store, for whoever plays the disk.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, for whoever plays the disk.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Ends the run without another word, as a crash would; what was persisted is in the store.
    pub fn into_store(self) -> S {
        self.store
    }
}

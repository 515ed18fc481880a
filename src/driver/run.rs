//! The loop: waits for clock, network and clients, takes a bounded share of each, and flushes once.

use tokio::sync::mpsc;

use super::{Clock, Letter, Network};
use crate::node::Node;
use crate::storage::{Storage, StorageError};

/// Why the loop ended without a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Every client's end of the mailbox is gone.
    NoClients,
    /// The node left its cluster.
    Left,
}

/// Runs a node until nobody needs it any more.
///
/// # Errors
/// The disk is broken. The node must be dropped; whether its last turn is durable is unknown.
pub async fn run<S: Storage>(
    _node: &mut Node<S>,
    _clock: &dyn Clock,
    _network: &mut dyn Network,
    _mailbox: &mut mpsc::Receiver<Letter>,
) -> Result<Ended, StorageError> {
    unimplemented!()
}

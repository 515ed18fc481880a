//! The loop's end of the network: queues what it sends, and hands over what the connections have read.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::peers::Peers;
use crate::driver::Network;
use crate::model::{Address, NodeId};

/// Most frames that wait for the loop, from all peers together; then connections wait their turn.
pub const INBOUND_FRAMES_MAX: usize = 4096;

/// A frame on its way into the loop.
#[derive(Debug)]
pub struct Inbound {
    /// Whose connection it came on.
    pub from: NodeId,
    /// The frame.
    pub frame: Bytes,
    /// Its share of what the connection may have waiting; given back once the loop has it.
    pub room: OwnedSemaphorePermit,
}

/// The [`Network`] of a node whose connections [`Peers`] owns.
#[derive(Debug)]
pub struct TcpNetwork {
    peers: Peers,
    inbound: mpsc::Receiver<Inbound>,
}

impl TcpNetwork {
    pub(super) fn new(peers: Peers, inbound: mpsc::Receiver<Inbound>) -> TcpNetwork {
        TcpNetwork { peers, inbound }
    }

    /// The connections.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }
}

fn unpack(Inbound { from, frame, room }: Inbound) -> (NodeId, Bytes) {
    drop(room);
    (from, frame)
}

#[async_trait]
impl Network for TcpNetwork {
    fn send(&mut self, to: &Address, frame: Bytes) {
        self.peers.send(to, frame);
    }

    async fn recv(&mut self) -> Option<(NodeId, Bytes)> {
        self.inbound.recv().await.map(unpack)
    }

    fn try_recv(&mut self) -> Option<(NodeId, Bytes)> {
        self.inbound.try_recv().ok().map(unpack)
    }
}

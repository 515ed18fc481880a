//! Sockets between nodes. The stage's links decide what becomes of a frame; madsim then carries it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use madsim::net::Endpoint;
use madsim::runtime::{Handle, NodeHandle};
use reknit::driver::Network;
use reknit::model::{Address, NodeId};
use reknit::protocol::wire::FRAME_BYTES_MAX;
use tokio::sync::mpsc;

use super::world::World;
use crate::links::Arrival;

/// Everybody's port.
const PORT: u16 = 7000;
/// madsim's name of a stream of datagrams.
const TAG: u64 = 1;
/// In front of a frame stands the number of the machine it comes from.
const SENDER_BYTES: usize = 4;
/// madsim lets sending and receiving take a millisecond each.
const HANDOVER: Duration = Duration::from_millis(2);
/// How many datagrams a machine takes in at once: each takes its millisecond, whatever else is there.
const RECEIVERS: usize = 8;
/// Most frames that wait for one node; a network drops what comes on top.
const FRAMES_WAITING_MAX: usize = 4096;

/// Where a machine is found.
pub(super) fn ip(machine: usize) -> IpAddr {
    let [.., high, low] = (machine as u32 + 1).to_be_bytes();
    Ipv4Addr::new(10, 0, high, low).into()
}

fn socket(machine: usize) -> SocketAddr {
    (ip(machine), PORT).into()
}

/// Holds what is under way: a frame that was sent arrives even if its sender has lost its power by then.
#[derive(Clone)]
pub(super) struct Ether {
    world: World,
    host: Arc<NodeHandle>,
    endpoint: Endpoint,
    names: Arc<[NodeId]>,
}

impl Ether {
    pub(super) async fn new(madsim: &Handle, world: World) -> Ether {
        let address: SocketAddr = ([10, 1, 0, 1], PORT).into();
        let host = madsim.create_node().ip(address.ip()).build();
        let endpoint = host.spawn(Endpoint::bind(address)).await.expect("the host stays");
        let endpoint = endpoint.expect("nobody else is there");
        let name = |name: &String| NodeId::new(name).expect("the parser checks names");
        let names = world.state().stage.names().iter().map(name).collect();
        Ether { world, host: Arc::new(host), endpoint, names }
    }

    /// Hands a frame to madsim such that it is there in time.
    fn carry(&self, from: usize, to: usize, arrival: Arrival) {
        let mut packet = BytesMut::with_capacity(SENDER_BYTES + arrival.frame.len());
        packet.put_u32_le(from as u32);
        packet.put_slice(&arrival.frame);
        let (world, endpoint) = (self.world.clone(), self.endpoint.clone());
        drop(self.host.spawn(async move {
            world.sleep_until(arrival.at.saturating_sub(HANDOVER)).await;
            // Nobody may listen there at present; then the frame is lost.
            let _ = endpoint.send_to(socket(to), TAG, &packet).await;
        }));
    }

    /// Loses all that is under way.
    pub(super) fn end(&self, madsim: &Handle) {
        madsim.kill(self.host.id());
    }
}

/// One node's network.
pub(super) struct Wires {
    node: usize,
    ether: Ether,
    arrived: mpsc::Receiver<(NodeId, Bytes)>,
}

impl Wires {
    /// Plugs in the node that the calling task belongs to.
    pub(super) async fn plug_in(node: usize, ether: Ether) -> Wires {
        let endpoint = Endpoint::bind(socket(node)).await.expect("one process per machine");
        let (sender, arrived) = mpsc::channel(FRAMES_WAITING_MAX);
        // Waiting for a datagram is not cancel safe, so it has tasks of its own.
        for _ in 0..RECEIVERS {
            let receiver = receive(node, ether.clone(), endpoint.clone(), sender.clone());
            drop(madsim::task::spawn(receiver));
        }
        Wires { node, ether, arrived }
    }
}

async fn receive(node: usize, ether: Ether, endpoint: Endpoint, arrived: mpsc::Sender<(NodeId, Bytes)>) {
    let mut packet = vec![0; SENDER_BYTES + FRAME_BYTES_MAX];
    while let Ok((length, _)) = endpoint.recv_from(TAG, &mut packet).await {
        let (from, frame) = packet[..length].split_at(SENDER_BYTES);
        let from = u32::from_le_bytes(from.try_into().expect("four bytes")) as usize;
        if ether.world.state().stage.links.arrives(from, node) {
            // A full queue drops it.
            let _ = arrived.try_send((ether.names[from].clone(), Bytes::copy_from_slice(frame)));
        }
    }
}

#[async_trait]
impl Network for Wires {
    fn send(&mut self, to: &Address, frame: Bytes) {
        let at = self.ether.world.at();
        let fate = self.ether.world.state().stage.frame(at, self.node, to, frame);
        let Some((to, arrivals)) = fate else { return };
        for arrival in arrivals.into_iter().flatten() {
            self.ether.carry(self.node, to, arrival);
        }
    }

    async fn recv(&mut self) -> Option<(NodeId, Bytes)> {
        self.arrived.recv().await
    }

    fn try_recv(&mut self) -> Option<(NodeId, Bytes)> {
        self.arrived.try_recv().ok()
    }
}

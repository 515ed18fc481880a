//! The connections to other nodes: one per pair, over the clients' port, owned by the I/O runtime.
//!
//! Whoever has something to send and no connection dials. Nothing here retries by itself: the node above sends
//! again what matters, and a dial happens at most as often as the backoff allows.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::connection::{self, Frames, Pace};
use super::counters::{Count, Counters};
use super::dial::dial;
use super::handshake::{self, Hello, Key, Me, PROOF_BYTES, Refused, Role, Why};
use super::network::{INBOUND_FRAMES_MAX, Inbound, TcpNetwork};
use super::registry::{Registry, Sent};
use super::tls::{Certified, Tls};
use crate::model::{Address, NodeId};

pub use super::handshake::PATH;

/// How long a peer may take from our 101 to its proof.
pub const PROOF_TIMEOUT: Duration = Duration::from_secs(5);

/// What the connections are told at their start.
#[derive(Clone, Debug)]
pub struct PeersSettings {
    /// The node's id.
    pub id: NodeId,
    /// Where it says that peers reach it.
    pub address: Address,
    /// The cluster's secret; empty without one.
    pub secret: Vec<u8>,
    /// Whether peers on other hosts are welcome even without a secret.
    pub insecure_peers: bool,
    /// Whether frames are compressed for peers that take it.
    pub compression: bool,
    /// Certificates that peers show each other; without them frames go in plain text.
    pub tls: Option<Tls>,
    /// From the system's randomness: seeds nonces, jitter and the name of this process.
    pub dice: [u8; 32],
}

/// The connections to other nodes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers {
    shared: Arc<Shared>,
}

/// What every connection's task works with.
pub struct Shared {
    /// This node in handshakes.
    pub me: Me,
    /// Into the loop.
    pub inbound: mpsc::Sender<Inbound>,
    /// For `/metrics`.
    pub counters: Counters,
    /// How long things may take.
    pub pace: Pace,
    /// What connections to peers are encrypted with.
    pub tls: Option<Tls>,
    registry: Mutex<Registry>,
    dice: Mutex<ChaCha20Rng>,
    /// What was warned of already: refusals, by direction and code.
    warned: Mutex<BTreeSet<(&'static str, &'static str)>>,
    runtime: Handle,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("id", &self.me.id).finish_non_exhaustive()
    }
}

impl Peers {
    /// No connections yet. Must be called on the I/O runtime, which then runs them.
    pub fn start(settings: PeersSettings) -> (Peers, TcpNetwork) {
        Peers::start_at(settings, Pace::default())
    }

    fn start_at(settings: PeersSettings, pace: Pace) -> (Peers, TcpNetwork) {
        let mut dice = ChaCha20Rng::from_seed(settings.dice);
        let me = Me {
            id: settings.id,
            address: settings.address,
            instance: draw_u128(&mut dice),
            key: Key::of(&settings.secret),
            talks_to_other_hosts: settings.insecure_peers
                || !settings.secret.is_empty()
                || settings.tls.is_some(),
            compresses: settings.compression,
        };
        let (inbound, frames) = mpsc::channel(INBOUND_FRAMES_MAX);
        let shared = Shared {
            me,
            inbound,
            counters: Counters::default(),
            pace,
            tls: settings.tls,
            registry: Mutex::default(),
            dice: Mutex::new(dice),
            warned: Mutex::default(),
            runtime: Handle::current(),
        };
        let peers = Peers { shared: Arc::new(shared) };
        (peers.clone(), TcpNetwork::new(peers, frames))
    }

    /// Answers `GET /peer`: with the 101 to send back as it is (the connection is then taken over), or with a
    /// refusal. `remote` is the other end of the request's connection.
    ///
    /// # Errors
    /// The peer is refused; the answer must carry the refusal's status and headers.
    pub fn accept<B>(
        &self,
        request: &mut Request<B>,
        remote: Option<SocketAddr>,
    ) -> Result<Response<()>, Refused> {
        let result = self.try_accept(request, remote);
        if let Err(refused) = &result {
            self.shared.counters.one(refused.why.count());
            if refused.why != Why::Own && self.shared.is_news("accept", refused.code()) {
                tracing::warn!(node = %self.shared.me.id, ?remote, event = "peer-refused", code = refused.code(),
                    "{refused}");
            }
        }
        result
    }

    fn try_accept<B>(
        &self,
        request: &mut Request<B>,
        remote: Option<SocketAddr>,
    ) -> Result<Response<()>, Refused> {
        let shared = &self.shared;
        let shown = request.extensions().get::<Certified>().is_some_and(|certified| certified.0);
        if shared.tls.is_some() && !shown {
            return Err(
                Why::NeedsCertificate.refuse("peers must show a certificate of the cluster's authority")
            );
        }
        let (method, headers) = (request.method(), request.headers());
        let theirs = shared.me.check_request(method, headers, remote.map(|remote| remote.ip()))?;
        if shared.registry().is_taken(&theirs.address, &theirs.id) {
            let reason = format!("another node is connected that is reached at {}", theirs.address);
            return Err(Why::AddressTaken.refuse(reason));
        }
        let Some(room) = Room::enter(shared) else {
            return Err(Why::Busy.refuse("no further connections just now"));
        };
        let mine = shared.me.hello(shared.draw_nonce());
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() =
            handshake::headers(&mine, shared.me.key.proof(Role::Server, &theirs, &mine));
        let upgrade = hyper::upgrade::on(request);
        shared.runtime.spawn(take_over(shared.clone(), upgrade, mine, theirs, room));
        Ok(response)
    }

    /// Queues a frame, and dials if nobody has yet.
    pub(super) fn send(&self, to: &Address, frame: Bytes) {
        let shared = &self.shared;
        let sent = shared.registry().send(&shared.me.address, to, frame, Instant::now());
        match sent {
            Sent::Wake(connection) => connection.notify_one(),
            Sent::Dial(address) => drop(shared.runtime.spawn(dial(shared.clone(), address))),
            Sent::Waits | Sent::Own => {}
            Sent::Full => {
                if shared.counters.first(Count::DroppedFull) {
                    tracing::warn!(node = %shared.me.id, address = %to, event = "peer-queue-full",
                        "a peer takes frames slower than they are made; some are dropped");
                }
            }
            Sent::Unreachable => shared.counters.one(Count::DroppedUnreachable),
        }
    }

    pub(super) fn count_malformed(&self) {
        self.shared.counters.one(Count::Malformed);
    }

    /// Everything counted since the start, and how many connections there are.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut all = self.shared.counters.all();
        let registry = self.shared.registry();
        all.push(("peer_connections_open", registry.open() as u64));
        all.push(("peers_connected", registry.connected().len() as u64));
        all
    }

    /// The peers that are connected, in the order of their ids.
    pub fn connected(&self) -> Vec<NodeId> {
        self.shared.registry().connected()
    }

    /// Takes and makes no further connections, lets the present ones say what they have to say, and returns
    /// when they are over, or after `patience`.
    pub async fn stop(&self, patience: Duration) {
        self.shared.registry().stop();
        let over = async {
            while self.shared.registry().open() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Out of patience: what is left dies with the process.
        let _ = timeout(patience, over).await;
    }
}

/// The server's half of a handshake after its 101.
async fn take_over(shared: Arc<Shared>, upgrade: OnUpgrade, mine: Hello, theirs: Hello, room: Room) {
    let expected = shared.me.key.proof(Role::Client, &theirs, &mine);
    match timeout(PROOF_TIMEOUT, read_proof(upgrade)).await {
        Ok(Some((frames, proof))) if blake3::Hash::from_bytes(proof) == expected => {
            connection::serve(shared, frames, theirs, false, room).await;
        }
        // A first frame that is no proof, or another's.
        Ok(Some(_)) => shared.counters.one(Count::RefusedSecret),
        Ok(None) => shared.counters.one(Count::Malformed),
        Err(_) => shared.counters.one(Count::TimedOut),
    }
}

async fn read_proof(upgrade: OnUpgrade) -> Option<(Frames, [u8; PROOF_BYTES])> {
    let mut frames = connection::frames(upgrade.await.ok()?);
    let proof = frames.next().await?.ok()?;
    Some((frames, proof.as_ref().try_into().ok()?))
}

impl Shared {
    /// The shared state. Nothing waits, and nothing can panic, while it is held.
    pub fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().expect("no holder panics")
    }

    /// A number for one handshake.
    pub fn draw_nonce(&self) -> u128 {
        draw_u128(&mut self.dice.lock().expect("no holder panics"))
    }

    /// From 0 to 1.
    pub fn draw_jitter(&self) -> f64 {
        self.dice.lock().expect("no holder panics").random()
    }

    /// Whether this is worth a warning: the first of its kind.
    pub fn is_news(&self, direction: &'static str, code: &'static str) -> bool {
        self.warned.lock().expect("no holder panics").insert((direction, code))
    }

    /// A connection has ended; whatever still waits for its peer needs another one.
    pub fn ended(self: &Arc<Shared>, id: &NodeId, serial: u64) {
        let jitter = self.draw_jitter();
        let waiting = self.registry().ended(id, serial, jitter, Instant::now());
        if let Some(address) = waiting {
            self.runtime.spawn(dial(self.clone(), address));
        }
    }
}

fn draw_u128(dice: &mut ChaCha20Rng) -> u128 {
    u128::from(dice.next_u64()) << 64 | u128::from(dice.next_u64())
}

/// A place among the connections, given back when dropped.
pub struct Room(Arc<Shared>);

impl Room {
    /// A place, if one is free.
    pub fn enter(shared: &Arc<Shared>) -> Option<Room> {
        shared.registry().enter().then(|| Room(shared.clone()))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.registry().leave();
    }
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;

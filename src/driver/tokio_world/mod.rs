//! The real world: the system's clock, TCP between nodes, and a thread for the loop.
//!
//! Sockets live on the I/O runtime and the loop on a thread of its own, so that a slow disk never stalls a
//! connection. Peers share the clients' port: see [`peers::Peers::accept`].

mod clock;
mod connection;
mod counters;
mod dial;
mod handshake;
mod network;
pub mod peers;
mod queue;
mod registry;
mod thread;
pub mod tls;

pub use clock::SystemClock;
pub use connection::frame_codec;
pub use handshake::Refused;
pub use network::TcpNetwork;
pub use peers::{Peers, PeersSettings};
pub use thread::{LoopFailure, LoopThread, REOPEN_INTERVAL, spawn_loop};
pub use tls::Tls;

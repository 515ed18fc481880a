//! The parts of the protocol, each a law or a machine of its own: pure, and ignorant of the world outside.

pub mod changes;
pub mod chunks;
pub mod collect;
pub mod confirm;
pub mod history;
pub mod decisions;
pub mod flight;
pub mod hlc;
pub mod meeting;
pub mod membership;
pub mod message;
pub mod order;
pub mod outbox;
pub mod outline;
pub mod pull;
pub mod push;
pub mod reads;
pub mod rebase;
pub mod replica;
pub mod resolve;
pub mod serve;
pub mod sessions;
pub mod siblings;
pub mod span;
pub mod summary;
pub mod talk;
pub mod vote;
pub mod wire;
mod zip;

pub use crate::model::{DotSet, timing};
pub use message::Message;

//! The parts of the protocol, each a law or a machine of its own: pure, and ignorant of the world outside.

pub mod hlc;
pub mod membership;
pub mod message;
pub mod order;
pub mod replica;
pub mod replicate;
pub mod seen;
pub mod summary;
pub mod wire;

pub use message::Message;
pub use seen::DotSet;

//! The points at which a fault can strike: what a node is just saying.
//!
//! Faults that wait for a point find what faults at a time hardly ever meet: a power loss between the steps of a
//! stream, a partition right behind an answer. A point is the name of a message's kind, or `reply`.

use std::fmt;

use reknit::node::Output;
use reknit::protocol::wire;

/// Every point, and what a node does there.
pub const POINTS: &[(&str, &str)] = &[
    ("reply", "it answers a client"),
    ("push", "it sends its own writes to a peer"),
    ("durable", "it says that a peer's writes are durable here"),
    ("pull", "it asks a peer for what it missed"),
    ("step", "it sends a step of a stream"),
    ("step-end", "it ends a stream, and covers what was replaced"),
    ("step-done", "it acknowledges a step"),
    ("ask", "it asks who held which of two colliding values first"),
    ("answer", "it answers such a question"),
    ("table", "it tells who is a member"),
    ("news", "it passes on who joined, left, is suspect or down"),
    ("reach", "it asks another whether that one reaches a suspect"),
    ("meet", "it opens a meeting"),
    ("sync-open", "it opens a comparison of stores"),
    ("sync-flight", "it sends a flight of a comparison"),
    ("repair", "it repairs what a read found stale"),
];

/// A point, by its place in [`POINTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point(usize);

impl Point {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Point> {
        (0..POINTS.len()).map(Point)
    }

    /// The point of this name.
    pub fn named(name: &str) -> Option<Point> {
        POINTS.iter().position(|(known, _)| *known == name).map(Point)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        POINTS[self.0].0
    }

    /// Whether a node is there when it says this.
    pub fn is_met_by(self, output: &Output) -> bool {
        match output {
            Output::Reply { .. } => self.name() == "reply",
            Output::Send { message, .. } => wire::name(message) == self.name(),
            Output::Event(_) | Output::Stop => false,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

//! What a message is about: the keys of the rows in it.

use reknit::model::Key;
use reknit::protocol::message::Message;

/// The keys of the rows that a message carries, in its order.
pub fn keys(message: &Message) -> Vec<&Key> {
    match message {
        Message::Push { entries }
        | Message::Step { entries, .. }
        | Message::ReadTell { entries, .. }
        | Message::Repair { entries } => entries.iter().map(|entry| &entry.key).collect(),
        Message::SyncFlight(flight) => flight.entries.iter().map(|entry| &entry.key).collect(),
        Message::Ask { key, .. } | Message::ReadAsk { key, .. } => vec![key],
        Message::Within { data, .. } => keys(data),
        Message::Table { .. }
        | Message::Ping { .. }
        | Message::Pong { .. }
        | Message::Durable { .. }
        | Message::Pull { .. }
        | Message::StepEnd { .. }
        | Message::StepDone { .. }
        | Message::Refuse { .. }
        | Message::Answer { .. }
        | Message::SyncOpen { .. }
        | Message::SyncSame { .. }
        | Message::AskHorizons { .. }
        | Message::Horizons { .. }
        | Message::AskHeld { .. }
        | Message::Judged { .. }
        | Message::Meet { .. }
        | Message::AskDots { .. }
        | Message::Dots { .. }
        | Message::News { .. }
        | Message::Reach { .. }
        | Message::Reached { .. } => Vec::new(),
    }
}

//! What the machines of one node ask of the world during a turn, in the order they asked.

use std::collections::BTreeMap;

use super::message::Message;
use crate::model::{Address, NodeId, Reply, RequestId};

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

/// One thing asked of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To a member, wherever its record says it is.
    Send(NodeId, Message),
    /// To an address whose owner may not be known yet.
    SendTo(Address, Message),
    /// To a client.
    Reply(RequestId, Reply),
    /// To the log.
    Event(Event),
    /// End the process.
    Stop,
}

/// Collects a turn's actions, and counts for as long as the node runs.
#[derive(Debug, Default)]
pub struct Outbox {
    actions: Vec<Action>,
    counters: BTreeMap<&'static str, u64>,
    /// The numbers of the meetings that stand.
    meetings: BTreeMap<NodeId, u64>,
}

impl Outbox {
    /// Says something to a member. Data goes under the number of the meeting that stands now, and nowhere if
    /// none does: once it stands again the peer asks for what it lacks.
    pub fn send(&mut self, to: &NodeId, message: Message) {
        if !message.needs_meeting() {
            self.actions.push(Action::Send(to.clone(), message));
        } else if let Some(meeting) = self.meetings.get(to) {
            let message = Message::Within { meeting: *meeting, data: Box::new(message) };
            self.actions.push(Action::Send(to.clone(), message));
        } else {
            self.count("messages_without_meeting", 1);
        }
    }

    /// A meeting stands from now on under this number, or no longer.
    pub fn set_meeting(&mut self, with: &NodeId, number: Option<u64>) {
        match number {
            Some(number) => drop(self.meetings.insert(with.clone(), number)),
            None => drop(self.meetings.remove(with)),
        }
    }

    /// Says something to whoever listens at an address.
    pub fn send_to(&mut self, to: &Address, message: Message) {
        self.actions.push(Action::SendTo(to.clone(), message));
    }

    /// Answers a client.
    pub fn reply(&mut self, id: RequestId, reply: Reply) {
        self.actions.push(Action::Reply(id, reply));
    }

    /// Tells the log, and counts the event under its name.
    pub fn event(&mut self, level: Level, name: &'static str, text: String) {
        self.count(name, 1);
        self.actions.push(Action::Event(Event { level, name, text }));
    }

    /// Asks for the end of the process.
    pub fn stop(&mut self) {
        self.actions.push(Action::Stop);
    }

    /// Adds to a counter.
    pub fn count(&mut self, name: &'static str, by: u64) {
        *self.counters.entry(name).or_default() += by;
    }

    /// The counters by name.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.counters.iter().map(|(name, count)| (*name, *count)).collect()
    }

    /// Hands over what was collected.
    pub fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }
}

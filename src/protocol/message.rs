//! What nodes say to each other. Any of it may be lost, late, repeated or out of order.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::flight::Flight;
use super::outline::{Outline, Part, Which};
use super::rebase::{Fate, Held};
use crate::model::{Dot, DotSet, Entry, Key, Member, NodeId, Stamp};

/// One message from one node to another. The order of the variants is part of the wire format.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The sender's whole member table: to join, to greet after a start, and now and then so that lost
    /// rumours heal.
    Table {
        /// The sender's own record first.
        members: Vec<Member>,
        /// Whether the receiver should answer with its own table.
        answer: bool,
    },
    /// Are you there?
    Ping {
        /// Comes back in the pong.
        nonce: u64,
        /// Digest of the sender's `seen`.
        seen: u64,
        /// Digest of the sender's member table; 0 tells nothing.
        table: u64,
        /// Member records that changed lately.
        rumours: Vec<Member>,
    },
    /// I am.
    Pong {
        /// From the ping.
        nonce: u64,
        /// Digest of the sender's `seen`.
        seen: u64,
        /// Digest of the sender's member table; 0 tells nothing.
        table: u64,
        /// Member records that changed lately.
        rumours: Vec<Member>,
    },
    /// Entries that the sender has just written, sent at once to everyone.
    Push {
        /// In dot order.
        entries: Vec<Entry>,
    },
    /// These dots are durable at the sender.
    Durable {
        /// Which.
        dots: DotSet,
    },
    /// Send me what I lack: opens a stream towards the sender.
    Pull {
        /// Drawn by the puller; a new one ends the old stream.
        session: u64,
        /// What the puller has.
        seen: Outline,
        /// How many bytes of entries may be under way at once.
        credit: u32,
        /// Versions with stamps from this millisecond on are wanted first; 0 if it does not matter.
        since: u64,
    },
    /// Part of one step of a stream.
    Step {
        /// From the pull.
        session: u64,
        /// Which step, from a number on that the giver draws for each answer to a pull.
        step: u32,
        /// Which part of it, from 0.
        part: u16,
        /// Entries in dot order.
        entries: Vec<Entry>,
    },
    /// Ends a step of a stream.
    StepEnd {
        /// From the pull.
        session: u64,
        /// Which step.
        step: u32,
        /// How many parts it had.
        parts: u16,
        /// On the last step: everything that the sender had covered in the read transaction of this whole pass.
        cover: Option<DotSet>,
        /// Whether everything since the time that the pull names has now been sent.
        recent_in: bool,
    },
    /// This step is durable at the puller; go on.
    StepDone {
        /// From the pull.
        session: u64,
        /// Which step.
        step: u32,
    },
    /// The sender does not talk to the receiver, and why.
    Refuse {
        /// For the receiver's log.
        reason: String,
    },
    /// Which of these two versions of a key did you hold first?
    Ask {
        /// Drawn by the asker; comes back in the answer.
        poll: u64,
        /// Whose versions.
        key: Key,
        /// The winner of the order, then the loser.
        pair: [Dot; 2],
    },
    /// That one, or I cannot tell.
    Answer {
        /// From the question.
        poll: u64,
        /// One of the pair; nothing from who does not remember.
        first: Option<Dot>,
    },
    /// Opens a meeting, or tells that its number has changed.
    Meet {
        /// Which of its lives the sender is in.
        life: u64,
        /// Drawn at its start: a disk that was set back begins a life of the same number twice.
        run: u64,
        /// How often it has drawn its number in this run.
        draws: u32,
        /// The sender's number now.
        fence: u64,
        /// Digest of the ids of all members, as the sender knows them.
        roster: u64,
        /// Digest of the sender's policies.
        policies: u64,
        /// What it has covered.
        seen: Outline,
        /// The join of the cuts it ever collected at.
        collected: Outline,
        /// Whether the receiver should tell the same of itself.
        answer: bool,
    },
    /// Asks for the ranges of one of the receiver's sets that differ from these.
    AskDots {
        /// The receiver's number.
        fence: u64,
        /// Which set.
        which: Which,
        /// Digests of the asker's own set, range by range.
        digests: Vec<u64>,
        /// The first range that is wanted.
        first: u8,
    },
    /// Answers that.
    Dots {
        /// The sender's number.
        fence: u64,
        /// Which set.
        which: Which,
        /// What was asked for, as far as one message goes.
        part: Part,
    },
    /// Data. It is read only if the meeting it was sent in still stands.
    Within {
        /// The meeting's number.
        meeting: u64,
        /// What it says; never another `Within`.
        data: Box<Message>,
    },
    /// Opens a sync session: do you hold just what I hold?
    SyncOpen {
        /// Drawn by the opener.
        session: u32,
        /// The print of all that the sender holds.
        print: u64,
        /// Unless it is about everything.
        scope: Option<Box<Scope>>,
    },
    /// Just the same.
    SyncSame {
        /// From the opening.
        session: u32,
    },
    /// One turn of a session that found a difference.
    SyncFlight(Box<Flight>),
    /// What do you hold under this key?
    ReadAsk {
        /// Drawn by the asker; comes back in the answer.
        poll: u64,
        /// Which key.
        key: Key,
    },
    /// This.
    ReadTell {
        /// From the question.
        poll: u64,
        /// The versions under the key, if there are any.
        entries: Vec<Entry>,
    },
    /// Versions that the receiver was found to lack.
    Repair {
        /// Which.
        entries: Vec<Entry>,
    },
    /// What changed lately among the members, told at once to a few.
    News {
        /// Member records, the sender's own first.
        rumours: Vec<Member>,
        /// Which of the suspects the sender has itself failed to reach.
        unreached: Vec<NodeId>,
    },
    /// The sender gets no answer from a member; can the receiver reach it?
    Reach {
        /// Comes back in the answer.
        nonce: u64,
        /// Whom.
        target: NodeId,
    },
    /// The answer to that.
    Reached {
        /// From the question.
        nonce: u64,
        /// Whom.
        target: NodeId,
        /// Whether it said a word.
        answered: bool,
    },
    /// Asks for the greatest stamps collected by chunks of keys, before the sender is held against the receiver.
    AskHorizons {
        /// The receiver's number.
        fence: u64,
        /// Comes back in the answer.
        nonce: u64,
        /// Where to go on.
        after: Option<u16>,
    },
    /// Answers that.
    Horizons {
        /// From the question.
        nonce: u64,
        /// Chunks in order.
        chunks: Vec<(u16, Stamp)>,
        /// Whether these are the last.
        is_last: bool,
    },
    /// Asks what becomes of versions that the sender holds, which is behind the receiver.
    AskHeld {
        /// The receiver's number.
        fence: u64,
        /// Comes back in the answer.
        nonce: u64,
        /// Which.
        held: Vec<Held>,
    },
    /// Answers that.
    Judged {
        /// From the question.
        nonce: u64,
        /// As many, in the same order.
        fates: Vec<Fate>,
    },
}

/// What a sync session is about.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Scope {
    /// Keys that begin with this.
    pub prefix: Bytes,
    /// Only count what differs.
    pub dry_run: bool,
}

impl Message {
    /// Whether this may be said only within a meeting.
    pub fn needs_meeting(&self) -> bool {
        match self {
            Message::Push { .. }
            | Message::Durable { .. }
            | Message::Pull { .. }
            | Message::Step { .. }
            | Message::StepEnd { .. }
            | Message::StepDone { .. }
            | Message::SyncOpen { .. }
            | Message::SyncSame { .. }
            | Message::SyncFlight(_)
            | Message::ReadAsk { .. }
            | Message::ReadTell { .. }
            | Message::Repair { .. } => true,
            Message::Table { .. }
            | Message::Ping { .. }
            | Message::Pong { .. }
            | Message::Refuse { .. }
            | Message::Ask { .. }
            | Message::Answer { .. }
            | Message::Meet { .. }
            | Message::AskDots { .. }
            | Message::Dots { .. }
            | Message::News { .. }
            | Message::Reach { .. }
            | Message::Reached { .. }
            | Message::Within { .. }
            | Message::AskHorizons { .. }
            | Message::Horizons { .. }
            | Message::AskHeld { .. }
            | Message::Judged { .. } => false,
        }
    }
}

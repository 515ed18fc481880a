//! What clients ask of a node and what it answers, free of HTTP.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::dots::DotSet;
use super::key::Key;
use super::member::{Address, Member, Mode, NodeId};
use super::time::WallTime;
use super::timing::Timing;
use super::version::{Entry, Stamp, Version, VersionId};

/// Names one request of one node run: the life keeps late confirmations from answering another run's request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// On how many nodes a write must be durable before it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ack {
    /// On the node that took it.
    #[default]
    Local,
    /// On this many nodes, the one that took it included.
    Nodes(u16),
    /// On more than half of the members that are alive, suspect or down.
    Majority,
}

/// What must hold at the serving node for a write to happen (`If-Match`, `If-None-Match`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// The key has a live value.
    Exists,
    /// The key has no live value.
    Absent,
    /// One of these is the tag of what a read shows: a version's uuid, or that of a set of siblings.
    Matches(Vec<uuid::Uuid>),
    /// None of these is the tag of what a read shows.
    Differs(Vec<uuid::Uuid>),
    /// Nothing; but the client has seen what this token says, and under policy `siblings` the write replaces that and
    /// nothing else.
    Saw(Token),
}

/// What a read told its client of a key: it comes back with the client's next write to that key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Token {
    /// Every version that the node held, and all that they replaced.
    pub context: DotSet,
    /// The latest stamp of the row.
    pub stamp: Stamp,
}

/// What a client, or an operator, can ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Write a value.
    Put {
        /// Where.
        key: Key,
        /// The bytes.
        value: Bytes,
        /// Their media type.
        content_type: String,
        /// Until when reads show it, counted from the write's stamp.
        ttl: Option<Duration>,
        /// Only if this holds here.
        condition: Condition,
        /// How durable before the answer.
        ack: Ack,
        /// How long to wait for `ack`.
        timeout: Duration,
    },
    /// Write bytes from an offset on; only under policy `history`.
    Patch {
        /// Where.
        key: Key,
        /// In bytes.
        offset: u64,
        /// The bytes.
        value: Bytes,
        /// Their media type, if nothing lies under the key.
        content_type: String,
        /// Only if this holds here.
        condition: Condition,
        /// How durable before the answer.
        ack: Ack,
        /// How long to wait for `ack`.
        timeout: Duration,
    },
    /// Write a tombstone.
    Delete {
        /// Where.
        key: Key,
        /// Only if this holds here.
        condition: Condition,
        /// How durable before the answer.
        ack: Ack,
        /// How long to wait for `ack`.
        timeout: Duration,
    },
    /// Read one key through the turn. (The API reads from durable snapshots beside the loop.)
    Get {
        /// Where.
        key: Key,
    },
    /// Ask several nodes, answer with the winner, and repair every stale copy.
    Read {
        /// Where.
        key: Key,
        /// How many nodes have to answer, this one included.
        asked: Ack,
        /// How long to wait for them.
        timeout: Duration,
    },
    /// The member table.
    Members,
    /// The node about itself.
    Status,
    /// Join the cluster that this address belongs to.
    Join {
        /// Any member of it.
        address: Address,
    },
    /// Say goodbye to the cluster once another member holds what this node holds; the node then ends.
    Leave {
        /// Even if nobody is known to.
        force: bool,
    },
    /// Forget a member that will not come back.
    Remove {
        /// Which.
        id: NodeId,
        /// Even if it seems to live.
        force: bool,
    },
    /// Stop taking writes; part of a graceful stop.
    Drain,
    /// Be [`Mode::Normal`] or [`Mode::ReadOnly`] from now on, until the next start.
    SetMode {
        /// Which of the two.
        mode: Mode,
    },
    /// Take other timers from now on; what is under way ends by the old ones.
    Retime {
        /// All of them.
        timing: Box<Timing>,
    },
    /// Compare with a peer now, and repair what differs.
    Sync {
        /// With whom.
        peer: NodeId,
        /// Only keys that begin with this.
        prefix: Bytes,
        /// Only count.
        dry_run: bool,
    },
    /// How this node decided between versions of a key that met here.
    Explain {
        /// Which key.
        key: Key,
    },
    /// Take versions as they were written, here or elsewhere, as if a peer had sent them.
    Import {
        /// Which.
        entries: Vec<Entry>,
    },
}

/// Two versions of a key met, and one stayed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// It stayed; its value is left out.
    pub winner: Version,
    /// It went; its value is left out.
    pub loser: Version,
    /// The first thing in the order of versions in which they differ.
    pub rule: &'static str,
}

/// What became of versions that were imported.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Imported {
    /// These are their keys' versions now.
    pub taken: u64,
    /// Other versions of their keys beat these.
    pub beaten: u64,
    /// This node had covered these before. What has been replaced or collected since does not come back.
    pub known: u64,
    /// No node can have written these.
    pub malformed: u64,
}

/// What the node answers. Exactly one per request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The write is durable on `acked` nodes, as many as were asked for.
    Written {
        /// The version that was written.
        id: VersionId,
        /// On how many nodes it is known to be durable.
        acked: u16,
    },
    /// The key's version: a live value, or `None` for anything a client may not see.
    Value(Option<Version>),
    /// A key of policy `siblings`: its live values, and what the reader now knows.
    Siblings {
        /// As their clients wrote them, in dot order; none for anything a client may not see.
        live: Vec<Version>,
        /// For the next write.
        token: Token,
    },
    /// The member table, self included, ordered by id.
    Members(Vec<MemberView>),
    /// The node about itself.
    Status(Box<Status>),
    /// What became of an import.
    Imported(Imported),
    /// What is remembered of a key's decisions, the latest first.
    Explained(Vec<Decision>),
    /// A comparison is over.
    Synced(SyncReport),
    /// Done; nothing to tell.
    Done,
    /// Not done, or done with less than was asked for.
    Refused(Refusal),
}

/// Why a request was not carried out as asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The node takes no writes in this mode. Nothing was stored.
    #[error("this node is {0:?} and takes no writes")]
    Mode(Mode),
    /// There is no room on the node's disk. Nothing was stored.
    #[error("the disk is full: this node takes no writes until there is room")]
    DiskFull,
    /// `If-Match` or `If-None-Match` did not hold. Nothing was stored.
    #[error("the condition does not hold on this node")]
    Condition {
        /// The live version at this node, if there is one.
        found: Option<VersionId>,
    },
    /// More nodes were asked for than there are members. Nothing was stored.
    #[error("ack={asked} is more than the {members} members of the cluster")]
    AckAboveMembers {
        /// What was asked.
        asked: u16,
        /// Members alive, suspect or down, self included.
        members: u16,
    },
    /// Stored here, but the confirmations did not come in time. Safe to retry.
    #[error("stored here, but on {acked} of {asked} nodes within the timeout")]
    AckTimeout {
        /// The version that was written.
        id: VersionId,
        /// Confirmed in time, self included.
        acked: u16,
        /// What was asked.
        asked: u16,
    },
    /// Not enough nodes answered a read in time. Safe to retry.
    #[error("{answered} of {asked} nodes answered within the timeout")]
    ReadTimeout {
        /// Answered in time, self included.
        answered: u16,
        /// What was asked.
        asked: u16,
    },
    /// The row's bytes on disk fail their checksum. Nothing was stored.
    #[error("the stored record fails its checksum")]
    Corrupt,
    /// Too many writes wait for confirmations. Nothing was stored.
    #[error("{limit} writes already wait for confirmations")]
    TooManyPending {
        /// The bound.
        limit: usize,
    },
    /// Under policy `history` with strategy `fail`: the history forks, and somebody has to choose. A write that
    /// replaces the whole value, under the condition that names all heads, closes the fork.
    #[error("the history has {} heads; a full write whose If-Match names all of them resolves it", heads.len())]
    Heads {
        /// The older author's first.
        heads: Vec<VersionId>,
    },
    /// The key's history is as long as it may be. Nothing was stored.
    #[error("the history is full: {what}, the limit is {limit}")]
    HistoryFull {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// Under policy `siblings`: the key has as many live values as it may, and the write would add one. Nothing
    /// was stored.
    #[error("the key has {limit} concurrent values, the most it may have; read it and write with its token")]
    TooManySiblings {
        /// The bound.
        limit: usize,
    },
    /// The key's policy knows no such thing. Nothing was stored.
    #[error("{0}")]
    Policy(&'static str),
    /// So many starts have written that no further origin may begin. Nothing was stored.
    #[error("{limit} runs of nodes have written already, and no further one may begin to")]
    TooManyOrigins {
        /// The bound.
        limit: usize,
    },
    /// No such member, or not one that can be removed.
    #[error("{0}")]
    Member(String),
}

/// One row of the member table as shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberView {
    /// The record that members exchange.
    pub member: Member,
    /// When this node last heard of it by its own clock; for itself, now.
    pub last_seen: WallTime,
}

/// A node about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Its own member record.
    pub me: Member,
    /// Whether its disk was full when it last wrote: then it takes nothing until a trial succeeds.
    pub disk_full: bool,
    /// Members alive, suspect or down, self included.
    pub member_count: usize,
    /// Members alive, self included.
    pub alive_count: usize,
    /// Origins in `seen`.
    pub origins: usize,
    /// Dots in `seen`.
    pub dots_seen: u64,
    /// Digest of `seen`; equal digests mean equal sets.
    pub seen_hash: u64,
    /// The hybrid clock's durable high-water mark.
    pub high_water: Stamp,
    /// The first of the keys whose record fails its checksum and was set apart.
    pub quarantined: Vec<Key>,
    /// The first of the keys of which a version came back too old to be told from deleted data and was set aside.
    pub set_aside: Vec<Key>,
    /// One row per peer.
    pub peers: Vec<PeerStatus>,
    /// Everything counted since the start, by name.
    pub counters: Vec<(&'static str, u64)>,
}

/// What a sync session did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SyncReport {
    /// How it ended: `equal`, `repaired`, or why it broke off.
    pub ended: &'static str,
    /// Rows that the peer was found to lack, or to have in another version.
    pub ahead: u64,
    /// Rows that this node was found to lack, or to have in another version.
    pub behind: u64,
    /// Entries sent.
    pub sent: u64,
    /// Entries taken that won over what was here.
    pub took: u64,
    /// Bytes of statements and entries, both ways.
    pub bytes: u64,
    /// Flights, both ways.
    pub flights: u32,
}

/// Replication with one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// Which.
    pub id: NodeId,
    /// The state of the stream that this node takes from it, in the field's words.
    pub stream: &'static str,
    /// Whether the last digest heard from it equals our own.
    pub in_step: bool,
    /// That digest: what it had covered.
    pub seen_hash: Option<u64>,
    /// How many of the versions that this node has covered it is not known to have.
    pub lag: u64,
    /// How many versions it is known to have covered and this node has not.
    pub behind: u64,
    /// For how many milliseconds it has not been known to hold just what this node holds.
    pub divergent_ms: u64,
    /// Whether a sync session is under way.
    pub in_session: bool,
    /// How many milliseconds ago the last one ended, and how.
    pub last_session: Option<(u64, SyncReport)>,
}

//! What shall happen in a run: the cluster, its surroundings, a timeline and the story's own checks.
//!
//! [`parse`] reads the YAML that people write; [`write`] writes it back. A scenario with its seed is complete:
//! running it again gives the same run.

pub mod fields;
pub mod figures;
pub mod help;
pub mod line;
pub mod parse;
pub mod points;
pub mod schema;
pub mod stage;
pub mod tree;
pub mod verbs;
pub mod write;

use std::ops::RangeInclusive;
use std::time::Duration;

use reknit::model::Policies;
use reknit::node::quirks::Quirk;
use reknit::node::settings::CollisionRule;

pub use points::Point;

/// A story, as parsed or as drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// File stem, or `life` for one drawn from a seed.
    pub name: String,
    /// What it is about, in sentences.
    pub about: String,
    /// The seed that it was drawn from or last failed with; the command line overrides it.
    pub seed: Option<u64>,
    /// Nodes that start at 0 s, 100 ms apart, in this order.
    pub nodes: Vec<String>,
    /// Nodes that only start with a `join`.
    pub later: Vec<String>,
    /// The node's own configuration keys, as in its YAML file.
    pub config: NodeConfig,
    /// The network at the start.
    pub network: Network,
    /// What every node's wall clock is like.
    pub clocks: Clocks,
    /// What every node's disk is like.
    pub disks: Disks,
    /// Background load that is made into explicit steps by `plan::materialise` before the run.
    pub workload: Option<Workload>,
    /// What happens, in time order.
    pub timeline: Vec<Timed>,
    /// The story's own checks, after the quiet phase.
    pub check: Vec<Expectation>,
}

/// The keys of `cluster.config` that the simulator hands to its nodes; `None` leaves the simulator's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeConfig {
    /// `probe_interval`
    pub probe_interval: Option<Duration>,
    /// `suspect_timeout`
    pub suspect_timeout: Option<Duration>,
    /// `forget_after`
    pub forget_after: Option<Duration>,
    /// `gossip_interval_min` (`gossip_interval` sets both)
    pub gossip_interval_min: Option<Duration>,
    /// `gossip_interval_max`
    pub gossip_interval_max: Option<Duration>,
    /// `sync_interval`
    pub sync_interval: Option<Duration>,
    /// `catchup_interval`
    pub catchup_interval: Option<Duration>,
    /// `max_clock_drift`
    pub max_clock_drift: Option<Duration>,
    /// `policies`: `log/=history:fail h/=history:prefer-local`
    pub policies: Policies,
    /// `collision`
    pub collision: Option<CollisionRule>,
    /// `stream_credit`: bytes of entries that may be under way on one stream, so that small ones need many steps.
    pub stream_credit: Option<u32>,
    /// `quirks`: `hold-push drop-pull`: what the nodes do in a quarter of the cases, as long as there are faults.
    pub quirks: Vec<Quirk>,
    /// `tombstone_grace`: how long a tombstone is kept once every member has covered it.
    pub tombstone_grace: Option<Duration>,
    /// `bootstrap_window`: what an empty node takes first is younger than this.
    pub bootstrap_window: Option<Duration>,
}

/// A figure drawn anew each time it is needed, or once per seed.
#[derive(Clone, Debug, PartialEq)]
pub enum Draw<T> {
    /// `1ms..20ms`: uniform, drawn per message, persist or whatever it is for; a plain value is an empty range.
    Each(RangeInclusive<T>),
    /// `any of 0ms..500ms`: uniform, drawn once per seed (and per node, where it is a node's).
    Once(RangeInclusive<T>),
}

/// Links between nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// One-way delay.
    pub delay: Draw<Duration>,
    /// Share of messages that never arrive, 0 to 1.
    pub loss: f64,
    /// Share of messages that arrive a second time.
    pub duplicate: f64,
    /// Share of messages with flipped bits.
    pub corrupt: f64,
    /// Share of messages that are delayed by 1 s to 20 s.
    pub tail: f64,
    /// How many messages of one link are lost in a row, on average, once one is.
    pub burst: u32,
    /// Bytes per second of each direction of each link; `None` is no limit.
    pub bandwidth: Option<u64>,
}

/// Wall clocks: one figure for all, then per node.
#[derive(Clone, Debug, PartialEq)]
pub struct Clocks {
    /// What nodes not named below have.
    pub all: ClockModel,
    /// What these nodes have.
    pub nodes: Vec<(String, ClockModel)>,
}

/// One wall clock. Milliseconds, signed, ahead of true time.
#[derive(Clone, Debug, PartialEq)]
pub struct ClockModel {
    /// Constant offset in milliseconds.
    pub skew: Draw<i64>,
    /// Readings are rounded down to a multiple of this.
    pub granularity: Duration,
    /// Parts per million that it runs fast.
    pub drift_ppm: i64,
}

/// Disks.
#[derive(Clone, Debug, PartialEq)]
pub struct Disks {
    /// How long a persist takes.
    pub persist: Draw<Duration>,
    /// What a crash does to writes that were not persisted.
    pub on_crash: OnCrash,
    /// Share of persists that take 0.1 s to 2 s longer.
    pub spikes: f64,
}

/// What a crash does to writes that were not persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCrash {
    /// `lose unpersisted`: none of them is there.
    LoseUnpersisted,
    /// `tear unpersisted`: any subset of their sectors is there (full world; the fast one loses them all).
    TearUnpersisted,
}

/// Background load.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// How many clients; each picks a node per operation.
    pub clients: u32,
    /// How many keys, under `w/`.
    pub keys: u32,
    /// Operations per second, of all clients together.
    pub rate: f64,
    /// Weights of put, get and delete.
    pub mix: Mix,
}

/// Weights of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Writes.
    pub put: u32,
    /// Reads.
    pub get: u32,
    /// Deletes.
    pub delete: u32,
}

/// A step and when it happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// Virtual time since the start.
    pub at: Duration,
    /// What happens.
    pub step: Step,
}

/// One thing that happens. Node names are checked by the parser.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// `put N KEY VALUE [ack=2] [ttl=10s] [expect 503]`
    Put {
        /// At which node.
        node: String,
        /// Key as parsed (percent-decoded).
        key: Vec<u8>,
        /// Value bytes.
        value: String,
        /// Options.
        options: WriteOptions,
    },
    /// `delete N KEY [options]`
    Delete {
        /// At which node.
        node: String,
        /// Key as parsed.
        key: Vec<u8>,
        /// Options.
        options: WriteOptions,
    },
    /// A read of the workload: no expectation but the standing checks. Written `get N KEY [read=2|read=majority]`.
    Get {
        /// At which node.
        node: String,
        /// Key as parsed.
        key: Vec<u8>,
        /// How many nodes are asked, and mended where they are behind.
        asked: reknit::model::Ack,
    },
    /// `expect get N KEY is VALUE` and the like, judged at that moment.
    Expect(Expectation),
    /// `crash N`: power loss. `at` says where in its turn; written `crash N [before-persist|after-persist|mid-send]`.
    Crash {
        /// Which node.
        node: String,
        /// Where in its turn.
        boundary: Boundary,
    },
    /// `restart N`: power on.
    Restart(String),
    /// `pause N`: stops, memory kept.
    Pause(String),
    /// `resume N`
    Resume(String),
    /// `wipe N`: its disk is empty; N is powered off.
    Wipe(String),
    /// `backup N`: its durable disk is copied aside.
    Backup(String),
    /// `restore N`: its disk is the last backup again; N is powered off.
    Restore(String),
    /// `clone A N`: A's disk is copied to N, which is powered off and keeps its own id and address.
    Clone {
        /// From.
        from: String,
        /// To.
        to: String,
    },
    /// `join N`: starts a node of `cluster.later`, or one that left.
    Join(String),
    /// `leave N`: graceful; ends the process.
    Leave(String),
    /// `remove N`: asks any live node to forget N.
    Remove(String),
    /// `partition a b | c d`: replaces the previous partition; every node is on one side.
    Partition(Vec<Vec<String>>),
    /// `isolate N`: cuts N from everyone, both ways.
    Isolate(String),
    /// `cut a -> b`: frames from a to b are lost. Cuts add up.
    Cut {
        /// From.
        from: String,
        /// To.
        to: String,
    },
    /// `heal`: undoes partitions, isolations and cuts.
    Heal,
    /// `skew N +5s`: sets the wall clock's offset, in milliseconds.
    Skew(String, i64),
    /// `jump N -10s`: changes the wall clock's offset, in milliseconds.
    Jump(String, i64),
    /// `freeze N`: the wall clock stands still.
    Freeze(String),
    /// `thaw N`: the wall clock runs again, from where true time is plus its offset.
    Thaw(String),
    /// `set loss 20%`
    SetLoss(f64),
    /// `set duplicate 5%`
    SetDuplicate(f64),
    /// `set delay 5ms..1s`
    SetDelay(Draw<Duration>),
    /// `set bandwidth 64000` (bytes per second of each link), `set bandwidth unlimited`
    SetBandwidth(Option<u64>),
    /// `clog N`: what N sends or is sent from now on is held up, and all of it arrives at the `unclog`.
    Clog(String),
    /// `unclog N`
    Unclog(String),
    /// `slow N x20`: every turn and every persist of N takes so many times as long; `x1` ends it.
    Slow(String, u32),
    /// `rot N [KEY]`: some bits of a record on N's disk flip; without a key the record is drawn.
    Rot(String, Option<Vec<u8>>),
    /// `isolate N on POINT`: cuts N from everyone at the moment in which it next says such a thing.
    IsolateOn(String, Point),
    /// `configure N sync_interval 10s`: from its next start on.
    Configure(String, Setting),
    /// `stop workload`: the background load ends here.
    StopWorkload,
}

/// Where in a node's turn the power fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Boundary {
    /// Between two turns.
    #[default]
    BetweenTurns,
    /// In the next turn that writes: after its changes were applied, before they were persisted.
    BeforePersist,
    /// In the next turn that writes: after they were persisted, before anything was sent.
    AfterPersist,
    /// In the next turn that sends: after about half of its outputs.
    MidSend,
    /// In the next turn that says such a thing: right after it.
    On(Point),
    /// The next sync reports an error and does nothing; the process ends.
    IoError,
    /// The next write finds the disk full; the process ends.
    DiskFull,
}

/// One of a node's timers, by the name of its key in the configuration, and what it is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// One of [`Setting::NAMES`].
    pub name: &'static str,
    /// What it is set to.
    pub value: Duration,
}

impl Setting {
    /// What can be changed while a cluster lives: timers, which each node may have as it likes.
    pub const NAMES: [&'static str; 6] = [
        "probe_interval",
        "suspect_timeout",
        "gossip_interval_min",
        "gossip_interval_max",
        "sync_interval",
        "catchup_interval",
    ];
}

/// What a writing client asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteOptions {
    /// `ack=2`, `ack=majority`; nothing is `local`.
    pub ack: reknit::model::Ack,
    /// `ttl=10s`
    pub ttl: Option<Duration>,
    /// `offset=4`: where the bytes go, under policy `history`.
    pub offset: Option<u64>,
    /// `saw=last`: with the token of the last read of this key, under policy `siblings`.
    pub saw: bool,
    /// `expect 503`: the HTTP status that this write must be answered with.
    pub expect: Option<u16>,
}

/// `get c k/125 is found`, `get everywhere color is red`, `count everywhere k/ is 149`,
/// `replicas agree within 30s`.
#[derive(Clone, Debug, PartialEq)]
pub enum Expectation {
    /// `replicas agree within 30s`, counted from the end of the timeline with faults off.
    Agree {
        /// The bound.
        within: Duration,
    },
    /// `get WHERE KEY is WHAT`
    Get {
        /// Where.
        place: Place,
        /// Key as parsed.
        key: Vec<u8>,
        /// What it must be.
        is: Found,
    },
    /// `count WHERE PREFIX is N`: live keys that begin with the prefix.
    Count {
        /// Where.
        place: Place,
        /// Prefix as parsed.
        prefix: Vec<u8>,
        /// How many.
        is: usize,
    },
}

/// At which nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// One node.
    Node(String),
    /// Every node that runs at that time.
    Everywhere,
}

/// What a read must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This value.
    Value(String),
    /// Any live value.
    Found,
    /// No live value.
    Absent,
    /// Concurrent values, this many (for policy `siblings`, which is not built yet: always fails).
    Siblings(usize),
}

impl Scenario {
    /// A quiet cluster of these nodes on a good network, with nothing to do: the parser's and the plan's base.
    pub fn quiet(name: &str, nodes: Vec<String>) -> Scenario {
        Scenario {
            name: name.to_owned(),
            about: String::new(),
            seed: None,
            nodes,
            later: Vec::new(),
            config: NodeConfig::default(),
            network: Network {
                delay: Draw::Each(Duration::from_millis(1)..=Duration::from_millis(5)),
                loss: 0.0,
                duplicate: 0.0,
                corrupt: 0.0,
                tail: 0.0,
                burst: 1,
                bandwidth: None,
            },
            clocks: Clocks {
                all: ClockModel {
                    skew: Draw::Each(0..=0),
                    granularity: Duration::from_millis(1),
                    drift_ppm: 0,
                },
                nodes: Vec::new(),
            },
            disks: Disks {
                persist: Draw::Each(Duration::from_millis(1)..=Duration::from_millis(5)),
                on_crash: OnCrash::LoseUnpersisted,
                spikes: 0.0,
            },
            workload: None,
            timeline: Vec::new(),
            check: Vec::new(),
        }
    }

    /// When the last step happens.
    pub fn end(&self) -> Duration {
        self.timeline.last().map_or(Duration::ZERO, |timed| timed.at)
    }

    /// Every node that the story may ever start.
    pub fn all_nodes(&self) -> impl Iterator<Item = &String> {
        self.nodes.iter().chain(&self.later)
    }
}

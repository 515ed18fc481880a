//! The fields of a scenario file: one table for the parser's errors and the manual.

/// One field.
pub struct Field {
    /// The mapping that it stands in, `""` for the file itself.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// A value that it can have.
    pub example: &'static str,
    /// What holds without it.
    pub default: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

const fn field(
    section: &'static str,
    name: &'static str,
    example: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Field {
    Field { section, name, example, default, meaning }
}

/// Every field, in the order of the manual.
pub const FIELDS: &[Field] = &[
    field("", "about", "what must hold", "nothing", "what the story is about, in sentences"),
    field("", "name", "my-story", "the file's name", "what its runs are called"),
    field("", "seed", "7", "1", "the seed that it was drawn from; `seed=` on the command line overrides it"),
    field("", "cluster", "{ nodes: a b c }", "required", "the nodes"),
    field("", "network", "{ loss: 1% }", "a good network", "the links between nodes at the start"),
    field(
        "",
        "clocks",
        "{ skew: +5s }",
        "true time",
        "the wall clocks; a node's name gives it figures of its own",
    ),
    field("", "disks", "{ persist: 1ms }", "good disks", "the disks"),
    field("", "workload", "{ rate: 20/s }", "none", "background load on keys of its own, `w/1`, `w/2`, …"),
    field(
        "",
        "timeline",
        "[ 1s heal ]",
        "nothing",
        "the steps, in time order; equal times run in file order",
    ),
    field(
        "",
        "check",
        "[ get a k is absent ]",
        "nothing",
        "this story's own checks; the standing ones always run",
    ),
    field(
        "cluster",
        "nodes",
        "a b c",
        "required",
        "started at 0 s in this order, 100 ms apart: the first is the oldest author",
    ),
    field("cluster", "later", "d e", "none", "nodes that start when they `join`"),
    field(
        "cluster",
        "config",
        "{ sync_interval: 2s }",
        "the simulator's",
        "the node's own configuration keys",
    ),
    field("config", "probe_interval", "200ms", "200ms", "between two probes"),
    field("config", "suspect_timeout", "1s", "1s", "how long a suspect has to answer"),
    field(
        "config",
        "forget_after",
        "30s",
        "30 days",
        "how long a member is down before a majority forgets it",
    ),
    field("config", "gossip_interval", "2s", "1s to 2s", "sets the two below"),
    field(
        "config",
        "gossip_interval_min",
        "1s",
        "1s",
        "shortest time between two exchanges of the member table",
    ),
    field(
        "config",
        "gossip_interval_max",
        "2s",
        "2s",
        "longest time between two exchanges of the member table",
    ),
    field("config", "sync_interval", "2s", "2s", "between two checks of the summary with a random peer"),
    field("config", "catchup_interval", "1s", "1s", "between two checks with a peer that is ahead"),
    field("config", "max_clock_drift", "60s", "60s", "how far ahead a stamp may be and still move the clock"),
    field(
        "config",
        "policies",
        "log/=history:fail",
        "lww everywhere",
        "how versions are resolved, by prefix: PREFIX=POLICY[:STRATEGY], several with spaces between",
    ),
    field("config", "collision", "oldest", "majority", "who decides between two values with equal stamps"),
    field(
        "config",
        "stream_credit",
        "2048",
        "1048576",
        "bytes of entries under way on one stream; few of them make many steps",
    ),
    field(
        "config",
        "quirks",
        "hold-push drop-pull",
        "none",
        "what nodes may do and rarely do, done in a quarter of the cases while there are faults: `hold-push` (own \
         writes wait for a later turn), `drop-pull`, `drop-step-done` (a request that a peer is too busy for), \
         `compare-always` (a comparison of equal stores)",
    ),
    field(
        "config",
        "tombstone_grace",
        "30s",
        "the node's",
        "how long a tombstone is kept once every member has covered it",
    ),
    field(
        "config",
        "bootstrap_window",
        "10s",
        "30 days",
        "what an empty node takes first is younger than this; then it takes the rest",
    ),
    field("network", "delay", "1ms..20ms", "1ms..5ms", "one-way delay of a message"),
    field("network", "loss", "1%", "0%", "share of messages that never arrive"),
    field("network", "duplicate", "0.5%", "0%", "share of messages that arrive a second time"),
    field("network", "corrupt", "0.01%", "0%", "share of messages with flipped bits"),
    field("network", "tail", "1%", "0%", "share of messages that take 1 s to 20 s longer"),
    field(
        "network",
        "burst",
        "5",
        "1",
        "how many messages of a link are lost in a row, on average, once one is",
    ),
    field(
        "network",
        "bandwidth",
        "64000",
        "unlimited",
        "bytes per second of each direction of each link; half a second of it can wait",
    ),
    field(
        "clocks",
        "skew",
        "any of 0ms..500ms",
        "0s",
        "how far ahead of true time; `any of` is drawn per node",
    ),
    field("clocks", "granularity", "1ms", "1ms", "readings are rounded down to a multiple of it"),
    field("clocks", "drift", "200ppm", "0ppm", "how much too fast it runs, in millionths"),
    field("disks", "persist", "1ms..5ms", "1ms..5ms", "how long a persist takes"),
    field(
        "disks",
        "on_crash",
        "lose unpersisted",
        "lose unpersisted",
        "what a crash does to writes that were not persisted; or `tear unpersisted`",
    ),
    field("disks", "spikes", "1%", "0%", "share of persists that take 0.1 s to 2 s longer"),
    field("workload", "clients", "2", "1", "how many clients; each picks a node per operation"),
    field("workload", "keys", "50", "10", "how many keys"),
    field("workload", "rate", "20/s", "10/s", "operations of all clients together, at random times"),
    field(
        "workload",
        "mix",
        "put 6 get 3 delete 1",
        "put 6 get 3 delete 1",
        "weights of the operations; what is not named has none",
    ),
];

/// The names of a section's fields.
pub fn names_of(section: &str) -> impl Iterator<Item = &'static str> {
    FIELDS.iter().filter(move |field| field.section == section).map(|field| field.name)
}

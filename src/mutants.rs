//! Known bugs, re-created on purpose so that the simulator can prove that it would find them.
//!
//! Without the feature `mutants` every question here is answered `false` at compile time. `just mutants` hunts them
//! all; docs/mutants.md is what it found.

/// How many lives may pass before the simulator must have found a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Easy: 10.
    Easy,
    /// Middling: 100.
    Middling,
    /// Hard: 2,000.
    Hard,
}

impl Class {
    /// Most seeds until it must be found.
    pub fn seeds_max(self) -> u64 {
        match self {
            Class::Easy => 10,
            Class::Middling => 100,
            Class::Hard => 2_000,
        }
    }
}

/// Where a bug must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hunted {
    /// In lives drawn from a seed.
    Lives,
    /// In the stories of large clusters of member tables, with default timers and in moments that no life waits for.
    Tables,
}

/// A bug that can be switched on.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its name, as the code asks for it.
    pub id: &'static str,
    /// How hard it may be to find.
    pub class: Class,
    /// Where it is looked for.
    pub hunted: Hunted,
    /// What it does.
    pub what: &'static str,
}

const fn easy(id: &'static str, what: &'static str) -> Mutant {
    Mutant { id, class: Class::Easy, hunted: Hunted::Lives, what }
}

const fn middling(id: &'static str, what: &'static str) -> Mutant {
    Mutant { id, class: Class::Middling, hunted: Hunted::Lives, what }
}

const fn hard(id: &'static str, what: &'static str) -> Mutant {
    Mutant { id, class: Class::Hard, hunted: Hunted::Lives, what }
}

/// A bug of the member tables.
const fn tables(class: Class, id: &'static str, what: &'static str) -> Mutant {
    Mutant { id, class, hunted: Hunted::Tables, what }
}

/// The bugs that can be switched on.
pub const ALL: &[Mutant] = &[
    easy("no-persist", "flush hands its outputs over without persisting"),
    easy("no-pull", "a node never asks a peer for what it missed"),
    easy("tie-incoming", "of two versions with equal stamps the one that arrives wins"),
    easy("tie-keeps", "of two values with equal stamps each node keeps the one it has"),
    middling("tie-by-view", "the author's age counts the other way round while a member is not alive"),
    easy("tie-delete", "of a value and a delete with equal stamps the one that arrives wins"),
    easy("delete-removes", "a delete removes the row instead of writing a tombstone"),
    easy("delete-early", "a delete is stamped by the wall clock alone"),
    easy("stamp-wall", "a write is stamped by the wall clock alone"),
    easy("clock-unseen", "applied stamps do not raise the hybrid clock"),
    middling("clock-forgets", "the hybrid clock begins anew at each start"),
    middling("clock-trusts", "a stamp raises the hybrid clock however far ahead it is"),
    easy("dot-reuse", "an origin continues over a restart from what the disk has"),
    middling(
        "origin-fixed",
        "an origin is made from the node's name, so a lost disk issues its numbers again",
    ),
    easy("cover-early", "a stream covers what it has not sent yet"),
    easy("push-jumps", "a push counts as everything that its origin wrote before"),
    easy("step-overwrites", "what a stream brings replaces what is there, later or not"),
    easy("absence-deletes", "what a peer that pulls lacks is removed here"),
    middling("tombstone-unlogged", "a tombstone has no row in the log that streams read"),
    middling("stream-skips", "a stream begins one dot late"),
    middling("digest-stale", "a merge does not touch the digest that peers compare"),
    middling("digest-own", "the digest that peers compare has something of the node's own in it"),
    easy("index-leak", "a replaced version keeps its row in the log"),
    easy("wire-drops", "decoding loses when the author of a version joined"),
    easy("checksum-off", "frames are not checked for damage"),
    easy("ttl-rearmed", "a deadline counts from the arrival of its version"),
    middling("rot-is-absence", "a record that fails its checksum counts as absent"),
    easy("gives-up", "a stream that failed once is never tried again"),
    middling("never-refutes", "a node does not contradict those who believe it down"),
    hard("leave-echoes", "a goodbye counts whichever life of the member said it"),
    middling("pong-pongs", "an answer to a probe is answered again"),
    middling("down-unprobed", "a member that is down is not probed any more"),
    easy("ack-counts-messages", "an acknowledgement counts each time it arrives"),
    easy("vote-on-rulings", "a ruling collides with what it has beaten, and is voted on again"),
    middling(
        "history-mixes-generations",
        "a patch of a deleted generation takes effect on the one that follows",
    ),
    easy(
        "tie-by-peer",
        "of two values with equal stamps the older of this node and the serving peer is right",
    ),
    easy("siblings-last-only", "a merge of siblings keeps the greatest of them alone"),
    middling(
        "token-overreaches",
        "a write with a token replaces all that its node holds, seen by the client or not",
    ),
    middling("context-open", "a token names the values it shows and not what they replaced"),
    hard("token-marks-seen", "what a token names counts as seen by the node that takes the write"),
    easy("history-last-only", "merging a transaction replaces the history instead of joining it"),
    middling("history-names-view", "a write is made on top of one head alone, so that forks never close"),
    easy(
        "vote-in-place",
        "a ruling is the confirmed version with another number of votes, not a version of its own",
    ),
    hard(
        "no-fence",
        "data passes whatever the two sides have covered and collected, and old frames are read",
    ),
    hard("no-epoch", "a collection does not end the meetings there are"),
    middling("grace-only", "tombstones are collected when they are old, whoever has covered them"),
    hard("collect-now", "tombstones are collected without any grace"),
    hard(
        "stands-on-named",
        "a full write stands on the parents that it names and not on all that it tells as its past",
    ),
    hard("truncate-once", "a history is truncated as soon as all have covered its checkpoint"),
    hard("push-from-memory", "a write that waits for confirmations is pushed again although it was replaced"),
    hard("cut-reachable", "the stable cut asks the members that can be reached only"),
    hard("no-horizon", "nobody remembers the greatest stamp of what was collected"),
    hard("no-rebase", "a node that is behind is never held against others"),
    hard("no-aside", "what returns is merged, however old"),
    middling("stale-summary", "range summaries do not follow a record that is replaced"),
    hard("bootstrap-cuts", "a node that fills an empty disk takes what was written lately for the whole"),
    hard("filling-blind", "what is missing on a node that is still being filled counts as absent everywhere"),
    middling("bootstrap-endless", "a node that takes what the others have never ends that"),
    hard("session-silent", "a sync session names the rows that differ and sends none"),
    hard("session-blind", "a node says of every store that it holds just the same"),
    middling("repair-overwrites", "a repair replaces the record whatever it is"),
    easy("older-record-wins", "of two records of a member the one that arrives last is kept"),
    tables(Class::Easy, "deaf-judge", "a suspect's time runs out although it goes on talking"),
    tables(
        Class::Easy,
        "stall-unnoticed",
        "a node that stood still takes its own silence for that of others",
    ),
    tables(
        Class::Easy,
        "suspicion-impatient",
        "a suspicion that nobody shares lasts no longer than one that many do",
    ),
    tables(Class::Easy, "no-relays", "a probe asks nobody to try in its place"),
    tables(Class::Easy, "no-news", "what changed is told with probes and whole tables only"),
    tables(Class::Easy, "tables-uncompared", "nobody compares tables, so lost rumours wait for the exchange"),
    tables(Class::Middling, "unwatched", "nobody watches one member, so some deaths are met late"),
    tables(Class::Easy, "seeds-at-boot-only", "who has joined greets none of its other seeds any more"),
    tables(Class::Easy, "newest-address-wins", "a name belongs to whoever spoke up last"),
    tables(Class::Easy, "minority-forgets", "members are forgotten by a side without a majority too"),
    tables(
        Class::Easy,
        "refuses-aloud",
        "a node that is turned away is told so in the log each time it knocks",
    ),
    hard("far-refused", "a version that is stamped further ahead than clocks may stray is not taken"),
    hard("cover-patchwork", "a pass of several steps is closed by a cover, although rows changed meanwhile"),
    hard(
        "tombstones-compared",
        "sessions compare and take tombstones that one of the two ends has collected",
    ),
    hard("stamp-below-horizon", "a write may be stamped below what was collected in its part of the keys"),
];

/// The twenty-four bugs of other stores that a simulator of such a store must find, and the mutants that are them here.
pub const MUSEUM: &[(&str, &[&str])] = &[
    ("M02", &["tie-keeps"]),
    ("M03", &["tie-by-view"]),
    ("M06", &["tie-delete"]),
    ("M07", &["stamp-wall"]),
    ("M08", &["delete-early"]),
    ("M20", &["absence-deletes", "rot-is-absence"]),
    ("M21", &["tombstone-unlogged"]),
    ("M25", &["cover-early"]),
    ("M35", &["origin-fixed"]),
    ("M36", &["dot-reuse"]),
    ("M44", &["push-jumps"]),
    ("M48", &["wire-drops"]),
    ("M50", &["step-overwrites", "repair-overwrites"]),
    ("M51", &["stale-summary"]),
    ("M52", &["digest-own"]),
    ("M58", &["index-leak"]),
    ("M65", &["never-refutes"]),
    ("M71", &["leave-echoes"]),
    ("M73", &["pong-pongs"]),
    ("M90", &["gives-up"]),
    ("M96", &["stream-skips"]),
    ("M97", &["no-persist"]),
];

#[cfg(feature = "mutants")]
static CHOSEN: std::sync::OnceLock<&'static str> = std::sync::OnceLock::new();

/// The bug of this name.
pub fn find(id: &str) -> Option<&'static Mutant> {
    ALL.iter().find(|mutant| mutant.id == id)
}

/// Switches one bug on for this process; `false` when there is no such bug, or one is on already.
#[cfg(feature = "mutants")]
pub fn choose(id: &str) -> bool {
    find(id).is_some_and(|mutant| CHOSEN.set(mutant.id).is_ok())
}

/// The bug that is switched on.
#[cfg(feature = "mutants")]
pub fn chosen() -> Option<&'static str> {
    CHOSEN.get().copied()
}

/// The bug that is switched on: none, in a build without mutants.
#[cfg(not(feature = "mutants"))]
pub fn chosen() -> Option<&'static str> {
    None
}

/// Whether this bug is switched on.
#[cfg(feature = "mutants")]
pub fn is_on(id: &str) -> bool {
    CHOSEN.get() == Some(&id)
}

/// Whether this bug is switched on: never, in a build without mutants.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub fn is_on(_id: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_mutant_has_a_name_of_its_own_and_is_asked_for_by_the_code() {
        let names: BTreeSet<&str> = ALL.iter().map(|mutant| mutant.id).collect();
        assert_eq!(names.len(), ALL.len());
        for (bug, mutants) in MUSEUM {
            assert!(mutants.iter().all(|id| names.contains(id)), "{bug}");
        }
    }
}

//! Known bugs, re-created on purpose so that the simulator can prove that it would find them.
//!
//! Without the feature `mutants` every question here is answered `false` at compile time.

/// The bugs that can be switched on: id, then what it does.
pub const ALL: &[(&str, &str)] = &[
    ("no-persist", "flush hands its outputs over without persisting"),
    ("no-pull", "a node never asks a peer for what it missed"),
    ("tie-incoming", "of two versions with equal stamps the one that arrives wins"),
    ("delete-removes", "a delete removes the row instead of writing a tombstone"),
    ("cover-early", "a stream covers what it has not sent yet"),
    ("dot-reuse", "an origin continues over a restart from what the disk has"),
    ("vote-on-rulings", "a ruling collides with what it has beaten, and is voted on again"),
    ("history-mixes-generations", "a patch of a deleted generation takes effect on the one that follows"),
    (
        "vote-in-place",
        "a ruling is the confirmed version with another number of votes, not a version of its own",
    ),
    ("no-fence", "data passes whatever the two sides have covered and collected, and old frames are read"),
    ("no-epoch", "a collection does not end the meetings there are"),
    ("grace-only", "tombstones are collected when they are old, whoever has covered them"),
    ("collect-now", "tombstones are collected without any grace"),
    ("cut-reachable", "the stable cut asks the members that can be reached only"),
    ("no-horizon", "nobody remembers the greatest stamp of what was collected"),
    ("no-rebase", "a node that is behind is never held against others"),
    ("no-aside", "what returns is merged, however old"),
    ("rot-is-absent", "a record that cannot be read counts as no record in a rebase"),
    ("clock-unseen", "applied stamps do not raise the hybrid clock"),
    ("stale-summary", "range summaries do not follow a record that is replaced"),
    ("session-silent", "a sync session names the rows that differ and sends none"),
    ("session-blind", "a node says of every store that it holds just the same"),
    ("repair-overwrites", "a repair replaces the record whatever it is"),
];

#[cfg(feature = "mutants")]
static CHOSEN: std::sync::OnceLock<&'static str> = std::sync::OnceLock::new();

/// Switches one bug on for this process; `false` when there is no such bug, or one is on already.
#[cfg(feature = "mutants")]
pub fn choose(id: &str) -> bool {
    let known = ALL.iter().find(|(known, _)| *known == id);
    known.is_some_and(|(known, _)| CHOSEN.set(known).is_ok())
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

//! Counts what a good sweep makes happen: a rare path that no seed reached proves nothing about that path.

use std::collections::BTreeMap;

use crate::check::facts::{Facts, VersionNo};

/// Writes whose stamps are this close, on two origins, were made without knowing of each other.
const RACE_MILLIS_MAX: u64 = 20;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sometimes {
    AckedPuts,
    AckedDeletes,
    AckedByMany,
    AckTimeouts,
    Refusals,
    UnknownOutcomes,
    ReadsOfValues,
    ReadsOfNothing,
    Restarts,
    DisksReplaced,
    Rots,
    Collections,
    Truncations,
    Rebases,
    SetAside,
    Pushed,
    Streamed,
    Pulls,
    Covers,
    EqualStamps,
    TiesByTombstone,
    TiesByRuling,
    TiesByAuthor,
    TiesByDot,
    DeletesMeetPuts,
    Asked,
    Rulings,
    Transactions,
    Siblings,
    WritesWithToken,
    ReadsOfSiblings,
    Flaps,
}

/// All of them, in the order of the variants.
const NAMES: [&str; 32] = [
    "acked_puts",
    "acked_deletes",
    "acked_by_many",
    "ack_timeouts",
    "refusals",
    "unknown_outcomes",
    "reads_of_values",
    "reads_of_nothing",
    "restarts",
    "disks_replaced",
    "rots",
    "collections",
    "truncations",
    "rebases",
    "set_aside",
    "entries_pushed",
    "entries_streamed",
    "pulls",
    "covers",
    "equal_stamps",
    "ties_by_tombstone",
    "ties_by_ruling",
    "ties_by_author",
    "ties_by_dot",
    "deletes_meet_puts",
    "asked_about_collisions",
    "rulings",
    "transactions",
    "siblings_added",
    "writes_with_token",
    "reads_of_siblings",
    "flaps",
];

/// The counts.
#[derive(Debug, Default)]
pub struct Tally([u64; NAMES.len()]);

impl Tally {
    /// It happened.
    pub fn add(&mut self, what: Sometimes) {
        self.add_many(what, 1);
    }

    /// It happened so often.
    pub fn add_many(&mut self, what: Sometimes, times: usize) {
        self.0[what as usize] += times as u64;
    }

    /// By name; what never happened is listed with 0.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        NAMES.into_iter().zip(self.0).collect()
    }

    /// A version is known whole from now on: counts the ties and races it has with those known before.
    pub fn met(&mut self, facts: &Facts, new: VersionNo) {
        let known = facts.version(new);
        if known.rank.ruling > 0 {
            self.add(Sometimes::Rulings);
            self.add_many(Sometimes::Flaps, usize::from(overrules(facts, new)));
        }
        for &other in &facts.key(known.key).versions {
            let older = facts.version(other);
            if other == new || older.whole.is_none() || older.dot == known.dot {
                continue;
            }
            let (a, b) = (&known.rank, &older.rank);
            let apart = a.stamp.0.abs_diff(b.stamp.0);
            if a.tombstone != b.tombstone && a.dot.0 != b.dot.0 && apart <= RACE_MILLIS_MAX {
                self.add(Sometimes::DeletesMeetPuts);
            }
            if a.stamp != b.stamp {
                continue;
            }
            self.add(Sometimes::EqualStamps);
            self.add(match () {
                () if a.tombstone != b.tombstone => Sometimes::TiesByTombstone,
                () if a.ruling != b.ruling => Sometimes::TiesByRuling,
                () if a.author != b.author => Sometimes::TiesByAuthor,
                () => Sometimes::TiesByDot,
            });
        }
    }
}

/// Whether a ruling confirms another write than an earlier one of its stamp does: then its key's value may change once
/// more.
fn overrules(facts: &Facts, new: VersionNo) -> bool {
    let ruling = facts.version(new);
    let confirmed = |whole: &Option<reknit::model::Version>| whole.as_ref().and_then(|whole| whole.confirms);
    facts.key(ruling.key).versions.iter().map(|&other| facts.version(other)).any(|other| {
        other.rank.ruling > 0
            && other.rank.stamp == ruling.rank.stamp
            && confirmed(&other.whole).is_some()
            && confirmed(&other.whole) != confirmed(&ruling.whole)
    })
}

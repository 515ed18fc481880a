//! Laws of the order, and its rules one by one.

use crate::model::Sums;
use crate::protocol::summary::SummaryKey;
use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::model::{Dot, Entry, Now, Origin, Stamp, WallTime};
use crate::protocol::replica::Replica;
use crate::storage::Table;
use crate::storage::memory::{Memory, Tables};
use crate::storage::rows::{Identity, Record};
use crate::testing::arbitrary::{self, version, wild_version};

fn any_version() -> impl Strategy<Value = Version> {
    prop_oneof![4 => version().boxed(), 1 => wild_version().boxed()]
}

fn greater<'a>(a: &'a Version, b: &'a Version) -> &'a Version {
    if beats(a, b) { a } else { b }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn of_two_versions_one_wins_unless_they_are_the_same(a in any_version(), b in any_version()) {
        prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        prop_assert_eq!(compare(&a, &b) == Ordering::Equal, a == b);
        prop_assert_eq!(compare(&a, &b), compare(&a.clone(), &b.clone()), "nothing but the versions counts");
    }

    #[test]
    fn what_beats_a_winner_beats_the_loser(mut versions in vec(any_version(), 3)) {
        versions.sort_by(compare);
        let [a, b, c] = &versions[..] else { unreachable!("three were asked for") };

        prop_assert!(compare(a, b) != Ordering::Greater);
        prop_assert!(compare(b, c) != Ordering::Greater);
        prop_assert!(compare(a, c) != Ordering::Greater);
    }

    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        (a, b, c) in (any_version(), any_version(), any_version()),
    ) {
        prop_assert_eq!(greater(&a, &b), greater(&b, &a));
        prop_assert_eq!(greater(greater(&a, &b), &c), greater(&a, greater(&b, &c)));
        prop_assert_eq!(greater(&a, &a), &a);
        let winner = greater(greater(&a, &b), &c);
        prop_assert!([&a, &b, &c].contains(&winner), "the winner is one of them");
    }
}

proptest! {
    #[test]
    fn replicas_that_took_the_same_entries_in_any_order_hold_the_same_records(
        (entries, shuffled) in vec((arbitrary::key(), version()), 0..12).prop_flat_map(|entries| {
            let entries: Vec<Entry> = (1..).zip(entries).map(|(seq, (key, version))| {
                // Two contents under one dot are a disk that lied; those are not merged but repaired.
                let dot = Dot { origin: version.dot.origin, seq };
                Entry { key, version: Version { dot, ..version } }
            }).collect();
            (Just(entries.clone()), Just(entries).prop_shuffle())
        }),
    ) {
        let twice: Vec<Entry> = shuffled.iter().chain(&entries).cloned().collect();

        prop_assert_eq!(replica_of(&entries), replica_of(&shuffled));
        prop_assert_eq!(replica_of(&entries), replica_of(&twice));
        prop_assert_eq!(replica_of(&entries), replica_of_batches(&twice));
    }
}

/// The records, the log, `seen` and the summaries of a replica that merged these entries in this order.
fn replica_of(entries: &[Entry]) -> (Tables, Sums) {
    replica_of_steps(entries.chunks(1))
}

/// The same of one that merged them many at a time.
fn replica_of_batches(entries: &[Entry]) -> (Tables, Sums) {
    replica_of_steps(entries.chunks(7))
}

fn replica_of_steps<'a>(steps: impl Iterator<Item = &'a [Entry]>) -> (Tables, Sums) {
    let id = crate::model::NodeId::new("a").unwrap();
    let identity = Identity { id, life: 1, joined: WallTime(0), high_water: Stamp::default() };
    let now = Now { wall: WallTime(1_000_000), ..Now::default() };
    let mut store = Memory::default();
    let mut replica =
        Replica::load(&store, &identity, SummaryKey::new(b""), std::time::Duration::from_secs(60), now)
            .unwrap();
    for entries in steps {
        match entries {
            [entry] => drop(replica.merge(now, &mut store, entry).unwrap()),
            entries => drop(replica.merge_all(now, &mut store, entries).unwrap()),
        }
        assert_eq!(replica.chunks().first_wrong(&store).unwrap(), None);
    }
    let mut batch = crate::storage::Batch::default();
    replica.save(&mut batch);
    crate::storage::Storage::apply(&mut store, batch).unwrap();
    let root = Sums { earliest: None, ..*replica.chunks().root() };
    // The rows of the summaries also hold a bound on deadlines, and that depends on what was there before.
    let mut tables = store.tables().clone();
    tables.rows_mut(Table::Chunks).clear();
    tables.rows_mut(Table::Meta).clear();
    (tables, root)
}

/// Makes the second of two like versions greater by one rule alone, against all later rules.
fn rule(name: &str, change: impl Fn(&mut Version, &mut Version)) {
    let base = Version {
        stamp: Stamp { millis: 5, counter: 5 },
        dot: Dot { origin: Origin(5), seq: 5 },
        author_joined: WallTime(5),
        ruling: 0,
        confirms: None,
        tombstone: false,
        expires_at: None,
        content_type: String::new(),
        value: bytes::Bytes::new(),
    };
    let (mut loser, mut winner) = (base.clone(), base);
    change(&mut loser, &mut winner);
    assert!(beats(&winner, &loser), "{name}: {winner:?} should beat {loser:?}");
    assert!(!beats(&loser, &winner), "{name}");
}

#[test]
fn the_rules_come_in_their_documented_order() {
    rule("later millisecond", |loser, winner| {
        winner.stamp = Stamp { millis: 6, counter: 0 };
        loser.tombstone = true;
    });
    rule("later counter", |loser, winner| {
        winner.stamp.counter = 6;
        loser.tombstone = true;
    });
    rule("tombstone over value", |loser, winner| {
        winner.tombstone = true;
        loser.ruling = 9;
    });
    rule("more votes", |loser, winner| {
        winner.ruling = 1;
        loser.author_joined = WallTime(1);
    });
    rule("older author", |loser, winner| {
        winner.author_joined = WallTime(4);
        loser.dot.origin = Origin(9);
    });
    rule("greater origin", |loser, winner| {
        winner.dot.origin = Origin(6);
        loser.dot.seq = 9;
    });
    rule("greater number", |_, winner| winner.dot.seq = 6);
}

#[test]
fn expiry_is_no_part_of_the_order_while_the_dots_differ() {
    rule("dot", |loser, winner| {
        winner.dot.seq = 6;
        winner.expires_at = Some(WallTime(0));
        loser.expires_at = Some(WallTime(u64::MAX));
    });
}

#[test]
fn two_contents_under_one_dot_have_one_winner() {
    let dot = Dot { origin: Origin(1), seq: 1 };
    let content = |value: &'static str, confirms| Version {
        stamp: Stamp::default(),
        dot,
        author_joined: WallTime(0),
        ruling: 0,
        confirms,
        tombstone: false,
        expires_at: None,
        content_type: "a".into(),
        value: value.into(),
    };
    let all = [content("a", None), content("b", None), content("a", Some(dot)), content("b", Some(dot))];

    for a in &all {
        for b in &all {
            assert_eq!(compare(a, b) == Ordering::Equal, a == b);
            assert_eq!(compare(a, b), compare(b, a).reverse());
        }
    }
}

#[test]
fn a_write_beats_the_record_that_it_replaces() {
    let now = Now { wall: WallTime(1_000_000), ..Now::default() };
    let id = crate::model::NodeId::new("a").unwrap();
    let identity = Identity { id, life: 1, joined: WallTime(9), high_water: Stamp::default() };
    let mut store = Memory::default();
    let mut replica =
        Replica::load(&store, &identity, SummaryKey::new(b""), std::time::Duration::from_secs(60), now)
            .unwrap();
    let mut dice = ChaCha8Rng::from_seed([1; 32]);
    let key = crate::model::Key::from_path("k").unwrap();
    let mut current = Record::Absent;

    for _ in 0..10 {
        let tombstone = crate::protocol::replica::Change::Tombstone;
        let at = (key.clone(), &current);
        let entry = replica
            .write(
                now,
                &mut store,
                &mut dice,
                WallTime(9),
                at,
                (tombstone, &crate::protocol::siblings::Saw::Nothing),
            )
            .unwrap();
        assert!(current.versions().iter().all(|before| beats(&entry.version, before)));
        current = Record::Row(entry.version.into());
    }

    assert_eq!(store.tables().clone().rows_mut(Table::Dots).len(), 1, "what is replaced leaves the log");
}

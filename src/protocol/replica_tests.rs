//! What a replica promises of `seen`, also after the power failed.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::model::NodeId;
use crate::storage::Table;
use crate::storage::memory::{Memory, Tables};
use crate::testing::arbitrary;

const DRIFT: Duration = Duration::from_secs(60);

fn at(wall: u64) -> Now {
    Now { wall: WallTime(wall), ..Now::default() }
}

fn identity() -> Identity {
    let id = NodeId::new("a").unwrap();
    Identity { id, life: 1, joined: WallTime(1), high_water: Stamp::default() }
}

fn key(text: &str) -> Key {
    Key::from_path(text).unwrap()
}

/// A replica, its disk, and every version that it ever took or wrote.
struct Side {
    store: Memory,
    replica: Replica,
    dice: ChaCha8Rng,
    all: BTreeMap<Dot, Entry>,
}

impl Side {
    fn open(tables: Tables, start: u8) -> Side {
        let store = Memory::new(tables);
        let replica = Replica::load(&store, &identity(), SummaryKey::new(b""), DRIFT, at(1_000_000)).unwrap();
        Side { store, replica, dice: ChaCha8Rng::from_seed([start; 32]), all: BTreeMap::new() }
    }

    fn new() -> Side {
        Side::open(Tables::default(), 1)
    }

    fn write(&mut self, now: Now, key: &Key, change: Change) -> Entry {
        let current = rows::record(&self.store, key).unwrap();
        let at = (key.clone(), &current);
        let (replica, store, dice) = (&mut self.replica, &mut self.store, &mut self.dice);
        let entry = replica.write(now, store, dice, WallTime(1), at, (change, &Saw::Nothing)).unwrap();
        self.all.insert(entry.version.dot, entry.clone());
        entry
    }

    fn merge(&mut self, entry: &Entry) -> Merged {
        let merged = self.replica.merge(at(1_000_000), &mut self.store, entry).unwrap();
        if matches!(merged, Merged::Won | Merged::Lost) {
            self.all.insert(entry.version.dot, entry.clone());
        }
        merged
    }

    /// As the end of a turn does it.
    fn persist(&mut self) {
        let mut batch = Batch::default();
        self.replica.save(&mut batch);
        self.store.apply(batch).unwrap();
        self.store.persist().unwrap();
    }

    /// The promise of `seen`: that version of each dot, or one that beats it.
    fn assert_holds_what_it_has_seen(&self) {
        for (dot, entry) in self.all.iter().filter(|(dot, _)| self.replica.seen().contains(**dot)) {
            let record = rows::record(&self.store, &entry.key).unwrap();
            let held = order::greatest(record.versions()).expect("nothing rots here");
            assert!(!order::beats(&entry.version, held), "{dot} is seen, and what is held is older");
        }
        let log = self.store.tables().clone().rows_mut(Table::Dots).clone();
        let records = self.store.tables().clone().rows_mut(Table::Records).clone();
        assert_eq!(log.len(), records.len(), "the log has each live version once");
        assert!(log.values().all(|key| records.contains_key(key)));
    }
}

#[derive(Clone, Debug)]
enum Happens {
    Merges(Entry),
    Writes(Key, bool),
    Persists,
    LosesPower,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => arbitrary::entry().prop_map(Happens::Merges),
        3 => (arbitrary::key(), any::<bool>()).prop_map(|(key, is_delete)| Happens::Writes(key, is_delete)),
        2 => Just(Happens::Persists),
        1 => Just(Happens::LosesPower),
    ]
}

proptest! {
    #[test]
    fn what_is_seen_is_held_also_after_the_power_failed(story in vec(happens(), 0..40)) {
        let mut side = Side::new();
        let mut known: BTreeMap<Dot, Entry> = BTreeMap::new();

        for (start, happens) in (2..).zip(story) {
            match happens {
                // Two contents under one dot are a disk that lied; the first one counts until it is repaired.
                Happens::Merges(entry) => {
                    let entry = known.entry(entry.version.dot).or_insert(entry).clone();
                    side.merge(&entry);
                }
                Happens::Writes(key, true) => drop(side.write(at(1_000_000), &key, Change::Tombstone)),
                Happens::Writes(key, false) => {
                    let (value, content_type) = ("v".into(), "text/plain".into());
                    side.write(at(1_000_000), &key, Change::Value { value, content_type, ttl: None });
                }
                Happens::Persists => side.persist(),
                Happens::LosesPower => {
                    let Side { store, all, .. } = side;
                    side = Side { all, ..Side::open(store.power_loss(), start) };
                    side.replica.clock.observe(Stamp { millis: 1_000_010, counter: 0 }, at(1_000_000));
                }
            }
            side.assert_holds_what_it_has_seen();
        }
    }

    #[test]
    fn no_dot_is_issued_twice_however_often_the_power_fails(turns in vec((0_usize..4, any::<bool>()), 1..12)) {
        let mut side = Side::new();
        let mut issued = BTreeMap::new();

        for (start, (writes, is_persisted)) in (2..).zip(turns) {
            for _ in 0..writes {
                let entry = side.write(at(1_000_000), &key("k"), Change::Tombstone);
                prop_assert_eq!(issued.insert(entry.version.dot, entry), None);
            }
            if is_persisted {
                side.persist();
            }
            side = Side::open(side.store.power_loss(), start);
        }
    }
}

#[test]
fn an_origin_begins_with_the_first_write_and_counts_from_one() {
    let mut side = Side::new();
    assert_eq!(side.replica.origin(), None);

    let first = side.write(at(1_000_000), &key("k"), Change::Tombstone);
    let second = side.write(at(1_000_000), &key("l"), Change::Tombstone);

    assert_eq!((first.version.dot.seq, second.version.dot.seq), (1, 2));
    assert_eq!(side.replica.origin(), Some(first.version.dot.origin));
    assert_eq!(first.version.dot.origin, second.version.dot.origin);
}

#[test]
fn an_origin_that_a_peers_nonsense_used_up_is_followed_by_another() {
    let mut side = Side::new();
    let first = side.write(at(1_000_000), &key("k"), Change::Tombstone);
    let mut nonsense = DotSet::default();
    nonsense.insert_run(first.version.dot.origin, 1, Dot::SEQ_MAX);

    side.replica.cover(&nonsense);
    let next = side.write(at(1_000_000), &key("k"), Change::Tombstone);

    assert_ne!(next.version.dot.origin, first.version.dot.origin);
    assert_eq!(next.version.dot.seq, 1);
}

#[test]
fn what_came_of_an_entry_is_said() {
    let mut side = Side::new();
    let entry = side.write(at(1_000_000), &key("k"), Change::Tombstone);
    let from_elsewhere = |seq, millis| {
        let dot = Dot { origin: Origin(7), seq };
        let stamp = Stamp { millis, counter: 0 };
        Entry { version: Version { dot, stamp, ..entry.version.clone() }, ..entry.clone() }
    };

    assert_eq!(side.merge(&from_elsewhere(1, 5)), Merged::Lost);
    assert_eq!(side.merge(&from_elsewhere(2, 1_000_001)), Merged::Won);
    assert_eq!(side.merge(&from_elsewhere(2, 1_000_001)), Merged::Known);
    assert_eq!(side.merge(&from_elsewhere(0, 1_000_002)), Merged::Malformed);
}

#[test]
fn what_no_node_can_have_written_is_neither_stored_nor_seen() {
    let entry = Side::new().write(at(1_000_000), &key("k"), Change::Tombstone);
    let good = Version { dot: Dot { origin: Origin(7), seq: 1 }, ..entry.version };
    let with = |change: &dyn Fn(&mut Version)| {
        let mut version = good.clone();
        change(&mut version);
        version
    };
    let malformed = [
        with(&|version| version.dot.seq = 0),
        with(&|version| version.dot.seq = Dot::SEQ_MAX + 1),
        with(&|version| version.stamp.millis = Stamp::MILLIS_MAX + 1),
        with(&|version| version.value = "a tombstone has none".into()),
        with(&|version| version.content_type = "x".repeat(Version::CONTENT_TYPE_BYTES_MAX + 1)),
        with(&|version| {
            version.tombstone = false;
            version.value = vec![0; Version::VALUE_BYTES_MAX + 1].into();
        }),
    ];

    for version in malformed {
        let mut side = Side::new();
        assert_eq!(side.merge(&Entry { key: key("k"), version }), Merged::Malformed);
        assert!(side.replica.seen().is_empty());
        assert!(!side.store.is_dirty());
    }
}

#[test]
fn the_next_write_of_a_key_wins_over_a_stamp_from_the_far_future() {
    let mut side = Side::new();
    let entry = side.write(at(1_000_000), &key("k"), Change::Tombstone);
    let far = Stamp { millis: 99_000_000, counter: 4 };
    let dot = Dot { origin: Origin(7), seq: 1 };
    side.merge(&Entry { version: Version { stamp: far, dot, ..entry.version.clone() }, ..entry });

    let next = side.write(at(1_000_000), &key("k"), Change::Tombstone);
    let other = side.write(at(1_000_000), &key("l"), Change::Tombstone);

    assert_eq!(next.version.stamp, far.next());
    assert_eq!(rows::record(&side.store, &key("k")).unwrap(), Record::Row(Row::one(next.version)));
    assert!(other.version.stamp.millis < 2_000_000, "other keys go on as before");
}

#[test]
fn the_deadline_counts_from_the_stamp_and_ends_with_time() {
    let mut side = Side::new();
    let mut write = |ttl| {
        let change = Change::Value { value: "v".into(), content_type: String::new(), ttl: Some(ttl) };
        side.write(at(1_000_000), &key("k"), change).version.expires_at
    };

    assert_eq!(write(Duration::from_millis(10)), Some(WallTime(1_000_010)));
    assert_eq!(write(Duration::MAX), Some(WallTime(u64::MAX)));
}

//! Laws of a session: both ends come to hold the same, nothing gets lost, and equal is said only of what is equal.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::btree_map;
use proptest::prelude::*;

use super::*;
use crate::model::{Dot, NodeId, Now, Origin, Row as Record, Stamp, WallTime};
use crate::protocol::flight;
use crate::protocol::order;
use crate::protocol::replica::{Merged, Replica};
use crate::protocol::summary::SummaryKey;
use crate::storage::memory::Memory;
use crate::storage::rows::Identity;

const NOW: Now = Now { mono: crate::model::Instant(Duration::ZERO), wall: WallTime(1_000_000) };
const CREDIT: usize = 1 << 20;

/// Versions by key number: stamp, origin, whether it is a tombstone.
type Rows = BTreeMap<u16, (u64, u64, bool)>;

struct End {
    store: Memory,
    replica: Replica,
    talk: Talk,
    leave: Leave,
}

fn key(number: u16) -> Key {
    Key::from_path(&format!("room-{}/box-{number}", number % 7)).unwrap()
}

fn version((millis, origin, tombstone): (u64, u64, bool), number: u16) -> Version {
    Version {
        stamp: Stamp { millis, counter: 0 },
        dot: Dot { origin: Origin(origin), seq: u64::from(number) * 100 + millis },
        author_joined: WallTime(1),
        ruling: 0,
        confirms: None,
        tombstone,
        expires_at: None,
        content_type: if tombstone { String::new() } else { "a/b".into() },
        value: if tombstone { Bytes::new() } else { Bytes::from_static(b"v") },
    }
}

fn end(rows: &Rows, with_tombstones: bool, is_dry: bool) -> End {
    let mut store = Memory::default();
    let identity = Identity {
        id: NodeId::new("a").unwrap(),
        life: 1,
        joined: WallTime(1),
        high_water: Stamp::default(),
    };
    let mut replica =
        Replica::load(&store, &identity, SummaryKey::new(b""), Duration::from_secs(60), NOW).unwrap();
    for (number, written) in rows {
        let row = Record::one(version(*written, *number));
        replica.set_row(&mut store, &key(*number), &row, &[]).unwrap();
    }
    let leave = Leave { bytes: CREDIT, ranges: ROOM_MIN };
    End { store, replica, talk: Talk::new(with_tombstones, is_dry), leave }
}

impl End {
    fn print(&self) -> u64 {
        self.talk.print(&self.store, self.replica.chunks(), &Span::all()).unwrap()
    }

    fn answer(&mut self) -> Answer {
        self.talk.answer(&self.store, self.replica.chunks(), self.leave).unwrap()
    }

    fn take(&mut self, answer: &Answer) {
        let said = flight::read(&answer.parts).expect("an honest end makes sense");
        self.talk.hear_entries(self.replica.chunks(), &answer.entries);
        assert!(self.talk.hear(said));
        for entry in &answer.entries {
            if self.replica.repair(NOW, &mut self.store, entry).unwrap() == Merged::Lost {
                self.talk.hear_loser(entry.key.clone());
            }
        }
    }

    fn rows(&self) -> BTreeMap<Key, Vec<Version>> {
        let all = rows::records(&self.store, Span::all().bounds(), usize::MAX, false).unwrap();
        all.into_iter().map(|(key, record)| (key, record.versions().to_vec())).collect()
    }
}

/// Lets two ends talk until neither has anything to say; returns how many flights it took.
fn converse(a: &mut End, b: &mut End) -> usize {
    if a.print() == b.print() {
        return 0;
    }
    let print = a.print();
    b.talk.hear_print(Span::all(), print);
    for flights in 1..1000 {
        let answer = b.answer();
        if answer.is_idle() {
            return flights;
        }
        a.leave.ranges = b.talk.room();
        a.take(&answer);
        let answer = a.answer();
        b.leave.ranges = a.talk.room();
        b.take(&answer);
    }
    panic!("they never come to an end");
}

fn some_rows() -> impl Strategy<Value = Rows> {
    let one = || (1_u64..6, 1_u64..3, any::<bool>());
    prop_oneof![Just(Rows::new()), btree_map(0_u16..60, one(), 0..40), btree_map(0_u16..1500, one(), 0..900)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_ends_come_to_hold_the_winner_of_every_key(
        common in some_rows(), only_a in some_rows(), only_b in some_rows(), with_tombstones in any::<bool>(),
    ) {
        let join = |more: Rows| common.clone().into_iter().chain(more).collect::<Rows>();
        let (a_rows, b_rows) = (join(only_a), join(only_b));
        let (mut a, mut b) = (end(&a_rows, with_tombstones, false), end(&b_rows, with_tombstones, false));

        converse(&mut a, &mut b);

        let (a, b) = (a.rows(), b.rows());
        for number in a_rows.keys().chain(b_rows.keys()) {
            let held = [&a_rows, &b_rows].into_iter().filter_map(|rows| rows.get(number));
            let held: Vec<Version> = held.map(|written| version(*written, *number)).collect();
            let winner = order::greatest(&held).expect("one of them has it");
            let key = key(*number);
            let at = |rows: &BTreeMap<Key, Vec<Version>>| rows.get(&key).and_then(|row| row.first().cloned());
            if with_tombstones || !winner.tombstone {
                prop_assert_eq!(at(&a), Some(winner.clone()), "{} at a", key);
                prop_assert_eq!(at(&b), Some(winner.clone()), "{} at b", key);
            } else {
                // Tombstones alone are not compared; but no end shows a value that one of them knows is deleted.
                prop_assert!(at(&a).is_none_or(|version| version.tombstone), "{} at a", key);
                prop_assert!(at(&b).is_none_or(|version| version.tombstone), "{} at b", key);
            }
        }
    }

    #[test]
    fn a_dry_run_moves_nothing_and_counts_what_differs(common in some_rows(), only_a in some_rows()) {
        let a_rows: Rows = only_a.into_iter().chain(common.clone()).collect();
        let (mut a, mut b) = (end(&a_rows, true, true), end(&common, true, true));
        let before = (a.rows(), b.rows());

        converse(&mut a, &mut b);

        prop_assert_eq!((a.rows(), b.rows()), before);
        let missing = (a_rows.len() - common.len()) as u64;
        prop_assert_eq!(a.talk.ahead + b.talk.behind, missing);
        prop_assert_eq!(a.talk.behind + b.talk.ahead, 0);
    }

    #[test]
    fn equal_prints_mean_equal_rows(a_rows in some_rows(), b_rows in some_rows()) {
        let (a, b) = (end(&a_rows, true, false), end(&b_rows, true, false));

        prop_assert_eq!(a.print() == b.print(), a.rows() == b.rows());
    }
}

#[test]
fn a_peer_that_answers_a_range_with_itself_gets_no_further_than_the_bounds() {
    let rows: Rows = (0..100).map(|number| (number, (1, 1, false))).collect();
    let mut end = end(&rows, true, false);
    for _ in 0..50 {
        let part = Part::Pieces { from: Vec::new(), pieces: vec![(None, 7)] };
        assert!(end.talk.hear(vec![part]));
        let answer = end.answer();
        assert!(answer.parts.len() < FLIGHT_BYTES_MAX && end.talk.frontier() == 0);
    }
}

#[test]
fn more_ranges_than_anybody_has_are_refused() {
    let pieces = (0..=TASKS_MAX as u32).map(|number| (Some(number.to_be_bytes().to_vec()), 7)).collect();
    let part = Part::Pieces { from: Vec::new(), pieces };

    assert!(!end(&Rows::new(), true, false).talk.hear(vec![part]));
}

#[test]
fn two_ends_that_differ_in_every_row_never_pile_up_more_ranges_than_there_is_room_for() {
    let rows = |millis| (0..20_000).map(|number| (number, (millis, 1, false))).collect::<Rows>();
    let (mut a, mut b) = (end(&rows(1), true, false), end(&rows(2), true, false));
    // Much less than it takes to name all ranges at once.
    (a.talk.tasks_max, b.talk.tasks_max) = (512, 512);
    (a.leave, b.leave) = (Leave { bytes: 4096, ranges: 16 }, Leave { bytes: 4096, ranges: 16 });

    converse(&mut a, &mut b);

    assert!(a.rows() == b.rows());
}

/// A disk that must not be touched.
struct Untouched;

impl Read for Untouched {
    fn get(&self, _: crate::storage::Table, _: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        panic!("a row was read");
    }

    fn scan(
        &self,
        _: crate::storage::Table,
        _: crate::storage::Range<'_>,
        _: usize,
        _: bool,
    ) -> Result<Vec<crate::storage::Row>, StorageError> {
        panic!("rows were read");
    }
}

#[test]
fn equal_stores_of_any_size_are_found_equal_by_one_small_message_without_reading_a_row() {
    use crate::protocol::message::Message;
    use crate::protocol::wire;
    let rows: Rows = (0..5000).map(|number| (number, (1, 1, number % 9 == 0))).collect();
    let (a, b) = (end(&rows, true, false), end(&rows, true, false));

    let [first, second] = [&a, &b].map(|end| end.talk.print(&Untouched, end.replica.chunks(), &Span::all()));
    let (first, second) = (first.unwrap(), second.unwrap());

    assert_eq!(first, second);
    for data in
        [Message::SyncOpen { session: 1, print: first, scope: None }, Message::SyncSame { session: 1 }]
    {
        let message = Message::Within { meeting: u64::MAX, data: Box::new(data) };
        let bytes: usize = wire::encode(&message, 1).unwrap().iter().map(Bytes::len).sum();
        assert!(bytes <= 64, "{bytes} bytes");
    }
}

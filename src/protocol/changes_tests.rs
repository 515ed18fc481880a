use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::model::{Row, Stamp, Version, WallTime};
use crate::storage::memory::Memory;
use crate::storage::{Batch, Storage};

const WIDE: Bounds = Bounds { keys_max: 1000, bytes_max: 1 << 30 };

/// A disk that takes versions as a node does: the later stamp wins, and every dot is covered.
#[derive(Default)]
struct Disk {
    store: Memory,
    seen: DotSet,
}

impl Disk {
    fn take(&mut self, key: &str, millis: u64, dot: Dot) {
        let key = Key::from_path(key).unwrap();
        let version = Version {
            stamp: Stamp { millis, counter: 0 },
            dot,
            author_joined: WallTime(1),
            ruling: 0,
            confirms: None,
            tombstone: false,
            expires_at: None,
            content_type: "text/plain".into(),
            value: Bytes::from(millis.to_string()),
        };
        let mut batch = Batch::default();
        let current = rows::record(&self.store, &key).unwrap();
        if current.versions().iter().all(|current| current.stamp < version.stamp) {
            rows::put_row(&mut batch, &key, &Row::one(version), current.versions());
        }
        self.seen.insert(dot);
        rows::put_runs(&mut batch, Table::Seen, dot.origin, self.seen.runs(dot.origin));
        self.store.apply(batch).unwrap();
        self.store.persist().unwrap();
    }

    fn step(&self, cursor: &DotSet, bounds: Bounds) -> Step {
        match look(&self.store, cursor, bounds).unwrap() {
            Look::Step(step) => step,
            Look::Behind => panic!("the disk is behind {cursor:?}"),
        }
    }

    fn records(&self) -> BTreeMap<Key, Record> {
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        rows::records(&self.store, all, usize::MAX, false).unwrap().into_iter().collect()
    }
}

fn dot(origin: u64, seq: u64) -> Dot {
    Dot { origin: Origin(origin), seq }
}

fn names(step: &Step) -> Vec<String> {
    step.changes.iter().map(|(key, _)| key.to_string()).collect()
}

#[test]
fn a_client_is_told_what_it_has_not_heard_and_then_nothing() {
    let mut disk = Disk::default();
    disk.take("a", 1, dot(1, 1));
    disk.take("b", 2, dot(1, 2));
    let first = disk.step(&DotSet::default(), WIDE);
    disk.take("a", 3, dot(1, 3));

    let second = disk.step(&first.cursor, WIDE);
    let third = disk.step(&second.cursor, WIDE);

    assert_eq!((names(&first), first.is_whole), (vec!["a".into(), "b".into()], true));
    assert_eq!(names(&second), ["a"]);
    assert_eq!((names(&third), third.is_whole), (vec![], true));
}

#[test]
fn a_cursor_that_this_node_has_not_covered_waits_for_it() {
    let mut disk = Disk::default();
    disk.take("a", 1, dot(1, 1));
    let cursor = [dot(2, 1)].into_iter().collect();

    assert_eq!(look(&disk.store, &cursor, WIDE).unwrap(), Look::Behind);

    disk.take("b", 2, dot(2, 1));
    assert_eq!(names(&disk.step(&cursor, WIDE)), ["a"]);
}

#[test]
fn a_cursor_too_long_for_a_header_is_not_written_and_nonsense_is_not_read() {
    let many: DotSet = (1..6000).map(|origin| dot(origin, 1)).collect();

    assert_eq!(encode(&many), None);
    assert_eq!(decode(&[]), None);
    assert_eq!(decode(&[FORMAT, 1]), None);
    assert_eq!(decode(&[2]), None);
    assert_eq!(decode(&[FORMAT]), Some(DotSet::default()));
    let endless = [&[FORMAT, 0, 0, 0, 0, 0, 0, 0, 1, 1][..], &[0xff; 30]].concat();
    assert_eq!(decode(&endless), None);
}

proptest! {
    /// Whatever is written between the steps of a client, and however small they are, what it was told last is
    /// what stands on the disk, and no key went back.
    #[test]
    fn what_a_client_was_told_is_what_is_there(
        takes in prop::collection::vec((0..6_u8, 1..50_u64, 1..4_u64, 1..12_u64, any::<bool>()), 1..60),
        keys_max in 1..5_usize,
    ) {
        let mut disk = Disk::default();
        let mut cursor = DotSet::default();
        let mut told: BTreeMap<Key, Record> = BTreeMap::new();
        let mut hear = |disk: &Disk, cursor: &mut DotSet| {
            let step = disk.step(cursor, Bounds { keys_max, bytes_max: 1 << 20 });
            for (key, record) in step.changes {
                let stamp = |record: &Record| record.versions().iter().map(|version| version.stamp).max();
                let before = told.get(&key).map(stamp);
                prop_assert!(before.is_none_or(|before| before <= stamp(&record)), "{key} went back");
                told.insert(key, record);
            }
            *cursor = decode(&encode(&step.cursor).unwrap()).unwrap();
            prop_assert_eq!(cursor.clone(), step.cursor);
            Ok(step.is_whole)
        };
        for (key, millis, origin, seq, is_read) in takes {
            let dot = dot(origin, seq);
            if disk.seen.contains(dot) {
                continue;
            }
            // A stamp of its own for every write, as the order of versions has no ties.
            disk.take(&format!("k{key}"), millis * 1000 + origin * 100 + seq, dot);
            if is_read {
                hear(&disk, &mut cursor)?;
            }
        }
        while !hear(&disk, &mut cursor)? {}

        prop_assert_eq!(told, disk.records());
        prop_assert_eq!(cursor, disk.seen);
    }
}

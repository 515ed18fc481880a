//! The law of the summaries: whatever happens to the rows, a recount gives what the chunks say.

use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::{Dot, NodeId, Now, Origin, Row, Stamp, WallTime};
use crate::protocol::replica::Replica;
use crate::storage::memory::Memory;
use crate::storage::rows::Identity;
use crate::storage::{Read, Storage, Table};

fn secret() -> SummaryKey {
    SummaryKey::new(b"sesame")
}

/// Keys of which every third begins a chunk, in no particular order.
fn keys() -> Vec<Key> {
    let all = (0..4000).map(|number| Key::from_path(&format!("k/{number}")).unwrap());
    let (cuts, plain): (Vec<Key>, Vec<Key>) = all.partition(|key| secret().is_boundary(key));
    assert!(cuts.len() >= 8, "one key in 256 is a cut");
    cuts.into_iter().take(8).chain(plain.into_iter().step_by(97).take(16)).collect()
}

#[derive(Clone, Debug)]
enum Step {
    /// Versions under a key: each may be a tombstone, or have a deadline.
    Set(usize, Vec<(u64, bool, Option<u64>)>),
    Rot(usize),
    Restart,
}

fn steps() -> impl Strategy<Value = Step> {
    let versions = vec((1_u64..50, any::<bool>(), proptest::option::of(1_u64..9)), 0..3);
    prop_oneof![
        8 => (0..24_usize, versions).prop_map(|(key, versions)| Step::Set(key, versions)),
        1 => (0..24_usize).prop_map(Step::Rot),
        1 => Just(Step::Restart),
    ]
}

fn row(versions: Vec<(u64, bool, Option<u64>)>) -> Row {
    let version = |(seq, tombstone, deadline): (u64, bool, Option<u64>)| Version {
        stamp: Stamp { millis: seq, counter: 0 },
        dot: Dot { origin: Origin(1), seq },
        author_joined: WallTime(1),
        ruling: 0,
        confirms: None,
        tombstone,
        expires_at: deadline.filter(|_| !tombstone).map(WallTime),
        content_type: "a/b".into(),
        value: if tombstone { Bytes::new() } else { Bytes::from(seq.to_string()) },
    };
    let mut row = Row { versions: versions.into_iter().map(version).collect(), ..Row::default() };
    row.versions.sort_by_key(|version| version.dot);
    row.versions.dedup_by_key(|version| version.dot);
    row
}

fn open(store: &Memory) -> Replica {
    let id = NodeId::new("a").unwrap();
    let identity = Identity { id, life: 1, joined: WallTime(1), high_water: Stamp::default() };
    Replica::load(store, &identity, secret(), Duration::from_secs(60), Now::default()).unwrap()
}

fn persist(store: &mut Memory, replica: &mut Replica) {
    let mut batch = Batch::default();
    replica.save(&mut batch);
    store.apply(batch).unwrap();
    store.persist().unwrap();
}

proptest! {
    #[test]
    fn a_recount_gives_what_the_chunks_say(steps in vec(steps(), 1..60)) {
        let keys = keys();
        let mut store = Memory::default();
        let mut replica = open(&store);
        for step in steps {
            match step {
                Step::Set(key, versions) => {
                    let before = rows::record(&store, &keys[key]).unwrap();
                    prop_assert!(before.is_sound() || store.get(Table::Records, keys[key].as_bytes()).unwrap().is_none());
                    replica.set_row(&mut store, &keys[key], &row(versions), before.versions()).unwrap();
                }
                Step::Rot(key) => {
                    let Some(mut bytes) = store.get(Table::Records, keys[key].as_bytes()).unwrap() else { continue };
                    let last = bytes.len() - 1;
                    bytes[last] ^= 1;
                    let mut batch = Batch::default();
                    batch.put(Table::Records, keys[key].as_bytes(), bytes);
                    store.apply(batch).unwrap();
                    prop_assert!(replica.quarantine(&mut store, &keys[key]).unwrap());
                }
                Step::Restart => {
                    persist(&mut store, &mut replica);
                    replica = open(&store);
                }
            }
        }
        persist(&mut store, &mut replica);

        prop_assert_eq!(judge(&store, &secret()).unwrap(), None);
    }

    #[test]
    fn a_span_comes_down_to_what_its_rows_do(from in 0..4000_u32, to in 0..4000_u32, is_cut in any::<bool>()) {
        let keys = keys();
        let mut store = Memory::default();
        let mut replica = open(&store);
        for (number, key) in (1..).zip(&keys) {
            replica.set_row(&mut store, key, &row(vec![(number, number % 3 == 0, None)]), &[]).unwrap();
        }
        let from = if is_cut { keys[0].as_bytes().to_vec() } else { format!("k/{from}").into() };
        let span = Span { from, to: Some(format!("k/{to}").into()) };

        let sums = replica.chunks().sum(&store, &span, &mut 0).unwrap();

        prop_assert!(sums.agrees(&count(&store, &secret(), &span).unwrap().sums));
    }
}

#[test]
fn a_store_without_summaries_or_with_those_of_another_secret_is_counted_at_the_start() {
    let mut store = Memory::default();
    let mut replica = open(&store);
    for (number, key) in (1..).zip(&keys()) {
        replica.set_row(&mut store, key, &row(vec![(number, false, None)]), &[]).unwrap();
    }
    persist(&mut store, &mut replica);
    let root = *replica.chunks().root();

    let other = Chunks::load(&store, SummaryKey::new(b"other")).unwrap();
    assert_eq!(other.root().live.count, root.live.count);
    assert_ne!(other.root().live.sum, root.live.sum);

    let mut tables = store.power_loss();
    tables.rows_mut(Table::Chunks).values_mut().for_each(|row| row[20] ^= 1);
    let mut store = Memory::new(tables);
    let mut replica = open(&store);
    assert_eq!(replica.chunks().root(), &root);
    persist(&mut store, &mut replica);
    assert_eq!(judge(&store, &secret()).unwrap(), None);
}

#[test]
fn judging_finds_a_summary_that_did_not_follow_its_row() {
    let mut store = Memory::default();
    let mut replica = open(&store);
    let key = &keys()[12];
    replica.set_row(&mut store, key, &row(vec![(1, false, None)]), &[]).unwrap();
    persist(&mut store, &mut replica);
    assert_eq!(judge(&store, &secret()).unwrap(), None);

    let mut batch = Batch::default();
    batch.remove(Table::Records, key.as_bytes());
    store.apply(batch).unwrap();

    let found = judge(&store, &secret()).unwrap().expect("the row is gone, and the sum still has it");
    assert!(found.contains("is said to be"), "{found}");
}

#[test]
fn spans_of_prefixes_end_where_the_prefix_does() {
    assert_eq!(Span::prefix(b"a/"), Span { from: b"a/".to_vec(), to: Some(b"a0".to_vec()) });
    assert_eq!(Span::prefix(b"a\xff").to, Some(b"b".to_vec()));
    assert_eq!(Span::prefix(b"\xff\xff").to, None);
    assert_eq!(Span::prefix(b""), Span::all());
    let key = Key::from_path("a").unwrap();
    assert!(Span::one(&key).contains(b"a") && !Span::one(&key).contains(b"a/b"));
}

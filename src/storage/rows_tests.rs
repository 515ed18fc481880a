use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::model::{Address, Member, MemberState, Mode, NodeId, ProtocolRange};
use crate::storage::memory::Memory;
use crate::storage::{Storage, Table};

fn dots_() -> impl Strategy<Value = Dot> {
    (any::<u64>(), any::<u64>()).prop_map(|(origin, seq)| Dot { origin: Origin(origin), seq })
}

fn stamps() -> impl Strategy<Value = Stamp> {
    (any::<u64>(), any::<u16>()).prop_map(|(millis, counter)| Stamp { millis, counter })
}

fn keys() -> impl Strategy<Value = Key> {
    "[a-z]{1,4}(/[a-z]{1,4}){0,3}".prop_map(|text| Key::new(text.into_bytes()).expect("a normal form"))
}

fn names() -> impl Strategy<Value = NodeId> {
    "[a-z][a-z0-9-]{0,20}".prop_map(|name| NodeId::new(&name).expect("a name"))
}

fn versions() -> impl Strategy<Value = Version> {
    let rest = (any::<bool>(), option::of(any::<u64>()), "[ -~]{0,255}", vec(any::<u8>(), 0..300));
    (stamps(), dots_(), any::<u64>(), any::<u16>(), option::of(dots_()), rest).prop_map(
        |(stamp, dot, joined, ruling, confirms, (tombstone, expires_at, content_type, value))| Version {
            stamp,
            dot,
            author_joined: WallTime(joined),
            ruling,
            confirms,
            tombstone,
            expires_at: expires_at.map(WallTime),
            content_type,
            value: value.into(),
        },
    )
}

/// Versions of a history: with a head as `protocol::history::transaction` lays it out, and one of few bodies, of which
/// some are long enough to lie by themselves.
fn transactions() -> impl Strategy<Value = Row> {
    let kind = prop_oneof![Just(0_u8), Just(1), Just(2), Just(3), Just(4)];
    let body = prop_oneof![Just(0_usize), Just(BODY_BYTES_MIN - 1), Just(BODY_BYTES_MIN), Just(300)];
    let one = (versions(), kind, 0_u8..3, 0_u8..3, body, 0_u8..2).prop_map(
        |(version, kind, parents, past, len, byte)| {
            let mut value = vec![0xE1, kind, 0, 0, 0, 0, 0, 0, 0, 0, parents];
            value.extend(vec![7; usize::from(parents) * 32]);
            if kind > 2 {
                value.extend([0, past]);
                value.extend(vec![9; usize::from(past) * 16]);
            }
            value.extend(vec![byte; len]);
            Version { value: value.into(), tombstone: false, ..version }
        },
    );
    vec(one, 0..6).prop_map(|mut versions| {
        versions.sort_by_key(|version| version.dot);
        versions.dedup_by_key(|version| version.dot);
        Row { versions, context: DotSet::default() }
    })
}

/// Rows of no, one and several versions, each dot once and in order, with and without a context.
fn rows_() -> impl Strategy<Value = Row> {
    let context = vec(((0_u64..3).prop_map(Origin), 1..Dot::SEQ_MAX), 0..4);
    (vec(versions(), 0..4), prop_oneof![Just(vec![]), context]).prop_map(|(mut versions, context)| {
        versions.sort_by_key(|version| version.dot);
        versions.dedup_by_key(|version| version.dot);
        Row { versions, context: context.into_iter().map(|(origin, seq)| Dot { origin, seq }).collect() }
    })
}

fn members_() -> impl Strategy<Value = MemberRow> {
    let states = [
        MemberState::Alive,
        MemberState::Suspect,
        MemberState::Down,
        MemberState::Left,
        MemberState::Forgotten,
    ];
    let states = proptest::sample::select(states.to_vec());
    let modes = proptest::sample::select(vec![Mode::Normal, Mode::ReadOnly, Mode::Draining, Mode::Syncing]);
    let place = (names(), "[a-z]{1,10}:[1-9][0-9]{0,3}");
    let rest = (any::<u64>(), any::<(u16, u16)>(), any::<u64>(), any::<u64>());
    let fields = (any::<u64>(), any::<u32>(), states, any::<u64>(), modes, option::of(any::<u64>()));
    (place, fields, rest).prop_map(|((id, address), fields, (policies, (min, max), last_seen, away))| {
        let (life, incarnation, state, joined, mode, origin) = fields;
        let member = Member {
            id,
            address: Address::new(&address).expect("an address"),
            life,
            incarnation,
            state,
            joined: WallTime(joined),
            mode,
            origin: origin.map(Origin),
            policies,
            protocol: ProtocolRange { min, max },
        };
        MemberRow { member, last_seen: WallTime(last_seen), away: std::time::Duration::from_secs(away) }
    })
}

fn stored(batch: Batch) -> Memory {
    let mut store = Memory::default();
    store.apply(batch).expect("memory");
    store
}

proptest! {
    #[test]
    fn one_version_with_nothing_beside_it_is_laid_out_as_ever(key in keys(), version in versions()) {
        prop_assert_eq!(encode_row(&key, &Row::one(version.clone())), encode_record(&key, &version));
    }

    #[test]
    fn a_record_reads_as_it_was_written(key in keys(), row in rows_()) {
        let mut batch = Batch::default();
        put_row(&mut batch, &key, &row, &[]);
        let store = stored(batch);

        let is_empty = row.versions.is_empty() && row.context.is_empty();
        let written = if is_empty { Record::Absent } else { Record::Row(row.clone()) };
        prop_assert_eq!(record(&store, &key).unwrap(), written);
        for dot in row.dots() {
            prop_assert_eq!(dots(&store, dot, dot, 2).unwrap(), vec![(dot, key.clone())]);
        }
    }

    #[test]
    fn a_history_reads_as_it_was_written_whatever_was_there_and_equal_bodies_lie_there_once(
        key in keys(), before in transactions(), after in transactions(), stays in vec(any::<bool>(), 6),
    ) {
        // Some of what was there is still there.
        let kept = before.versions.iter().zip(&stays).filter(|(_, stays)| **stays).map(|(version, _)| version);
        let mut versions: Vec<Version> = kept.chain(&after.versions).cloned().collect();
        versions.sort_by_key(|version| version.dot);
        versions.dedup_by_key(|version| version.dot);
        let row = Row { versions, context: DotSet::default() };
        let other = Key::new([key.as_bytes(), b"x"].concat());

        let mut batch = Batch::default();
        put_row(&mut batch, &key, &before, &[]);
        other.iter().for_each(|other| put_row(&mut batch, other, &before, &[]));
        put_row(&mut batch, &key, &row, &before.versions);
        let mut store = stored(batch);

        let written = if row.versions.is_empty() { Record::Absent } else { Record::Row(row.clone()) };
        prop_assert_eq!(record(&store, &key).unwrap(), written);
        let bodies = |row: &Row| {
            let long = |version: &Version| {
                let body = version.value[version.body_at()..].to_vec();
                (body.len() >= BODY_BYTES_MIN).then_some(body)
            };
            let distinct: std::collections::BTreeSet<Vec<u8>> = row.versions.iter().filter_map(long).collect();
            if row.versions.len() > 1 { distinct.len() } else { 0 }
        };
        let beside = if other.is_ok() { bodies(&before) } else { 0 };
        prop_assert_eq!(store.tables().rows(Table::Bodies).len(), bodies(&row) + beside);

        let mut batch = Batch::default();
        let dots: Vec<Dot> = row.dots().collect();
        let lost = put_in_quarantine(&store, &mut batch, &key, Vec::new(), &dots).unwrap();
        store.apply(batch).unwrap();
        if row.versions.len() > 1 {
            let versions = Row { versions: row.versions.clone(), ..Row::default() };
            prop_assert_eq!(record(&store, &key).unwrap(), Record::Row(versions), "a rotten index costs nothing");
            prop_assert!(lost.is_empty());
        } else {
            prop_assert_eq!(record(&store, &key).unwrap(), Record::Rotten);
            prop_assert_eq!(lost, dots);
            prop_assert_eq!(store.tables().rows(Table::Bodies).len(), beside, "nothing is left of it");
        }
    }

    #[test]
    fn of_versions_that_lie_apart_only_those_are_lost_that_cannot_be_read(
        key in keys(),
        row in transactions(),
        place in any::<usize>(),
    ) {
        let mut batch = Batch::default();
        put_row(&mut batch, &key, &row, &[]);
        let mut store = stored(batch);
        let all = store.scan(Table::Versions, (Bound::Unbounded, Bound::Unbounded), 99, false).unwrap();
        prop_assume!(!all.is_empty());
        let (at, mut bytes) = all[place % all.len()].clone();
        let bit = place / all.len() % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut batch = Batch::default();
        batch.put(Table::Versions, at, bytes);
        store.apply(batch).unwrap();
        prop_assert_eq!(record(&store, &key).unwrap(), Record::Rotten);

        let dots: Vec<Dot> = row.dots().collect();
        let mut batch = Batch::default();
        let lost = put_in_quarantine(&store, &mut batch, &key, vec![1, 2, 3], &dots).unwrap();
        store.apply(batch).unwrap();

        prop_assert_eq!(lost.len(), 1);
        let left = row.versions.iter().filter(|version| version.dot != lost[0]).cloned().collect();
        prop_assert_eq!(
            record(&store, &key).unwrap(),
            Record::Row(Row { versions: left, ..Row::default() })
        );
        prop_assert_eq!(quarantined_dots(&store, &key).unwrap(), lost);
    }

    #[test]
    fn a_version_with_a_flag_that_nobody_sets_is_none(key in keys(), version in crate::testing::arbitrary::version(), flag in 3_u32..8) {
        let mut body = vec![0; HEAD_BYTES];
        encode_version(&mut body, &version);
        body[HEAD_BYTES] |= 1 << flag;

        let bytes = seal(FORMAT_ONE_VERSION, &key, body);

        prop_assert_eq!(decode_record(&key, bytes.into()), Record::Rotten);
    }

    #[test]
    fn a_flipped_bit_in_a_body_is_rot(key in keys(), row in transactions(), place in any::<usize>()) {
        let mut batch = Batch::default();
        put_row(&mut batch, &key, &row, &[]);
        let mut store = stored(batch);
        let all = store.scan(Table::Bodies, (Bound::Unbounded, Bound::Unbounded), 9, false).unwrap();
        if let Some((at, mut bytes)) = all.first().cloned() {
            let bit = place % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut batch = Batch::default();
            batch.put(Table::Bodies, at, bytes);
            store.apply(batch).unwrap();

            prop_assert_eq!(record(&store, &key).unwrap(), Record::Rotten);
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_a_record_is_rot(key in keys(), row in rows_(), place in any::<usize>()) {
        let mut bytes = encode_row(&key, &row);
        let bit = place % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);

        prop_assert_eq!(decode_record(&key, bytes.into()), Record::Rotten);
    }

    #[test]
    fn a_flipped_bit_in_the_format_of_a_record_is_rot(key in keys(), row in rows_(), bit in 0_u32..8) {
        let mut bytes = encode_row(&key, &row);
        bytes[0] ^= 1 << bit;

        prop_assert_eq!(decode_record(&key, bytes.into()), Record::Rotten);
    }

    #[test]
    fn a_record_that_is_cut_short_or_grew_is_rot(
        key in keys(), row in rows_(), place in any::<usize>(), more in any::<u8>()
    ) {
        let bytes = encode_row(&key, &row);
        let mut longer = bytes.clone();
        longer.push(more);

        let cut = &bytes[..place % bytes.len()];

        prop_assert_eq!(decode_record(&key, Bytes::copy_from_slice(cut)), Record::Rotten);
        prop_assert_eq!(decode_record(&key, longer.into()), Record::Rotten);
    }

    #[test]
    fn a_record_under_another_key_is_rot(key in keys(), other in keys(), row in rows_()) {
        prop_assume!(key != other);
        let bytes = encode_row(&key, &row);

        prop_assert_eq!(decode_record(&other, bytes.into()), Record::Rotten);
    }

    #[test]
    fn what_is_replaced_leaves_no_dot_behind(key in keys(), old in rows_(), new in rows_(), stays in any::<bool>()) {
        let mut new = new;
        if let Some(version) = old.versions.first().filter(|old| stays && new.version(old.dot).is_none()) {
            new.versions.push(version.clone());
            new.versions.sort_by_key(|version| version.dot);
        }
        let mut batch = Batch::default();
        put_row(&mut batch, &key, &old, &[]);
        put_row(&mut batch, &key, &new, &old.versions);
        let store = stored(batch);

        let (first, last) = ([0; 16], [255; 16]);
        let dot = |bytes: [u8; 16]| decode_dot(&bytes).expect("sixteen bytes");
        let held: Vec<Dot> = dots(&store, dot(first), dot(last), 9).unwrap().into_iter().map(|(dot, _)| dot).collect();
        prop_assert_eq!(held, new.dots().collect::<Vec<_>>());
    }

    #[test]
    fn dots_sort_as_their_rows_do(a in dots_(), b in dots_()) {
        prop_assert_eq!(a.cmp(&b), encode_dot(a).cmp(&encode_dot(b)));
    }

    #[test]
    fn seen_members_and_identity_read_as_they_were_written(
        dots in crate::testing::arbitrary::wild_dot_set(),
        member in members_(),
        (id, life, joined, high_water) in (names(), any::<u64>(), any::<u64>(), stamps()),
    ) {
        let identity_row = Identity { id, life, joined: WallTime(joined), high_water };
        let mut batch = Batch::default();
        for origin in dots.origins() {
            put_runs(&mut batch, Table::Seen, origin, dots.runs(origin));
        }
        put_member(&mut batch, &member);
        put_identity(&mut batch, &identity_row);
        let store = stored(batch);

        prop_assert_eq!(dot_set(&store, Table::Seen).unwrap(), dots);
        prop_assert_eq!(members(&store).unwrap(), vec![member]);
        prop_assert_eq!(identity(&store).unwrap(), Some(identity_row));
    }

    #[test]
    fn rows_that_are_cut_short_are_damage_and_no_panic(member in members_(), cut in 0..30_usize) {
        let mut batch = Batch::default();
        put_member(&mut batch, &member);
        put_runs(&mut batch, Table::Seen, Origin(1), &[(1, 2)]);
        put_identity(&mut batch, &Identity {
            id: member.member.id, life: 1, joined: WallTime(1), high_water: Stamp { millis: 1, counter: 0 },
        });
        for (_, _, value) in &mut batch.changes {
            let value = value.as_mut().expect("only puts");
            value.truncate(cut.min(value.len() - 1));
        }
        let store = stored(batch);

        // What is left of a text at the end may be a text; everything before it has a fixed length.
        if cut < 18 {
            prop_assert!(matches!(members(&store), Err(StorageError::Damaged(_))));
            prop_assert!(matches!(identity(&store), Err(StorageError::Damaged(_))));
        }
        // No run at all is a list of runs too.
        prop_assert_eq!(dot_set(&store, Table::Seen).is_ok(), cut == 0);
    }
}

#[test]
fn a_row_under_what_is_no_key_is_damage() {
    let mut batch = Batch::default();
    batch.put(Table::Records, "a//b", "anything");
    batch.put(Table::Dots, "short", "a");
    let store = stored(batch);

    let all = (Bound::Unbounded, Bound::Unbounded);
    let (first, last) = ([0; 16], [255; 16]);
    let dot = |bytes| decode_dot(bytes).expect("sixteen bytes");

    assert!(matches!(records(&store, all, 1, false), Err(StorageError::Damaged(_))));
    assert!(matches!(dots(&store, dot(&first), dot(&last), 1), Err(StorageError::Damaged(_))));
}

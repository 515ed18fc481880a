//! The laws of siblings: over every state of a small world, over drawn ones, and the traces S1 to S7, each of which
//! broke an earlier wording of the rules.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::{Stamp, WallTime};

fn dot(origin: u64, seq: u64) -> Dot {
    Dot { origin: Origin(origin), seq }
}

fn dots(dots: &[Dot]) -> DotSet {
    dots.iter().copied().collect()
}

/// The version that this dot names, with what it replaces. Every fourth write is a delete.
fn version(dot: Dot, replaced: &DotSet) -> Version {
    let tombstone = dot.seq.is_multiple_of(4);
    let text = if tombstone { String::new() } else { format!("{dot}") };
    Version {
        stamp: Stamp { millis: 1_000 + dot.seq, counter: 0 },
        dot,
        author_joined: WallTime(dot.origin.0),
        ruling: 0,
        confirms: None,
        tombstone,
        expires_at: None,
        content_type: "text/plain".into(),
        value: value(replaced, &Bytes::from(text)),
    }
}

/// A replica of one key.
#[derive(Clone, Debug, Default, PartialEq)]
struct Replica {
    row: Vec<Version>,
    seen: DotSet,
    collected: DotSet,
}

impl Replica {
    fn known(&self) -> Known<'_> {
        Known { seen: &self.seen, collected: &self.collected }
    }

    fn token(&self) -> Saw {
        Saw::Token(Token { context: context(&self.row, self.known()), stamp: Stamp::default() })
    }

    fn write(&mut self, dot: Dot, saw: &Saw) -> DotSet {
        let replaced = replaced_by(saw, &self.row, self.known(), 0);
        self.seen.insert(dot);
        self.row = merge(&self.row, &[version(dot, &replaced)]);
        replaced
    }

    /// As a stream brings it: every version, then the cover.
    fn hear(&mut self, other: &Replica) {
        self.row = merge(&self.row, &other.row);
        self.seen.union(&other.seen);
    }

    fn held(&self) -> Vec<Dot> {
        self.row.iter().map(|version| version.dot).collect()
    }
}

#[track_caller]
fn assert_laws(a: &[Version], b: &[Version], c: &[Version]) {
    assert_eq!(merge(a, b), merge(b, a), "commutative");
    assert_eq!(merge(&merge(a, b), c), merge(a, &merge(b, c)), "associative");
    assert_eq!(merge(a, a), merge(&[], a), "idempotent");
    assert_eq!(merge(&merge(a, b), b), merge(a, b), "and again");
}

/// Every closed world of three writes: each replaces none, or one, or both of those before it, with all that they
/// replaced.
fn every_world() -> Vec<Vec<Version>> {
    let named = [dot(1, 1), dot(2, 1), dot(3, 1)];
    let close = |of: &[DotSet], saw: &[usize]| {
        let mut out = DotSet::default();
        for &at in saw {
            out.insert(named[at]);
            out.union(&of[at]);
        }
        out
    };
    let mut worlds = Vec::new();
    for second in [vec![], vec![0]] {
        for third in [vec![], vec![0], vec![1], vec![0, 1]] {
            let mut replaced = vec![DotSet::default()];
            replaced.push(close(&replaced, &second));
            replaced.push(close(&replaced, &third));
            worlds.push((0..3).map(|at| version(named[at], &replaced[at])).collect());
        }
    }
    worlds
}

#[test]
fn the_laws_hold_for_every_three_sets_of_three_writes() {
    let mut triples = 0;
    for world in every_world() {
        let set = |bits: usize| -> Vec<Version> {
            (0..3).filter(|at| bits >> at & 1 == 1).map(|at| world[at].clone()).collect()
        };
        for a in 0..8 {
            for b in 0..8 {
                for c in 0..8 {
                    assert_laws(&set(a), &set(b), &set(c));
                    triples += 1;
                }
            }
        }
    }
    assert_eq!(triples, 8 * 512);
}

/// What replicas of one key do to each other.
#[derive(Clone, Debug)]
enum Happens {
    /// A client writes here with the token it last read at that replica, or without one.
    Writes { at: usize, read_at: Option<usize>, token: bool },
    /// Everything goes over.
    Tells { from: usize, to: usize },
    /// One version goes over alone, as pushes and repairs bring them.
    Slips { from: usize, to: usize, which: prop::sample::Index },
}

fn histories() -> impl Strategy<Value = Vec<Happens>> {
    let writes = (0_usize..3, proptest::option::of(0_usize..3), any::<bool>())
        .prop_map(|(at, read_at, token)| Happens::Writes { at, read_at, token });
    let tells = (0_usize..3, 0_usize..3).prop_map(|(from, to)| Happens::Tells { from, to });
    let slips = (0_usize..3, 0_usize..3, any::<prop::sample::Index>())
        .prop_map(|(from, to, which)| Happens::Slips { from, to, which });
    vec(prop_oneof![3 => writes, 1 => tells, 2 => slips], 1..40)
}

/// Replicas, every version ever written, and what each write replaced.
struct Told {
    replicas: Vec<Replica>,
    all: Vec<Version>,
    replaced: Vec<(Dot, DotSet)>,
}

impl Told {
    fn of(history: &[Happens]) -> Told {
        let mut told = Told { replicas: vec![Replica::default(); 3], all: Vec::new(), replaced: Vec::new() };
        for happens in history {
            match happens {
                Happens::Writes { at, read_at, token } => {
                    let token =
                        if *token { told.replicas[read_at.unwrap_or(*at)].token() } else { Saw::Nothing };
                    let dot = dot(*at as u64 + 1, told.replicas[*at].seen.last(Origin(*at as u64 + 1)) + 1);
                    let replaced = told.replicas[*at].write(dot, &token);
                    told.all.push(version(dot, &replaced));
                    told.replaced.push((dot, replaced));
                }
                Happens::Tells { from, to } => {
                    let from = told.replicas[*from].clone();
                    told.replicas[*to].hear(&from);
                }
                Happens::Slips { from, to, which } => {
                    let row = told.replicas[*from].row.clone();
                    if !row.is_empty() {
                        let version = which.get(&row).clone();
                        told.replicas[*to].seen.insert(version.dot);
                        told.replicas[*to].row = merge(&told.replicas[*to].row, &[version]);
                    }
                }
            }
        }
        told
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_laws_hold_for_what_clients_wrote(history in histories(), picks in vec(any::<u64>(), 3)) {
        let all = Told::of(&history).all;
        let set = |bits: u64| -> Vec<Version> {
            all.iter().enumerate().filter(|(at, _)| bits >> (at % 64) & 1 == 1).map(|(_, it)| it.clone()).collect()
        };
        assert_laws(&set(picks[0]), &set(picks[1]), &set(picks[2]));
    }

    #[test]
    fn versions_that_arrive_in_any_order_and_twice_come_to_the_same(
        history in histories(), order in vec(any::<prop::sample::Index>(), 0..60)
    ) {
        let all = Told::of(&history).all;
        if !all.is_empty() {
            let one = |row: Vec<Version>, version: &Version| merge(&row, std::slice::from_ref(version));
            let straight = all.iter().fold(Vec::new(), one);
            let mixed = order.iter().map(|index| index.get(&all)).chain(all.iter().rev());
            prop_assert_eq!(mixed.fold(Vec::new(), one), straight);
        }
    }

    #[test]
    fn replicas_that_told_each_other_everything_hold_the_same(history in histories()) {
        let mut told = Told::of(&history);
        for _ in 0..2 {
            for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 1)] {
                let from = told.replicas[from].clone();
                told.replicas[to].hear(&from);
            }
        }
        let rows: Vec<&Vec<Version>> = told.replicas.iter().map(|replica| &replica.row).collect();
        prop_assert_eq!(rows[0], rows[1]);
        prop_assert_eq!(rows[1], rows[2]);
        prop_assert_eq!(rows[0], &merge(&[], &told.all), "and that is what all writes together come to");
    }

    #[test]
    fn a_value_is_gone_only_where_a_write_that_saw_it_was(history in histories()) {
        let told = Told::of(&history);
        let held: BTreeSet<Dot> = merge(&[], &told.all).iter().map(|version| version.dot).collect();
        for (dot, _) in &told.replaced {
            let is_replaced = told.replaced.iter().any(|(_, replaced)| replaced.contains(*dot));
            prop_assert_eq!(held.contains(dot), !is_replaced, "{}", dot);
        }
    }

    #[test]
    fn who_names_a_version_names_all_that_it_replaced(history in histories()) {
        let told = Told::of(&history);
        for (_, outer) in &told.replaced {
            for (dot, inner) in &told.replaced {
                prop_assert!(!outer.contains(*dot) || outer.includes(inner));
            }
        }
    }

    #[test]
    fn a_head_reads_back_and_nonsense_is_a_plain_value(
        named in vec((0_u64..4, 1_u64..50), 0..20), bytes in vec(any::<u8>(), 0..20)
    ) {
        let replaced: DotSet = named.into_iter().map(|(origin, seq)| dot(origin, seq)).collect();
        let mut written = version(dot(9, 1), &DotSet::default());
        written.value = value(&replaced, &Bytes::from(bytes.clone()));
        prop_assert_eq!(replaces(&written), replaced);
        prop_assert_eq!(&bare(&written).value[..], &bytes[..]);

        written.value = Bytes::from(bytes.clone());
        if bytes.first() != Some(&FORMAT) {
            prop_assert_eq!(&bare(&written).value[..], &bytes[..]);
        }
    }
}

#[test]
fn s1_a_deleted_value_that_everybody_had_covered_does_not_return() {
    let mut a = Replica::default();
    a.write(dot(1, 3), &Saw::Nothing);
    let b = a.clone();

    a.write(dot(1, 4), &a.token());

    assert_eq!(merge(&a.row, &b.row), a.row);
    assert_eq!(a.held(), [dot(1, 4)]);
}

#[test]
fn s2_what_a_token_names_includes_what_the_versions_it_shows_replaced() {
    // e replaced d at b, and a has not heard. The client saw e only, and deletes it at a.
    let mut a = Replica::default();
    a.write(dot(1, 1), &Saw::Nothing);
    let mut b = a.clone();
    b.write(dot(2, 1), &b.token());

    a.write(dot(1, 4), &b.token());

    assert!(!a.seen.contains(dot(2, 1)), "a token marks nothing as seen");
    assert_eq!(a.held(), [dot(1, 4)]);
    assert_eq!(merge(&b.row, &a.row), a.row);
}

#[test]
fn s3_a_token_does_not_make_a_node_believe_that_it_has_other_keys() {
    let mut c = Replica::default();
    let token = Token { context: dots(&[dot(1, 7)]), stamp: Stamp::default() };

    c.write(dot(3, 1), &Saw::Token(token));

    assert!(!c.seen.contains(dot(1, 7)));
    assert_eq!(replaces(&c.row[0]), dots(&[dot(1, 7)]));
}

#[test]
fn s4_a_hot_key_names_one_run_per_writer_and_none_of_what_is_collected() {
    let mut a = Replica::default();
    for seq in (1..=1_000).filter(|seq| seq % 4 > 0) {
        // Other keys are written in between.
        a.seen.insert_run(Origin(1), 1, seq);
        a.write(dot(1, seq), &a.token());
    }
    assert_eq!(context(&a.row, a.known()).iter().collect::<Vec<_>>(), [(Origin(1), 1, 999)]);

    a.collected = a.seen.clone();
    a.write(dot(2, 1), &a.token());
    assert_eq!(replaces(&a.row[0]), dots(&[dot(1, 999)]), "what replaced the rest is collected everywhere");
}

#[test]
fn s5_of_a_row_that_both_hold_each_version_is_judged_by_itself() {
    // x replaced d by e; y came back from a backup with d.
    let mut x = Replica::default();
    x.write(dot(1, 1), &Saw::Nothing);
    let y = x.clone();
    x.write(dot(1, 2), &x.token());

    assert_eq!(merge(&x.row, &y.row), x.row);
    assert_eq!(merge(&y.row, &x.row), x.row);
}

#[test]
fn s6_a_delete_without_a_token_deletes_what_its_node_has_and_a_write_replaces_what_nobody_can_miss() {
    let mut a = Replica::default();
    a.write(dot(1, 1), &Saw::Nothing);
    a.write(dot(1, 2), &Saw::Nothing);
    let mut b = Replica::default();
    b.write(dot(3, 1), &Saw::Nothing);

    a.write(dot(1, 4), &Saw::Everything);
    assert_eq!(a.held(), [dot(1, 4)]);
    a.hear(&b);
    assert_eq!(a.held(), [dot(1, 4), dot(3, 1)], "a value that the delete did not see stays");

    a.write(dot(1, 5), &Saw::Nothing);
    assert_eq!(a.held(), [dot(1, 5), dot(3, 1)], "the tombstone is replaced by any write");
}

#[test]
fn s7_a_merge_keeps_more_siblings_than_a_node_would_take() {
    let side = |origin| {
        let mut side = Replica::default();
        for seq in (1..=40).filter(|seq| seq % 4 > 0) {
            side.write(dot(origin, seq), &Saw::Nothing);
        }
        side
    };
    let mut all = side(1);
    all.hear(&side(2));
    all.hear(&side(3));

    assert_eq!(all.held().len(), 90);
    assert_eq!(count_after(&all.row, &DotSet::default(), 0), 91);
    assert_eq!(count_after(&all.row, &replaced_by(&all.token(), &all.row, all.known(), 0), 0), 1);
}

#[test]
fn two_contents_under_one_dot_have_one_winner_on_both_sides() {
    let a = version(dot(1, 1), &DotSet::default());
    let b = Version { value: "another".into(), ..a.clone() };
    let (a, b) = (std::slice::from_ref(&a), std::slice::from_ref(&b));

    assert_eq!(merge(a, b), merge(b, a));
    assert_eq!(merge(a, b).len(), 1);
}

#[test]
fn what_no_node_can_have_written_is_malformed() {
    let good = version(dot(1, 1), &dots(&[dot(2, 1)]));
    let with = |value: Bytes| Version { value, ..good.clone() };

    assert!(is_well_formed(&good));
    assert!(!is_well_formed(&with(value(&dots(&[dot(1, 1)]), &Bytes::new()))), "it names itself");
    assert!(!is_well_formed(&with(vec![b'x'; Version::VALUE_BYTES_MAX + 1].into())));
    let deleted = version(dot(1, 4), &dots(&[dot(2, 1)]));
    assert!(is_well_formed(&deleted));
    let speaks = Version { value: value(&DotSet::default(), &Bytes::from_static(b"x")), ..deleted };
    assert!(!is_well_formed(&speaks), "a tombstone says nothing");
}

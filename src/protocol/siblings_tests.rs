//! The laws of the merge over every state of three writes, and the traces S1 to S7, each of which broke an earlier
//! wording of the rules.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::{Origin, Stamp, WallTime};

fn dot(origin: u64, seq: u64) -> Dot {
    Dot { origin: Origin(origin), seq }
}

/// The one version that this dot names.
fn version(dot: Dot) -> Version {
    Version {
        stamp: Stamp { millis: 1_000 + dot.seq, counter: 0 },
        dot,
        author_joined: WallTime(dot.origin.0),
        ruling: 0,
        confirms: None,
        tombstone: dot.seq.is_multiple_of(4),
        expires_at: None,
        content_type: "text/plain".into(),
        value: format!("{dot}").into_bytes().into(),
    }
}

/// A replica of one key: its row, and what it has seen.
#[derive(Clone, Debug, Default)]
struct Replica {
    row: Row,
    seen: DotSet,
}

impl Replica {
    /// Holds `held` and knows that `gone` are replaced; of these `named` are only known by a token.
    fn of(held: &[Dot], gone: &[Dot], named: &[Dot]) -> Replica {
        let mut replica = Replica::default();
        for &dot in held {
            replica.row.versions.push(version(dot));
            replica.seen.insert(dot);
        }
        replica.row.versions.sort_by_key(|version| version.dot);
        for &dot in gone {
            replica.seen.insert(dot);
        }
        replica.row.context = named.iter().copied().collect::<DotSet>().minus(&replica.seen);
        replica
    }

    fn side(&self) -> Side<'_> {
        Side { row: &self.row, seen: &self.seen }
    }

    fn context(&self) -> DotSet {
        let mut context = self.seen.clone();
        context.union(&self.row.context);
        context
    }

    /// As the replica does it: a row that is missing altogether is taken as it is.
    fn merge(&self, other: &Replica) -> Replica {
        let mut seen = self.seen.clone();
        for dot in other.row.dots() {
            seen.insert(dot);
        }
        Replica { row: merge(self.side(), other.side(), &seen), seen }
    }

    fn write(&mut self, dot: Dot, saw: &DotSet) {
        self.seen.insert(dot);
        self.row = write(&self.row, saw, version(dot), &self.seen, 0);
    }

    /// A delete without a token: it saw what this replica has.
    fn delete(&mut self, dot: Dot) {
        self.write(dot, &self.context());
    }

    fn held(&self) -> Vec<Dot> {
        self.row.dots().collect()
    }
}

/// What two replicas must agree in: the versions, and what is known of others.
fn essence(replica: &Replica) -> (Row, DotSet) {
    let row = Row { context: DotSet::default(), ..replica.row.clone() };
    (row, replica.context())
}

fn assert_same(a: &Replica, b: &Replica) {
    assert_eq!(essence(a), essence(b));
}

#[track_caller]
fn assert_laws(a: &Replica, b: &Replica, c: &Replica) {
    assert_same(&a.merge(b), &b.merge(a));
    assert_same(&a.merge(b).merge(c), &a.merge(&b.merge(c)));
    assert_same(&a.merge(a), a);
    assert_same(&a.merge(b).merge(b), &a.merge(b));
}

/// Every state of a replica in a world of three writes: each unknown, held or replaced.
fn every_state() -> Vec<Replica> {
    let dots = [dot(1, 1), dot(1, 2), dot(2, 1)];
    let of = |state: usize| {
        let is = |at: usize, what: usize| state / 3_usize.pow(at as u32) % 3 == what;
        let all = |what| (0..3).filter(|&at| is(at, what)).map(|at| dots[at]).collect::<Vec<_>>();
        Replica::of(&all(1), &all(2), &[])
    };
    (0..27).map(of).collect()
}

#[test]
fn the_laws_hold_for_every_state_of_three_writes() {
    let states = every_state();
    let mut triples = 0;
    for a in &states {
        for b in &states {
            for c in &states {
                assert_laws(a, b, c);
                triples += 1;
            }
        }
    }
    assert_eq!(triples, 19_683);
}

fn replicas() -> impl Strategy<Value = Replica> {
    let dots = || vec((1_u64..4, 1_u64..6).prop_map(|(origin, seq)| dot(origin, seq)), 0..6);
    (dots(), dots(), dots()).prop_map(|(mut held, gone, named)| {
        held.sort();
        held.dedup();
        let named: Vec<Dot> = named.into_iter().filter(|dot| !held.contains(dot)).collect();
        let gone: Vec<Dot> = gone.into_iter().filter(|dot| !held.contains(dot)).collect();
        Replica::of(&held, &gone, &named)
    })
}

/// What replicas of one key do to each other.
#[derive(Clone, Debug)]
enum Happens {
    /// A client writes here with the token it last read at that replica, or without one.
    Writes { at: usize, read_at: Option<usize>, token: bool },
    /// The row goes over.
    Tells { from: usize, to: usize },
}

fn histories() -> impl Strategy<Value = Vec<Happens>> {
    let writes = (0_usize..3, proptest::option::of(0_usize..3), any::<bool>())
        .prop_map(|(at, read_at, token)| Happens::Writes { at, read_at, token });
    let tells = (0_usize..3, 0_usize..3).prop_map(|(from, to)| Happens::Tells { from, to });
    vec(prop_oneof![writes, tells], 1..40)
}

/// Replicas, and for each write what its client had seen.
#[derive(Default)]
struct Told {
    replicas: Vec<Replica>,
    saw: Vec<(Dot, DotSet)>,
}

impl Told {
    fn of(history: &[Happens]) -> Told {
        let mut told = Told { replicas: vec![Replica::default(); 3], saw: Vec::new() };
        for happens in history {
            match *happens {
                Happens::Writes { at, read_at, token } => {
                    let read = told.replicas[read_at.unwrap_or(at)].context();
                    let saw = if token { read } else { DotSet::default() };
                    let seq = told.replicas[at].seen.last(Origin(at as u64 + 1)) + 1;
                    let dot = dot(at as u64 + 1, seq);
                    told.replicas[at].write(dot, &saw);
                    told.saw.push((dot, saw));
                }
                Happens::Tells { from, to } => {
                    told.replicas[to] = told.replicas[to].merge(&told.replicas[from].clone());
                }
            }
        }
        told
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_laws_hold_whatever_was_seen_or_named(a in replicas(), b in replicas(), c in replicas()) {
        assert_laws(&a, &b, &c);
    }

    #[test]
    fn rows_that_arrive_in_any_order_and_twice_come_to_the_same(
        rows in vec(replicas(), 1..5), order in vec(any::<prop::sample::Index>(), 0..8)
    ) {
        let straight = rows.iter().fold(Replica::default(), |all, row| all.merge(row));
        let mixed = order.iter().map(|index| index.get(&rows)).chain(rows.iter().rev());
        let mixed = mixed.fold(Replica::default(), |all, row| all.merge(row));
        assert_same(&straight, &mixed);
    }

    #[test]
    fn a_value_is_gone_only_where_a_write_that_saw_it_was(history in histories()) {
        let told = Told::of(&history);
        let all = told.replicas.iter().fold(Replica::default(), |all, replica| all.merge(replica));
        for (dot, _) in told.saw.iter().filter(|(dot, _)| !version(*dot).tombstone) {
            let is_replaced = told.saw.iter().any(|(_, saw)| saw.contains(*dot));
            prop_assert_eq!(all.held().contains(dot), !is_replaced, "{}", dot);
        }
    }

    #[test]
    fn whoever_holds_a_write_knows_what_it_replaced(history in histories()) {
        let told = Told::of(&history);
        for replica in &told.replicas {
            for (_, saw) in told.saw.iter().filter(|(dot, _)| replica.seen.contains(*dot)) {
                prop_assert!(replica.context().includes(saw));
                prop_assert!(replica.held().iter().all(|held| !saw.contains(*held)));
            }
        }
    }
}

fn saw(dots: &[Dot]) -> DotSet {
    dots.iter().copied().collect()
}

#[test]
fn s1_a_deleted_value_that_everybody_had_covered_does_not_return() {
    let (d, tombstone) = (dot(1, 1), dot(1, 4));
    let mut a = Replica::of(&[d], &[], &[]);
    let b = a.clone();

    a.write(tombstone, &saw(&[d]));

    assert_eq!(a.merge(&b).held(), [tombstone]);
    assert_eq!(b.merge(&a).held(), [tombstone]);
}

#[test]
fn s2_what_a_token_names_is_no_cover_for_what_the_token_does_not_name() {
    // e replaced d at b, and a has not heard. The client saw e only, and deletes it at a.
    let (d, e, tombstone) = (dot(1, 1), dot(2, 1), dot(1, 4));
    let mut a = Replica::of(&[d], &[], &[]);
    let b = Replica::of(&[e], &[d], &[]);

    a.write(tombstone, &saw(&[e]));
    assert!(!a.seen.contains(e), "a token marks nothing as seen");

    assert_eq!(a.merge(&b).held(), [tombstone]);
    assert_eq!(b.merge(&a).held(), [tombstone]);
}

#[test]
fn s3_a_token_does_not_make_a_node_believe_that_it_has_other_keys() {
    let other_keys = dot(1, 7);
    let mut c = Replica::default();

    c.write(dot(3, 1), &saw(&[other_keys]));

    assert!(!c.seen.contains(other_keys));
    assert!(c.row.context.contains(other_keys));
}

#[test]
fn s4_a_hot_keys_row_stays_as_small_as_what_seen_lacks() {
    let mut a = Replica::default();
    for seq in 1..=1_000 {
        let token = a.context();
        a.write(dot(1, seq), &token);
    }

    assert_eq!(a.row.versions.len(), 1);
    assert!(a.row.context.is_empty());
    assert_eq!(a.context().iter().count(), 1, "a run, however many writes it stands for");
}

#[test]
fn s5_of_a_row_that_both_hold_each_version_is_judged_by_itself() {
    // x replaced d by e; y came back from a backup with d.
    let (d, e) = (dot(1, 1), dot(1, 2));
    let (x, y) = (Replica::of(&[e], &[d], &[]), Replica::of(&[d], &[], &[]));

    assert_eq!(x.merge(&y).held(), [e]);
    assert_eq!(y.merge(&x).held(), [e]);
}

#[test]
fn s6_a_delete_without_a_token_deletes_what_its_node_has_and_no_tombstone_stays_beside_a_value() {
    let mut a = Replica::of(&[dot(1, 1), dot(2, 1)], &[], &[]);
    let b = Replica::of(&[dot(3, 1)], &[], &[]);

    a.delete(dot(1, 4));
    assert_eq!(a.held(), [dot(1, 4)]);
    let mut all = a.merge(&b);
    assert_eq!(all.held(), [dot(1, 4), dot(3, 1)], "a value that the delete did not see stays");

    all.write(dot(3, 2), &DotSet::default());
    assert_eq!(all.held(), [dot(3, 1), dot(3, 2)]);
}

#[test]
fn s7_a_merge_keeps_more_siblings_than_a_node_would_take() {
    let side = |origin| {
        let dots: Vec<Dot> = (1..=40).filter(|seq| seq % 4 > 0).map(|seq| dot(origin, seq)).collect();
        Replica::of(&dots, &[], &[])
    };
    let all = side(1).merge(&side(2)).merge(&side(3));

    assert_eq!(all.held().len(), 90);
    assert_eq!(count_after(&all.row, &DotSet::default(), 0), 91);
    assert_eq!(count_after(&all.row, &all.context(), 0), 1);
}

#[test]
fn two_contents_under_one_dot_have_one_winner_on_both_sides() {
    let a = Replica::of(&[dot(1, 1)], &[], &[]);
    let mut b = a.clone();
    b.row.versions[0].value = "another".into();

    assert_eq!(a.merge(&b).row.versions, b.merge(&a).row.versions);
}

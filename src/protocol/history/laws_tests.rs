//! The laws of histories over random graphs: criss-cross merges, many roots, equal ages, any order of arrival.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::Strategy as Strategy_;

use super::*;
use crate::model::{Dot, DotSet, Origin, Stamp, Strategy, WallTime};

/// One write: by which of four authors, on top of the heads of which part of what was written before.
#[derive(Clone, Debug)]
struct Write {
    author: u8,
    /// Of each earlier write, whether its author saw it.
    saw: Vec<bool>,
    kind: u8,
    offset: u8,
}

fn write() -> impl Strategy_<Value = Write> {
    (0_u8..4, vec(any::<bool>(), 12), 0_u8..5, 0_u8..6).prop_map(|(author, saw, kind, offset)| Write {
        author,
        saw,
        kind,
        offset,
    })
}

/// A graph such as replicas make: every write closes all heads of what its author saw, an ancestor-closed part.
fn history(writes: &[Write]) -> Vec<Version> {
    let mut versions: Vec<Version> = Vec::new();
    for (at, write) in writes.iter().enumerate() {
        let mut saw: BTreeSet<usize> = BTreeSet::new();
        let all = graph(&versions);
        for earlier in (0..at).filter(|&earlier| write.saw.get(earlier).copied().unwrap_or(false)) {
            let dot = versions[earlier].dot;
            let place = all.transactions().iter().position(|transaction| transaction.dot == dot).unwrap();
            let dots = all.ancestors([place]).into_iter().map(|at| all.transaction(at).dot);
            saw.extend(dots.map(|dot| versions.iter().position(|version| version.dot == dot).unwrap()));
        }
        let part: Vec<Version> = saw.iter().map(|&at| versions[at].clone()).collect();
        let part = graph(&part);
        let parents: Vec<Parent> =
            part.heads().iter().map(|&head| part.transaction(head).as_parent()).collect();
        let kind = match write.kind {
            0 => Kind::Delete,
            1 | 2 => Kind::Full,
            _ => Kind::Patch { offset: write.offset.into() },
        };
        let mut vector = Vector::default();
        saw.iter().for_each(|&at| vector.insert(versions[at].dot));
        // A run knows all that it wrote; who does not is another one.
        let joined = WallTime((write.author / 2).into());
        let last = versions.iter().rposition(|version| version.dot.origin.0 / 100 == u64::from(write.author));
        let run = match last {
            Some(last) if saw.contains(&last) => versions[last].dot.origin,
            _ => Origin(u64::from(write.author) * 100 + at as u64),
        };
        let bytes = if kind == Kind::Delete { String::new() } else { format!("{at:02}") };
        versions.push(Version {
            stamp: Stamp { millis: 1000 + at as u64, counter: 0 },
            dot: Dot { origin: run, seq: at as u64 + 1 },
            // Two of the four are equally old.
            author_joined: joined,
            ruling: 0,
            confirms: None,
            tombstone: false,
            expires_at: None,
            content_type: String::new(),
            value: transaction::value(kind, &parents, &vector, &bytes.into_bytes().into()),
        });
    }
    versions
}

fn graph(versions: &[Version]) -> Dag {
    let seen: DotSet = versions.iter().map(|version| version.dot).collect();
    Dag::new(versions.iter().map(Transaction::read).collect(), &seen)
}

fn part(versions: &[Version], mask: &[bool]) -> Vec<Version> {
    let held = |at: &usize| mask.get(*at).copied().unwrap_or(true);
    (0..versions.len()).filter(held).map(|at| versions[at].clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        writes in vec(write(), 0..12),
        masks in [vec(any::<bool>(), 12), vec(any::<bool>(), 12), vec(any::<bool>(), 12)],
    ) {
        let versions = history(&writes);
        let [a, b, c] = masks.map(|mask| part(&versions, &mask));

        prop_assert_eq!(merge(&a, &b), merge(&b, &a));
        prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
        let ab = merge(&a, &b);
        prop_assert_eq!(&merge(&ab, &a), &ab);
        prop_assert_eq!(&merge(&ab, &ab), &ab);
    }

    #[test]
    fn views_are_functions_of_the_set_in_whatever_order_it_came(
        writes in vec(write(), 0..12),
        order in Just((0..12).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let versions = history(&writes);
        let shuffled: Vec<Version> =
            order.into_iter().filter_map(|at| versions.get(at).cloned()).collect();

        let (a, b) = (graph(&versions), graph(&shuffled));

        for strategy in Strategy::ALL {
            prop_assert_eq!(View::of(&a, strategy), View::of(&b, strategy));
        }
    }

    #[test]
    fn a_view_is_total_each_transaction_at_most_once_and_after_those_of_its_parents_that_are_in_it(
        writes in vec(write(), 1..12),
    ) {
        let dag = graph(&history(&writes));

        prop_assert_eq!(dag.shown().len(), writes.len());
        for strategy in Strategy::ALL {
            let view = View::of(&dag, strategy);
            let places: std::collections::BTreeMap<usize, usize> =
                view.order.iter().enumerate().map(|(place, &at)| (at, place)).collect();
            prop_assert_eq!(places.len(), view.order.len(), "at most once");
            for (&at, place) in &places {
                for parent in dag.parents(at) {
                    prop_assert!(places.get(parent).is_none_or(|before| before < place));
                }
            }
            match strategy {
                Strategy::LocalOverNetwork | Strategy::NetworkOverLocal => {
                    prop_assert_eq!(view.order.len(), writes.len(), "every one of them");
                }
                Strategy::PreferNetwork | Strategy::PreferLocal => {
                    let last = view.order.last().expect("there is a write");
                    prop_assert!(view.heads.contains(last), "it ends at a head");
                }
                Strategy::Fail => prop_assert_eq!(view.conflict, view.heads.len() > 1),
            }
            let listed = (0..writes.len()).map(|at| view.fate(&dag, at));
            let kept = listed.filter(|fate| *fate == Fate::Kept).count();
            prop_assert_eq!(kept + view.discarded(&dag), writes.len(), "kept or discarded, never lost");
        }
    }

    #[test]
    fn a_write_over_the_heads_comes_last_in_every_view_and_changes_nothing_before_it(
        writes in vec(write(), 1..11),
        author in 0_u8..4,
    ) {
        let versions = history(&writes);
        let before = graph(&versions);
        let mut writes = writes;
        writes.push(Write { author, saw: vec![true; 12], kind: 1, offset: 0 });
        let after_versions = history(&writes);

        let after = graph(&after_versions);

        let dots = |dag: &Dag, order: &[usize]| -> Vec<Dot> {
            order.iter().map(|&at| dag.transaction(at).dot).collect()
        };
        let new = after_versions.last().unwrap().dot;
        for strategy in [
            Strategy::PreferNetwork,
            Strategy::PreferLocal,
            Strategy::LocalOverNetwork,
            Strategy::NetworkOverLocal,
        ] {
            let (old, now) = (View::of(&before, strategy), View::of(&after, strategy));
            let mut expected = dots(&before, &old.order);
            expected.push(new);
            prop_assert_eq!(dots(&after, &now.order), expected);
            prop_assert_eq!(now.heads.len(), 1);
        }
    }

    #[test]
    fn no_patch_takes_effect_on_a_generation_that_its_writer_did_not_know(writes in vec(write(), 1..12)) {
        let dag = graph(&history(&writes));

        for strategy in Strategy::ALL {
            let view = View::of(&dag, strategy);
            let mut opener: Vec<usize> = Vec::new();
            let mut is_deleted = false;
            for &at in &view.order {
                match dag.transaction(at).kind {
                    Kind::Delete => (opener, is_deleted) = (vec![at], true),
                    Kind::Full => opener.push(at),
                    Kind::Patch { .. } => {
                        let knows = !dag.ancestors([at]).is_disjoint(&opener.iter().copied().collect());
                        prop_assert_eq!(view.skipped.contains(&at), is_deleted && !knows);
                    }
                }
            }
        }
    }

    #[test]
    fn a_patch_takes_effect_exactly_where_it_was_made_on_top_of_the_last_delete_or_a_full_write_after_it(
        writes in vec(write(), 1..12),
    ) {
        let dag = graph(&history(&writes));
        for strategy in Strategy::ALL {
            let view = View::of(&dag, strategy);
            // The rule as it is told, word for word; no view looks at all ancestors of all.
            let (mut openers, mut is_first) = (BTreeSet::new(), true);
            for &at in &view.order {
                match dag.transaction(at).kind {
                    Kind::Delete => {
                        openers = [at].into();
                        is_first = false;
                    }
                    Kind::Full => drop(openers.insert(at)),
                    Kind::Patch { .. } => {
                        let is_of_generation = is_first || !dag.ancestors([at]).is_disjoint(&openers);
                        prop_assert_eq!(view.skipped.contains(&at), !is_of_generation, "{:?} {:?}", strategy, dag);
                    }
                }
            }
        }
    }

    #[test]
    fn the_common_part_lies_on_every_path(writes in vec(write(), 1..10)) {
        let dag = graph(&history(&writes));
        let without = |cut: usize| {
            // What can still be reached from the beginning when `cut` is taken out.
            let mut reached: BTreeSet<usize> = BTreeSet::new();
            let mut todo: Vec<usize> = dag.roots().to_vec();
            while let Some(at) = todo.pop() {
                if at != cut && reached.insert(at) {
                    todo.extend(dag.children(at));
                }
            }
            dag.heads().iter().any(|head| reached.contains(head))
        };

        let on_every_path: Vec<usize> =
            dag.shown().iter().copied().filter(|&at| !without(at)).collect();

        let common = dag.common();
        prop_assert_eq!(common.is_some(), !on_every_path.is_empty());
        if let Some(common) = common {
            prop_assert!(on_every_path.contains(&common));
            let above = dag.ancestors([common]);
            prop_assert!(on_every_path.iter().all(|at| above.contains(at)), "the nearest of them");
        }
    }

    #[test]
    fn a_patch_that_lacks_an_ancestor_is_hidden_and_all_is_shown_once_it_came(
        writes in vec(write(), 1..12),
        mask in vec(any::<bool>(), 12),
    ) {
        let versions = history(&writes);
        let held = part(&versions, &mask);

        let dag = graph(&held);

        // Parents were written first.
        let mut shown: BTreeSet<Dot> = BTreeSet::new();
        for version in &held {
            let transaction = Transaction::read(version);
            let has_parents = transaction.parents.iter().all(|parent| shown.contains(&parent.dot));
            if has_parents || transaction.vector.is_some() {
                shown.insert(version.dot);
            }
        }
        for at in 0..held.len() {
            let is_shown = shown.contains(&dag.transaction(at).dot);
            prop_assert_eq!(dag.hidden(at), (!is_shown).then_some(Hidden::Awaiting));
        }
        prop_assert_eq!(graph(&merge(&held, &versions)).shown().len(), versions.len());
    }

    #[test]
    fn truncating_the_past_of_a_checkpoint_changes_no_view_nor_any_later_one(
        writes in vec(write(), 1..7),
        later in vec(write(), 0..6),
        mask in vec(any::<bool>(), 12),
    ) {
        let before = writes.len();
        let mut all = writes;
        all.extend(later.into_iter().map(|mut write| {
            // Whoever writes later has covered what was there.
            write.saw[..before].fill(true);
            write
        }));
        let versions = history(&all);
        for checkpoint in graph(&versions[..before]).checkpoints() {
            let early = graph(&versions[..before]);
            let past: BTreeSet<Dot> =
                early.past(checkpoint).into_iter().map(|at| early.transaction(at).dot).collect();
            // Some of it may be left: truncated elsewhere, and come back by halves.
            let stays = |at: usize| !past.contains(&versions[at].dot) || mask[at];
            for count in before..=versions.len() {
                let whole = graph(&versions[..count]);
                let rest: Vec<Version> =
                    (0..count).filter(|at| stays(*at)).map(|at| versions[at].clone()).collect();
                let rest_graph = graph(&rest);
                let dots = |dag: &Dag, places: &[usize]| -> Vec<Dot> {
                    places.iter().map(|&at| dag.transaction(at).dot).collect()
                };
                for strategy in Strategy::ALL {
                    let (one, other) = (View::of(&whole, strategy), View::of(&rest_graph, strategy));
                    prop_assert_eq!(one.state, other.state);
                    prop_assert_eq!(dots(&whole, &one.heads), dots(&rest_graph, &other.heads));
                }
                let counted = |versions: &[Version]| -> Vec<Dot> {
                    let past = super::past(versions);
                    versions.iter().map(|version| version.dot).filter(|dot| !past.contains(dot)).collect()
                };
                prop_assert_eq!(counted(&versions[..count]), counted(&rest), "the sums are equal");
            }
        }
    }

    #[test]
    fn what_a_full_write_stands_on_does_not_depend_on_what_is_left_of_its_past(
        writes in vec(write(), 1..7),
        beside in (vec(any::<bool>(), 12), 0_u8..6),
        later in vec((any::<bool>(), 0_u8..5), 1..4),
        masks in [vec(any::<bool>(), 12), vec(any::<bool>(), 12)],
    ) {
        // Somebody who came back with an old disk patches what others have truncated, while they write on.
        let mut all = writes.clone();
        all.push(Write { author: 9, saw: beside.0, kind: 4, offset: beside.1 });
        let mut versions = history(&all);
        let patch = versions.pop().expect("just written");
        let early = graph(&versions);
        let Some(checkpoint) = early.checkpoints().next() else { return Ok(()) };
        let past: BTreeSet<Dot> = early.past(checkpoint).into_iter().map(|at| early.transaction(at).dot).collect();
        let mut seen: DotSet = versions.iter().map(|version| version.dot).collect();
        seen.insert(patch.dot);
        let rest = |versions: &[Version], mask: &[bool]| -> Vec<Version> {
            let stays = |at: &usize| !past.contains(&versions[*at].dot) || mask.get(*at).copied().unwrap_or(true);
            (0..versions.len()).filter(stays).map(|at| versions[at].clone()).collect()
        };
        versions.push(patch);
        for (number, (is_whole, kind)) in later.into_iter().enumerate() {
            let held = if is_whole { versions.clone() } else { rest(&versions, &masks[0]) };
            let (parents, vector) = super::heads(&held, &seen, &DotSet::default());
            let kind = if kind == 0 { Kind::Delete } else { Kind::Full };
            let mut version = versions[0].clone();
            version.stamp = Stamp { millis: 2_000 + number as u64, counter: 0 };
            version.dot = Dot { origin: Origin(1_000), seq: 1 + number as u64 };
            version.value = transaction::value(kind, &parents, &vector, &vec![number as u8].into());
            seen.insert(version.dot);
            versions.push(version);

            let some = rest(&versions, &masks[1]);
            let (one, other) = (graph(&versions), graph(&some));
            let counted = |versions: &[Version]| -> Vec<Dot> {
                let past = super::past(versions);
                versions.iter().map(|version| version.dot).filter(|dot| !past.contains(dot)).collect()
            };
            let heads = |dag: &Dag| -> Vec<Dot> {
                dag.heads().into_iter().map(|at| dag.transaction(at).dot).collect()
            };
            prop_assert_eq!(heads(&one), heads(&other));
            prop_assert_eq!(counted(&versions), counted(&some), "the sums are equal");
            for strategy in Strategy::ALL {
                prop_assert_eq!(View::of(&one, strategy).state, View::of(&other, strategy).state);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_transaction_and_only_a_head_reads_as_one(bytes in vec(any::<u8>(), 0..60)) {
        let version = Version { value: bytes.clone().into(), ..history(&[]).pop().unwrap_or_else(|| {
            history(&[Write { author: 0, saw: Vec::new(), kind: 1, offset: 0 }]).remove(0)
        }) };

        let transaction = Transaction::read(&version);

        let length = transaction.bytes.len();
        prop_assert!(version.body_at() == bytes.len() - length || version.body_at() > 0 && length == bytes.len());
        prop_assert!(length == bytes.len() || bytes[0] == 0xE1);
    }
}

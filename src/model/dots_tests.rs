//! Sets of dots against a plain set of dots.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testing::arbitrary::{dot, dot_set, origin};

/// The same set, one dot at a time.
fn model(set: &DotSet) -> BTreeSet<Dot> {
    set.iter().flat_map(|(origin, first, last)| (first..=last).map(move |seq| Dot { origin, seq })).collect()
}

fn set(dots: &BTreeSet<Dot>) -> DotSet {
    dots.iter().copied().collect()
}

/// The one way to write a set down; anything else would give equal sets different digests.
fn assert_canonical(set: &DotSet) {
    for origin in set.origins() {
        let runs = set.runs(origin);
        assert!(!runs.is_empty());
        assert!(runs.iter().all(|(first, last)| 1 <= *first && first <= last), "{runs:?}");
        assert!(runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{runs:?}");
    }
}

proptest! {
    #[test]
    fn inserting_dots_in_any_order_gives_the_set_of_them(dots in vec(dot(), 0..40)) {
        let mut given = DotSet::default();
        let mut expected = BTreeSet::new();

        for dot in dots {
            prop_assert_eq!(given.insert(dot), expected.insert(dot));
            prop_assert!(given.contains(dot));
        }

        assert_canonical(&given);
        prop_assert_eq!(model(&given), expected.clone());
        prop_assert_eq!(given.count(), expected.len() as u64);
        prop_assert_eq!(given.is_empty(), expected.is_empty());
    }

    #[test]
    fn a_run_is_its_dots(before in dot_set(), origin in origin(), first in 1_u64..12, more in 0_u64..12) {
        let last = first + more;
        let (mut given, mut expected) = (before.clone(), model(&before));

        given.insert_run(origin, first, last);
        expected.extend((first..=last).map(|seq| Dot { origin, seq }));

        assert_canonical(&given);
        prop_assert_eq!(model(&given), expected);
    }

    #[test]
    fn union_minus_and_includes_are_those_of_sets(one in dot_set(), other in dot_set()) {
        let mut union = one.clone();
        union.union(&other);
        let minus = one.minus(&other);

        assert_canonical(&union);
        assert_canonical(&minus);
        prop_assert_eq!(model(&union), &model(&one) | &model(&other));
        prop_assert_eq!(model(&minus), &model(&one) - &model(&other));
        prop_assert_eq!(one.includes(&other), model(&one).is_superset(&model(&other)));
        prop_assert!(union.includes(&one) && union.includes(&other));
    }

    #[test]
    fn what_is_asked_of_a_set_is_what_its_dots_say(given in dot_set(), dot in dot()) {
        let expected = model(&given);
        let of_origin: Vec<u64> = expected.iter().filter(|each| each.origin == dot.origin).map(|each| each.seq).collect();
        let last = of_origin.last().copied().unwrap_or(0);

        prop_assert_eq!(given.contains(dot), expected.contains(&dot));
        prop_assert_eq!(given.last(dot.origin), last);
        prop_assert_eq!(given.has_hole(dot.origin), (of_origin.len() as u64) < last);
        let origins: BTreeSet<Origin> = expected.iter().map(|each| each.origin).collect();
        prop_assert_eq!(given.origins().collect::<BTreeSet<_>>(), origins.clone());
        prop_assert_eq!(given.origin_count(), origins.len());
    }

    #[test]
    fn digests_are_equal_when_the_sets_are(one in dot_set(), other in dot_set()) {
        prop_assert_eq!(one.digest(), set(&model(&one)).digest());
        prop_assert_eq!(one.digest() == other.digest(), one == other);
        prop_assert_eq!(one == other, model(&one) == model(&other));
    }

    #[test]
    fn the_canonical_form_survives_being_written_down(given in dot_set()) {
        let runs: Vec<(Origin, Vec<(u64, u64)>)> = given.clone().into();

        prop_assert_eq!(DotSet::try_from(runs), Ok(given));
    }

    #[test]
    fn a_list_of_runs_is_taken_if_and_only_if_it_is_the_canonical_one(
        runs in vec((origin(), vec((0_u64..8, 0_u64..8), 0..4)), 0..3),
    ) {
        let is_ascending = runs.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let is_canonical = is_ascending && runs.iter().all(|(_, runs)| {
            !runs.is_empty()
                && runs.iter().all(|(first, last)| 1 <= *first && first <= last)
                && runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0)
        });

        let taken = DotSet::try_from(runs.clone());

        prop_assert_eq!(taken.is_ok(), is_canonical);
        if let Ok(taken) = taken {
            prop_assert_eq!(Vec::from(taken), runs);
        }
    }
}

#[test]
fn numbers_beyond_the_last_one_are_refused_and_the_last_one_is_not() {
    let runs = |first, last| vec![(Origin(1), vec![(first, last)])];

    assert!(DotSet::try_from(runs(1, Dot::SEQ_MAX)).is_ok());
    assert_eq!(DotSet::try_from(runs(1, Dot::SEQ_MAX + 1)), Err(BadRuns));
    assert_eq!(DotSet::try_from(runs(u64::MAX, u64::MAX)), Err(BadRuns));
    assert_eq!(DotSet::try_from(runs(0, 1)), Err(BadRuns));
}

#[test]
fn sets_too_large_to_count_are_counted_as_very_large() {
    let origins: Vec<_> = (1..9).map(|origin| (Origin(origin), vec![(1, Dot::SEQ_MAX)])).collect();

    assert_eq!(DotSet::try_from(origins).unwrap().count(), u64::MAX);
}

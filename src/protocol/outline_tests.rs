//! An outline, or the parts asked for after it, tell the whole set, whatever the other side has.

use std::collections::BTreeSet;

use proptest::collection::{btree_map, btree_set};
use proptest::prelude::*;

use super::{Assembly, Outline, PART_RUNS_MAX, part_of};
use crate::model::{DotSet, Origin};

/// Sets of many origins spread over all ranges.
fn set() -> impl Strategy<Value = DotSet> {
    let origin = (0_u64..40, 0_u64..30).prop_map(|(range, low)| range.wrapping_mul(7) << 56 | low);
    btree_map(origin, (1_u64..4, 4_u64..6), 0..600).prop_map(|origins| {
        let mut set = DotSet::default();
        for (origin, (first, last)) in origins {
            set.insert_run(Origin(origin), first, last);
        }
        set
    })
}

fn many(count: u64) -> DotSet {
    let mut set = DotSet::default();
    for number in 0..count {
        set.insert_run(Origin(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)), 1, 3);
    }
    set
}

/// Asks until the set is whole; also says how many questions it took.
fn asked(base: &DotSet, theirs: &DotSet) -> (DotSet, usize) {
    let mut assembly = Assembly::new(base.clone());
    for questions in 1.. {
        let (digests, first) = assembly.question();
        let part = part_of(theirs, &digests, first);
        if let Some(set) = assembly.take(&part) {
            return (set, questions);
        }
    }
    unreachable!("every part goes further")
}

proptest! {
    #[test]
    fn an_outline_or_its_parts_tell_the_whole_set(
        mine in set(), theirs in set(), open in btree_set(0_u64..30, 0..4), same in any::<bool>(),
    ) {
        let base = if same { theirs.clone() } else { mine };
        let open: BTreeSet<Origin> = open.into_iter().map(Origin).collect();
        let outline = Outline::of(&theirs, &open);

        let told = outline.resolve(&base).unwrap_or_else(|| asked(&base, &theirs).0);

        prop_assert_eq!(told, theirs);
    }
}

#[test]
fn ten_thousand_closed_origins_cost_a_digest_where_they_are_equal() {
    let mut theirs = many(10_000);
    let present = Origin(1);
    theirs.insert_run(present, 1, 500);

    let outline = Outline::of(&theirs, &BTreeSet::from([present]));

    assert_eq!(outline.told().run_count(), 1);
    assert_eq!(outline.resolve(&many(10_000)), Some(theirs));
}

#[test]
fn of_ten_thousand_origins_only_the_ranges_that_differ_are_sent() {
    let theirs = many(10_000);
    let mut mine = theirs.clone();
    mine.insert_run(Origin(7), 1, 1);

    let (set, questions) = asked(&mine, &theirs);

    assert_eq!((set, questions), (theirs, 1));
}

#[test]
fn a_set_that_shares_nothing_comes_in_parts_that_fit_a_frame() {
    let theirs = many(10_000);
    let (digests, first) = Assembly::new(DotSet::default()).question();

    let part = part_of(&theirs, &digests, first);
    let (set, questions) = asked(&DotSet::default(), &theirs);

    assert!(part.dots.run_count() <= PART_RUNS_MAX);
    assert_eq!(set, theirs);
    assert!((10..=12).contains(&questions), "{questions} questions");
}

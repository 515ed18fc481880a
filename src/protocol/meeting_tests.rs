//! A cut is passed by what was covered and by what was rebased, and by nothing else.

use super::passes;
use crate::model::{DotSet, Origin};

fn dots(runs: &[(u64, u64, u64)]) -> DotSet {
    let mut set = DotSet::default();
    for &(origin, first, last) in runs {
        set.insert_run(Origin(origin), first, last);
    }
    set
}

#[test]
fn a_cut_is_passed_by_what_is_covered_together_with_what_was_rebased() {
    let cut = dots(&[(1, 1, 5), (2, 1, 2)]);

    assert!(passes(&dots(&[(1, 1, 5), (2, 1, 9)]), &DotSet::default(), &cut));
    assert!(passes(&dots(&[(1, 1, 3)]), &dots(&[(1, 4, 5), (2, 1, 2)]), &cut));
    assert!(passes(&DotSet::default(), &cut, &cut));
    assert!(!passes(&dots(&[(1, 1, 4), (2, 1, 2)]), &DotSet::default(), &cut));
}

//! L-REPL: where nothing keeps nodes apart every stream comes to its end, so all cover the same writes. Equal records alone
//! do not say so: sessions mend them, and the hole would cost a stream and a session for ever.

use std::collections::BTreeMap;

use reknit::model::DotSet;

use super::Dump;

/// Which nodes have not covered what others have, and what that is. What was set aside anywhere goes nowhere else.
pub fn judge(dumps: &BTreeMap<String, Dump>) -> Vec<(String, String)> {
    let (mut all, mut aside) = (DotSet::default(), DotSet::default());
    for dump in dumps.values() {
        all.union(&dump.seen);
        all.union(&dump.collected);
        aside.union(&dump.aside);
    }
    let lacks = |(name, dump): (&String, &Dump)| {
        let lacking = all.minus(&dump.seen).minus(&dump.collected).minus(&aside);
        let (origin, first, last) = lacking.iter().next()?;
        let text = format!("has never covered {origin}:{first} to {last}, which others have");
        Some((name.clone(), text))
    };
    dumps.iter().filter_map(lacks).collect()
}

#[cfg(test)]
mod tests {
    use reknit::model::{Dot, Origin};

    use super::*;

    fn dots(seqs: &[u64]) -> DotSet {
        seqs.iter().map(|&seq| Dot { origin: Origin(10), seq }).collect()
    }

    fn judged(other: Dump) -> Vec<String> {
        let one = Dump { seen: dots(&[1, 2]), aside: dots(&[9]), ..Dump::new() };
        let dumps = BTreeMap::from([("a".to_owned(), one), ("b".to_owned(), other)]);
        judge(&dumps).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn who_has_covered_or_collected_the_same_is_in_step_and_who_has_a_hole_is_not() {
        assert_eq!(judged(Dump { seen: dots(&[1, 2]), ..Dump::new() }), [""; 0]);
        assert_eq!(judged(Dump { seen: dots(&[1]), collected: dots(&[2, 9]), ..Dump::new() }), [""; 0]);
        assert_eq!(judged(Dump { seen: dots(&[1]), ..Dump::new() }), ["b"]);
        assert_eq!(judged(Dump { seen: dots(&[1, 2, 3]), ..Dump::new() }), ["a"]);
    }

    #[test]
    fn a_cluster_that_agrees_is_judged_by_it() {
        use crate::check::Phase;
        let codes = |seqs: &[u64]| {
            let mut ghost = crate::ghost::Ghost::new();
            let dump = |seqs| Dump { seen: dots(seqs), ..Dump::new() };
            let running = BTreeMap::from([("a".to_owned(), dump(&[1, 2])), ("b".to_owned(), dump(seqs))]);
            ghost.judge_phase(std::time::Duration::ZERO, Phase::Idle, &running);
            ghost.violations().iter().map(|violation| violation.code).collect::<Vec<_>>()
        };

        assert_eq!(codes(&[1, 2]), [""; 0]);
        assert_eq!(codes(&[2]), ["L-REPL"]);
    }
}

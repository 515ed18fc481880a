//! VOTE: votes end. Each pair of values of one stamp is asked about by the writers of the two at most, once each, and
//! a ruling is never voted on; so there is a number of rulings that no key's stamp can exceed.

use std::collections::{BTreeMap, BTreeSet};

use reknit::model::Dot;

use super::facts::{Facts, KeyNo};

/// What is wrong with the rulings of a key, if anything is.
pub fn judge(facts: &Facts, key: KeyNo) -> Option<String> {
    let mut stamps: BTreeMap<(u64, u16), (BTreeSet<Dot>, usize)> = BTreeMap::new();
    for &version in &facts.key(key).versions {
        let rank = facts.rank(version);
        let (values, rulings) = stamps.entry(rank.stamp).or_default();
        let known = facts.version(version);
        // A value may have been seen by its own node alone, and its ruling by others (seed 16195).
        let confirmed = known.whole.as_ref().and_then(|whole| whole.confirms);
        values.extend((rank.ruling == 0 && !rank.tombstone).then_some(known.dot).or(confirmed));
        *rulings += usize::from(rank.ruling > 0);
    }
    let (stamp, (values, rulings)) =
        stamps.into_iter().find(|(_, (values, rulings))| *rulings > rulings_max(values.len()))?;
    let values = values.len();
    Some(format!("{rulings} rulings at the stamp {}.{}, where {values} values met", stamp.0, stamp.1))
}

/// Each of the two writers may ask about each pair.
fn rulings_max(values: usize) -> usize {
    values * values.saturating_sub(1)
}

//! NORES: what was deleted stays deleted.

use super::facts::{Facts, Floor, VersionNo};

/// The tombstone that the place had reached, if what it shows now is a value which that tombstone beats.
pub fn resurrected(facts: &Facts, found: Option<VersionNo>, floor: Floor) -> Option<VersionNo> {
    let found = found.filter(|&found| !facts.rank(found).tombstone)?;
    floor.tombstone.filter(|&tombstone| facts.rank(found).loses_to(facts.rank(tombstone)))
}

/// Whether a read may show nothing where `top`, a value, was: something may hide it by now, be it a delete, a
/// deadline, or a write of either kind whose outcome nobody knows.
pub fn may_be_hidden(facts: &Facts, key: super::facts::KeyNo, top: VersionNo) -> bool {
    let known = facts.key(key);
    known.submitted.undecided_hiders() > 0
        || facts.hides(top)
        || known
            .versions
            .iter()
            .any(|&other| facts.hides(other) && !facts.rank(other).loses_to(facts.rank(top)))
}

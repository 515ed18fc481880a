//! Quirks: allowed, but rarely done. A node that has one does it in a quarter of the cases, so that a simulation reaches
//! what otherwise takes bad luck: work that is put off, requests that a peer is too busy for, comparisons for nothing.
//!
//! Promises that no quirk breaks a promise of the node. A node in production has none.

use rand::Rng;

use crate::model::{Instant, Now};

/// Something that a node may do and usually does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quirk {
    /// Its own writes wait for a later turn before they are pushed.
    HoldPush,
    /// It does not answer a pull; the puller asks again.
    DropPull,
    /// It does not hear that a step is done; the puller asks again.
    DropStepDone,
    /// It compares stores with a peer that is in step.
    CompareAlways,
}

impl Quirk {
    /// All of them, by their names.
    pub const NAMES: [(&'static str, Quirk); 4] = [
        ("hold-push", Quirk::HoldPush),
        ("drop-pull", Quirk::DropPull),
        ("drop-step-done", Quirk::DropStepDone),
        ("compare-always", Quirk::CompareAlways),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Quirk::NAMES[self as usize].0
    }
}

/// The quirks of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Which.
    pub on: Vec<Quirk>,
    /// Until when.
    pub until: Instant,
}

impl Quirks {
    /// Whether the node does it this time.
    pub fn strike(&self, quirk: Quirk, now: Now, dice: &mut impl Rng) -> bool {
        // Without quirks no dice are thrown.
        self.on.contains(&quirk) && now.mono < self.until && dice.next_u32().is_multiple_of(4)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::model::WallTime;

    #[test]
    fn a_quirk_strikes_in_a_quarter_of_the_cases_until_it_ends_and_others_never() {
        let quirks = Quirks { on: vec![Quirk::DropPull], until: Instant(Duration::from_secs(10)) };
        let at = |seconds| Now { mono: Instant(Duration::from_secs(seconds)), wall: WallTime(0) };
        let mut dice = ChaCha8Rng::from_seed([7; 32]);

        let mut often = |quirk, now: Now| (0..4_000).filter(|_| quirks.strike(quirk, now, &mut dice)).count();

        assert!((900..1_100).contains(&often(Quirk::DropPull, at(9))));
        assert_eq!(often(Quirk::DropPull, at(10)), 0);
        assert_eq!(often(Quirk::HoldPush, at(9)), 0);
    }

    #[test]
    fn every_quirk_stands_at_its_place() {
        assert!(Quirk::NAMES.iter().all(|(name, quirk)| quirk.name() == *name));
    }
}

//! The hybrid logical clock: stamps that follow the wall clock as long as it can be believed.

use std::time::Duration;

use crate::model::{Now, Stamp};
use crate::mutants;

/// Issues stamps and remembers the highest that counts.
#[derive(Clone, Debug)]
pub struct Hlc {
    high_water: Stamp,
    drift_max: Duration,
}

impl Hlc {
    /// Goes on from a durable high-water mark. A mark further ahead of the wall clock than `drift_max` was
    /// made by a clock that has since been mended, so it starts again.
    pub fn new(high_water: Stamp, drift_max: Duration, now: Now) -> Hlc {
        let high_water = if mutants::is_on("clock-forgets") { Stamp::default() } else { high_water };
        let mut hlc = Hlc { high_water, drift_max };
        if hlc.is_far(high_water, now) {
            hlc.high_water = wall(now);
        }
        hlc
    }

    /// A stamp later than the wall clock, the high-water mark and `floor` (the row's own stamp, a token's).
    pub fn issue(&mut self, now: Now, floor: Stamp) -> Stamp {
        if self.is_far(self.high_water, now) {
            self.high_water = wall(now);
        }
        let mut stamp = wall(now).max(self.high_water).max(floor).next();
        if mutants::is_on("stamp-wall") {
            stamp = wall(now).next();
        }
        self.observe(stamp, now);
        stamp
    }

    /// Lets an applied stamp raise the mark, unless it is further ahead than drift allows: such a stamp orders
    /// its own key and nothing else. Says whether it was that far.
    pub fn observe(&mut self, stamp: Stamp, now: Now) -> bool {
        if self.is_far(stamp, now) {
            return true;
        }
        self.high_water = self.high_water.max(stamp);
        false
    }

    /// The durable part.
    pub fn high_water(&self) -> Stamp {
        self.high_water
    }

    /// The time that reads are judged by; unlike the wall clock it does not go back.
    pub fn read_millis(&self, now: Now) -> u64 {
        now.wall.0.max(self.high_water.millis)
    }

    /// How far clocks may stray.
    pub fn drift_max(&self) -> Duration {
        self.drift_max
    }

    /// Whether a stamp is further ahead of the wall clock than drift allows.
    pub fn is_far(&self, stamp: Stamp, now: Now) -> bool {
        !mutants::is_on("clock-trusts") && stamp.millis > now.wall.after(self.drift_max).0
    }
}

/// The wall clock's stamp. A clock beyond the last year stands still there: nobody would take its stamps.
fn wall(now: Now) -> Stamp {
    Stamp { millis: now.wall.0.min(Stamp::MILLIS_MAX), counter: 0 }
}

#[cfg(test)]
#[path = "hlc_tests.rs"]
mod tests;

//! The clocks of one machine, as functions of true (virtual) time.
//!
//! A wall clock may be wrong in every way: offset, rate, granularity, jumps, standing still. The monotonic
//! clock shares its rate, counts from the node's start and never jumps. Pure: time comes in as an argument.

use std::time::Duration;

use rand::RngExt;
use reknit::model::{Instant, Now, WallTime};

use crate::random;
use crate::scenario::{ClockModel, Draw};

/// What a perfect wall clock shows when a run begins: 2026-01-01, in milliseconds.
pub const START_MILLIS: u64 = 1_767_225_600_000;

const MILLION: i128 = 1_000_000;

/// One machine's clocks.
#[derive(Clone, Debug)]
pub struct MachineClock {
    offset_millis: i64,
    drift_ppm: i64,
    granularity: Duration,
    frozen_at: Option<WallTime>,
}

impl MachineClock {
    /// The clock of the node called `name`: its skew is drawn once per seed and node.
    pub fn new(model: &ClockModel, seed: u64, name: &str) -> MachineClock {
        let (Draw::Each(skew) | Draw::Once(skew)) = &model.skew;
        let offset_millis = random::stream(seed, &format!("clock/{name}")).random_range(skew.clone());
        MachineClock {
            offset_millis,
            drift_ppm: model.drift_ppm,
            granularity: model.granularity,
            frozen_at: None,
        }
    }

    /// What a node that started at `started` reads at true time `at`.
    pub fn now(&self, at: Duration, started: Duration) -> Now {
        Now { mono: Instant(self.drifted(at.saturating_sub(started))), wall: self.wall(at) }
    }

    /// The first true time at which a node that started at `started` reads `mono` or later.
    pub fn when(&self, mono: Instant, started: Duration) -> Duration {
        if self.drift_ppm == 0 {
            return started.saturating_add(mono.0);
        }
        let nanos = i128::from(random::nanos(mono.0)) * MILLION;
        let rate = MILLION + i128::from(self.drift_ppm);
        // Rounded up, and one further: a timer must not fire before its time by the node's own clock.
        let true_nanos = u64::try_from(nanos.div_euclid(rate) + 1).unwrap_or(u64::MAX);
        started.saturating_add(Duration::from_nanos(true_nanos))
    }

    /// Sets how far the wall clock is ahead of true time.
    pub fn skew(&mut self, millis: i64) {
        self.offset_millis = millis;
    }

    /// Moves the wall clock.
    pub fn jump(&mut self, millis: i64) {
        self.offset_millis = self.offset_millis.saturating_add(millis);
    }

    /// Lets the wall clock stand still.
    pub fn freeze(&mut self, at: Duration) {
        self.frozen_at = Some(self.wall(at));
    }

    /// Lets the wall clock run again, from where true time and its offset are by now.
    pub fn thaw(&mut self) {
        self.frozen_at = None;
    }

    fn wall(&self, at: Duration) -> WallTime {
        if let Some(frozen) = self.frozen_at {
            return frozen;
        }
        let running = START_MILLIS.saturating_add(self.drifted(at).as_millis() as u64);
        let shown = running.saturating_add_signed(self.offset_millis);
        let step = (self.granularity.as_millis() as u64).max(1);
        WallTime(shown - shown % step)
    }

    fn drifted(&self, elapsed: Duration) -> Duration {
        if self.drift_ppm == 0 {
            return elapsed;
        }
        let nanos = i128::from(random::nanos(elapsed));
        let drifted = nanos + (nanos * i128::from(self.drift_ppm)).div_euclid(MILLION);
        Duration::from_nanos(u64::try_from(drifted).unwrap_or(0))
    }
}

#[cfg(test)]
#[path = "clocks_tests.rs"]
mod tests;

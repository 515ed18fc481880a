//! Time as the core sees it: two numbers that come in with every turn, never a clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on the node's monotonic clock: time since some fixed start. Drives timers, never jumps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Instant(pub Duration);

impl Instant {
    /// The time from `earlier` to this instant; zero when `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(rhs))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_sub(rhs))
    }
}

/// Milliseconds since 1970 by this node's wall clock, which may be wrong and may jump.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash, Serialize, Deserialize)]
pub struct WallTime(pub u64);

impl WallTime {
    /// This time plus `duration`, in whole milliseconds; stops at the end of time instead of wrapping.
    pub fn after(self, duration: Duration) -> WallTime {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        WallTime(self.0.saturating_add(millis))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The time of one turn. `mono` drives timers; `wall` only stamps writes, and may jump.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Monotonic time.
    pub mono: Instant,
    /// Wall-clock time.
    pub wall: WallTime,
}

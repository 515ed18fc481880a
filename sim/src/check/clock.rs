//! HLC and TTL: what can be said about stamps and deadlines by someone who knows the true time.

use std::time::Duration;

use reknit::model::{Stamp, Version, WallTime};

/// How far the run's wall clocks stray from true time, at any node and at any moment. Without it, deadlines
/// and stamps across keys are not judged.
#[derive(Clone, Copy, Debug)]
pub struct ClockBounds {
    /// What a perfect wall clock showed when the run began.
    pub epoch: WallTime,
    /// How far a clock may be behind; for one that may stand still, how long it may.
    pub behind_max: Duration,
    /// How far a clock may be ahead.
    pub ahead_max: Duration,
    /// The nodes' `max_clock_drift`.
    pub drift_max: Duration,
}

/// Room for stamps that ran ahead of their wall clock because much happened within one millisecond.
const CARRY_MAX: Duration = Duration::from_secs(1);

impl ClockBounds {
    /// Whether `version` was past its deadline by every possible clock at `at`.
    pub fn is_expired(&self, version: &Version, at: Duration) -> bool {
        // A clock may show a time from before the run, so the lag comes off the time and not off how long the run went.
        let slowest = self.epoch.after(at).0.saturating_sub(self.behind_max.as_millis() as u64);
        version.expires_at.is_some_and(|deadline| deadline.0 <= slowest)
    }

    /// Whether no stamp is ever so far ahead of a node's clock that the node may leave it out of its own.
    pub fn are_sane(&self) -> bool {
        self.behind_max + self.ahead_max + CARRY_MAX <= self.drift_max
    }
}

/// What is wrong with the stamp of a write at a node that held `row` under that key and `any` under some key.
pub fn judge(stamp: Stamp, row: Option<Stamp>, any: Stamp, bounds: Option<&ClockBounds>) -> Option<String> {
    if let Some(row) = row.filter(|&row| stamp <= row) {
        return Some(format!("a write was stamped {stamp} over a record of {row}, so it loses at once"));
    }
    let counts = bounds.is_some_and(ClockBounds::are_sane);
    (counts && stamp <= any)
        .then(|| format!("a write was stamped {stamp} at a node that already held a version of {any}"))
}

/// What is wrong with the stamp of a write whose node's wall clock never showed more than `wall` while it was made,
/// and whose key had no version later than `before`, if something is: other keys' stamps raise a node's own only within
/// the drift it allows.
pub fn judge_far(stamp: Stamp, wall: WallTime, before: Option<u64>, bounds: &ClockBounds) -> Option<String> {
    let most = wall.after(bounds.drift_max).0.max(before.unwrap_or_default());
    (stamp.millis > most + CARRY_MAX.as_millis() as u64).then(|| {
        let WallTime(wall) = wall;
        format!("a write was stamped {stamp} where the wall clock showed {wall} at most, and its key nothing as late")
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reknit::model::{Dot, Origin};

    use super::*;

    #[test]
    fn a_clock_that_shows_a_time_from_before_the_run_is_given_its_lag_too() {
        let second = Duration::from_secs;
        let (epoch, drift_max) = (WallTime(100_000), second(60));
        let bounds = ClockBounds { epoch, behind_max: second(30), ahead_max: second(0), drift_max };
        let expires = |millis, at| {
            let version = Version {
                stamp: Stamp { millis: 75_000, counter: 0 },
                dot: Dot { origin: Origin(1), seq: 1 },
                author_joined: WallTime(0),
                ruling: 0,
                confirms: None,
                tombstone: false,
                expires_at: Some(WallTime(millis)),
                content_type: String::new(),
                value: Bytes::new(),
            };
            bounds.is_expired(&version, second(at))
        };

        assert!(!expires(82_000, 4), "the slowest clock shows 74,000");
        assert!(expires(82_000, 12));
    }

    #[test]
    fn a_stamp_far_ahead_of_its_clock_is_found_unless_its_key_had_one() {
        let second = Duration::from_secs;
        let (epoch, behind_max, ahead_max) = (WallTime(0), second(0), second(100));
        let bounds = ClockBounds { epoch, behind_max, ahead_max, drift_max: second(60) };
        let far = |millis, before| judge_far(Stamp { millis, counter: 0 }, WallTime(1_000), before, &bounds);

        assert_eq!(far(61_000, None), None);
        assert!(
            far(90_000, None).expect("29 s too far").contains("where the wall clock showed 1000 at most")
        );
        assert_eq!(far(90_000, Some(90_000)), None);
        assert!(far(90_000, Some(60_000)).is_some());
    }
}

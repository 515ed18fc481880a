//! Draws in the shapes that plans need. Whole numbers and plain fractions only: no logarithm of any platform's
//! library can make a seed mean something else there.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::random::stream;

/// The dice of one entity of a plan.
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice called `plan/name` in the run of `seed`.
    pub fn of(seed: u64, name: &str) -> Dice {
        Dice(stream(seed, &format!("plan/{name}")))
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    /// From `low` to `high`, both included.
    pub fn number(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high)
    }

    /// From 0 to 1, 1 left out.
    fn unit(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// A share of whole thousandths.
    pub fn share(&mut self, low_thousandths: u64, high_thousandths: u64) -> f64 {
        self.number(low_thousandths, high_thousandths) as f64 / 1000.0
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.0.random_range(0..choices.len())]
    }

    /// One of these, by weight.
    pub fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let mut left = self.number(1, choices.iter().map(|(weight, _)| weight).sum());
        for (weight, choice) in choices {
            match left.checked_sub(*weight) {
                None | Some(0) => return *choice,
                Some(rest) => left = rest,
            }
        }
        unreachable!("the draw is at most the sum of the weights")
    }

    /// These in another order.
    pub fn shuffled<T: Clone>(&mut self, items: &[T]) -> Vec<T> {
        let mut items = items.to_vec();
        for last in (1..items.len()).rev() {
            items.swap(last, self.0.random_range(0..=last));
        }
        items
    }

    /// Evenly from `low` to `high`.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        rounded(self.number(nanos(low), nanos(high)))
    }

    /// As likely between 1 s and 2 s as between 10 s and 20 s (nearly: linear within a power of two).
    pub fn log_between(&mut self, low: Duration, high: Duration) -> Duration {
        let (low, high) = (nanos(low).max(1), nanos(high).max(1));
        let (from, to) = (bent_log2(low), bent_log2(high));
        rounded(bent_exp2(from + (to - from) * self.unit()).clamp(low, high))
    }

    /// The wait for an event that comes once per `mean`, however long one has waited (von Neumann, 1951).
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        let mut whole = 0.0;
        loop {
            let first = self.unit();
            let (mut last, mut falling) = (first, 1);
            loop {
                let next = self.unit();
                if next > last {
                    break;
                }
                (last, falling) = (next, falling + 1);
            }
            if falling % 2 == 1 {
                return rounded((nanos(mean) as f64 * (whole + first)) as u64);
            }
            whole += 1.0;
        }
    }

    /// A length that matters to one of these timers: a fifth of it to three times it, and often just it.
    pub fn around(&mut self, timers: &[Duration]) -> Duration {
        let timer = *self.pick(timers);
        if self.chance(20) {
            let tick = Duration::from_millis(1);
            return [timer - tick, timer, timer + tick][self.0.random_range(0..3)];
        }
        self.log_between(timer / 5, timer * 3)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("plans last less than centuries")
}

/// In tenths of a millisecond: people read plans.
pub fn readable(duration: Duration) -> Duration {
    rounded(nanos(duration))
}

fn rounded(nanos: u64) -> Duration {
    Duration::from_micros(nanos / 100_000 * 100)
}

fn bent_log2(number: u64) -> f64 {
    let power = number.ilog2();
    f64::from(power) + (number as f64 / (1u64 << power) as f64 - 1.0)
}

fn bent_exp2(log: f64) -> u64 {
    let power = log as u32;
    ((1u64 << power) as f64 * (1.0 + log - f64::from(power))) as u64
}

#[cfg(test)]
#[path = "dice_tests.rs"]
mod tests;

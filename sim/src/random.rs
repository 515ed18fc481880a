//! One stream of dice per entity, so that taking one operation out does not move the draws of the others.
//!
//! What is drawn very often (a frame's fate, a persist's time) is drawn from its entity and its moment rather
//! than from a running stream: then only what happens at another time is drawn anew.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The dice of the entity called `name` (such as `node/b/disk` or `link/a/b`) in the run of `seed`.
pub fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(bytes(seed, name))
}

/// 32 bytes drawn from the run's seed and an entity's name.
pub fn bytes(seed: u64, name: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("reknit-sim 2026-11 stream of an entity");
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.finalize().into()
}

/// The key of an entity's [`Moment`]s.
pub fn key(seed: u64, name: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = bytes(seed, name);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The dice of one entity at one moment: SplitMix64, a few nanoseconds a draw.
#[derive(Clone, Debug)]
pub struct Moment(u64);

impl Moment {
    /// The dice of the entity with this [`key`] at virtual time `at`, the `ordinal`-th time in that instant.
    pub fn new(key: u64, at: Duration, ordinal: u64) -> Moment {
        let mut mixed = Moment(key ^ nanos(at));
        Moment(mixed.draw() ^ ordinal)
    }

    /// 64 random bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Whether something that happens this often (0 to 1) happens now.
    pub fn happens(&mut self, share: f64) -> bool {
        let unit = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        unit < share
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// A duration of `range`, uniformly; an inverted range is its start.
    pub fn within(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        let width = nanos(range.end().saturating_sub(*range.start()));
        *range.start() + Duration::from_nanos(self.below(width.saturating_add(1)))
    }
}

/// Whole nanoseconds; 584 years are enough.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

//! One stream of dice per entity, so that taking one operation out does not move the draws of the others.

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

//! Smaller payloads: they come back whole, and nothing that claims to be one can grow beyond its bound.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const BYTES_MAX: usize = 64 * 1024;

/// What a small frame of zstd can grow to: this many zeros.
fn bomb(bytes: usize) -> Vec<u8> {
    zstd::bulk::compress(&vec![0; bytes], 19).unwrap()
}

fn saying(size: u32, packed: &[u8]) -> Vec<u8> {
    [&size.to_le_bytes(), packed].concat()
}

proptest! {
    #[test]
    fn what_was_made_smaller_comes_back(word in vec(any::<u8>(), 1..40), times in 1_usize..3000) {
        let payload: Vec<u8> = word.iter().copied().cycle().take((word.len() * times).min(BYTES_MAX)).collect();

        if let Some(packed) = smaller(&payload) {
            prop_assert!(packed.len() <= payload.len() - payload.len() / 8);
            prop_assert_eq!(expand(&packed, BYTES_MAX), Some(payload));
        }
    }

    #[test]
    fn any_bytes_stay_within_the_bound(size in any::<u32>(), bytes in vec(any::<u8>(), 0..200)) {
        if let Some(payload) = expand(&saying(size, &bytes), BYTES_MAX) {
            prop_assert!(payload.len() <= BYTES_MAX);
        }
    }
}

#[test]
fn a_payload_that_gains_nothing_stays_as_it_is() {
    let mut noise = [0; 4096];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);

    assert_eq!(smaller(&noise), None);
    assert_eq!(smaller(&[7; BYTES_MIN - 1]), None, "too short to be worth it");
    assert!(smaller(&[7; BYTES_MIN]).is_some());
}

#[test]
fn a_bomb_does_not_go_off() {
    let gigabyte = bomb(1 << 30);
    assert!(gigabyte.len() < BYTES_MAX, "it fits a frame: {} bytes", gigabyte.len());

    for size in [1 << 30, u32::MAX, BYTES_MAX as u32 + 1, BYTES_MAX as u32, BYTES_MIN as u32] {
        assert_eq!(expand(&saying(size, &gigabyte), BYTES_MAX), None, "said to be {size} bytes");
    }
}

#[test]
fn a_payload_that_is_not_what_it_says_is_none() {
    let packed = bomb(2000);

    assert_eq!(expand(&saying(2000, &packed), BYTES_MAX), Some(vec![0; 2000]));
    for size in [1999, 2001, 0] {
        assert_eq!(expand(&saying(size, &packed), BYTES_MAX), None, "said to be {size} bytes");
    }
    assert_eq!(expand(&saying(2000, &[packed.clone(), packed].concat()), BYTES_MAX), None, "twice");
    assert_eq!(expand(&saying(2000, b"no zstd"), BYTES_MAX), None);
    assert_eq!(expand(&[], BYTES_MAX), None);
}

//! See [`reknit_fuzz::membership`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reknit_fuzz::membership::run(bytes));

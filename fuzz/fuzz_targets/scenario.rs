//! See [`reknit_fuzz::scenario`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reknit_fuzz::scenario::run(bytes));

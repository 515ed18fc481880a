//! See [`reknit_fuzz::sync`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reknit_fuzz::sync::run(bytes));

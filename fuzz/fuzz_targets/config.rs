//! See [`reknit_fuzz::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reknit_fuzz::config::run(bytes));

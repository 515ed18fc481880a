//! See [`reknit_fuzz::http`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reknit_fuzz::http::run(bytes));

//! See [`reknit_fuzz::store`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reknit_fuzz::store::run(bytes));

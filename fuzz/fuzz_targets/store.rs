//! See [`reknit_fuzz::store`].
#![no_main]

libfuzzer_sys::fuzz_target!(
    // The engine may panic on a damaged file, which the store catches; the fuzzer's own hook would end the process first.
    // A panic that nobody catches still does.
    init: std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))),
    |bytes: &[u8]| reknit_fuzz::store::run(bytes)
);

//! What the fuzzer drives, one function per target: any bytes in, a panic if a promise is broken.
//!
//! They are plain functions so that a stable compiler can replay the corpora (`replay`); `fuzz_targets/` hands them to
//! the fuzzer. Structure is drawn from the bytes, so that a small change of the input is a small change of the story.

pub mod config;
pub mod frames;
pub mod http;
pub mod membership;
pub mod scenario;
pub mod store;
pub mod sync;
pub mod wire;

/// A target's name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("wire", wire::run),
    ("frames", frames::run),
    ("sync", sync::run),
    ("membership", membership::run),
    ("scenario", scenario::run),
    ("config", config::run),
    ("store", store::run),
    ("http", http::run),
];

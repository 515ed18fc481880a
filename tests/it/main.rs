//! The shipped binaries as their users meet them: real processes, real files, real sockets, kill -9.
//!
//! One binary for all of it, so that everything links once. What needs thousands of runs or exact replay belongs
//! to the simulator; here is what only the real world can show.
#![allow(clippy::disallowed_methods, reason = "tests of real processes wait in real time")]
#![allow(clippy::unwrap_used, reason = "whatever fails here fails the test")]

mod bad_input;
mod cluster;
mod conflict;
mod hostile;
mod kv;
mod life;
#[path = "../../examples/seed_conflict.rs"]
#[allow(dead_code, reason = "its `main` is for people")]
mod seed_conflict;
mod server;
mod surface;
mod tls;
mod transcripts;

//! The shipped binaries as their users meet them: real processes, real files, real sockets, kill -9.
//!
//! One binary for all of it, so that everything links once. What needs thousands of runs or exact replay belongs
//! to the simulator; here is what only the real world can show.
#![allow(clippy::disallowed_methods, reason = "tests of real processes wait in real time")]
#![allow(clippy::unwrap_used, reason = "whatever fails here fails the test")]

mod bad_input;
mod cluster;
mod kv;
mod life;
mod server;
mod surface;

//! The simulator: draws a life for a cluster, lives it in one of two worlds, and judges what it saw.
//!
//! In reading order: a [`scenario`] is what shall happen, explicit to the last operation; [`plan`] draws one
//! from a seed; [`random`], [`clocks`], [`links`] and [`disks`] model what nodes stand on; a [`world`] lives the
//! scenario and tells the [`ghost`], which knows everything; [`check`] says what was broken; [`shrink`] makes it small.

#[cfg(not(madsim))]
compile_error!(
    "built without --cfg madsim: a RUSTFLAGS variable replaced .cargo/config.toml. \
     Unset it, or append: RUSTFLAGS=\"... --cfg madsim\""
);

pub mod args;
pub mod check;
pub mod clocks;
pub mod diff;
pub mod disks;
pub mod ghost;
pub mod kills;
pub mod links;
pub mod members;
pub mod panics;
pub mod plan;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod suggest;
pub mod sweep;
pub mod trace;
pub mod world;

#[cfg(test)]
mod hazards_tests;
#[cfg(test)]
mod manual;

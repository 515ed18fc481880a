//! Benches of reknit: `bench sync [entries]` measures what it costs to bring two stores into step.
//!
//! Everything in one table is measured in one run on one machine; what is a model and not a measurement says so.

#![allow(clippy::disallowed_methods, reason = "a bench reads clocks and owns threads: it measures")]

mod ours;
mod rejoin;
mod rivals;
mod stores;
mod sync;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sync"] => {
            sync::run(&[10_000, 100_000, 1_000_000])?;
            rejoin::run(&[10_000, 100_000])
        }
        ["sync", "rejoin"] => rejoin::run(&[10_000, 100_000]),
        ["sync", entries] => sync::run(&[entries.parse()?]),
        _ => bail!("bench sync [rejoin | NUMBER OF ENTRIES]"),
    }
}

//! The table: what it costs to find and repair so many differences among so many entries.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::ours;
use crate::rivals::{self, Cost};
use crate::stores::{Kind, Spread, Store, chosen, keys};

const DIFFERING: [usize; 6] = [0, 1, 10, 100, 1_000, 10_000];

/// Prints the table for each number of entries.
pub fn run(sizes: &[usize]) -> Result<()> {
    println!(
        "Bytes both ways, entries themselves left out. CPU is of both ends on one thread, stores in memory."
    );
    for entries in sizes {
        size(*entries)?;
    }
    Ok(())
}

fn size(entries: usize) -> Result<()> {
    let keys = keys(entries);
    let (mut a, mut b) = (Store::filled(&keys)?, Store::filled(&keys)?);
    for spread in [Spread::Scattered, Spread::OnePrefix] {
        for kind in [Kind::Missing, Kind::Changed] {
            let place = if spread == Spread::Scattered { "scattered" } else { "under one prefix" };
            let what = if kind == Kind::Missing { "missing" } else { "changed" };
            println!("\nn = {entries}, {place}, {what}");
            println!("{:>7}  {:<22} {:>12} {:>7} {:>10}  note", "d", "scheme", "bytes", "rtt", "cpu");
            for differing in DIFFERING.into_iter().filter(|differing| 2 * differing <= entries) {
                let numbers = chosen(entries, differing, spread);
                b.differ(&keys, &numbers, kind)?;
                let cost = ours::converse(&mut a, &mut b)?;
                ensure!(a.replica.chunks().root() == b.replica.chunks().root(), "the stores still differ");
                let note = format!("{} entries moved in {} bytes", cost.entries, cost.entry_bytes);
                let round_trips = cost.flights.div_ceil(2);
                line(
                    differing,
                    "reknit session",
                    &Cost { bytes: cost.bytes, round_trips, cpu: Some(cost.cpu), note },
                );
                line(differing, "seeds' algorithm", &rivals::seeds(&keys, &numbers, kind));
                line(differing, "negentropy 0.5", &rivals::negentropy(&keys, &numbers, kind)?);
                line(differing, "merkle-search-tree 0.8", &rivals::merkle_search_tree(&keys, &numbers, kind));
                let bound = bound(entries, differing);
                let cpu = None;
                let note = "log2 C(n, d): which of the entries".to_owned();
                line(differing, "information bound", &Cost { bytes: bound, round_trips: 1, cpu, note });
            }
        }
    }
    Ok(())
}

fn line(differing: usize, scheme: &str, cost: &Cost) {
    let cpu = cost.cpu.map_or_else(|| "-".to_owned(), milliseconds);
    println!(
        "{differing:>7}  {scheme:<22} {:>12} {:>7} {cpu:>10}  {}",
        cost.bytes, cost.round_trips, cost.note
    );
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// Bytes that say which `differing` of `entries` it is.
fn bound(entries: usize, differing: usize) -> usize {
    let bits: f64 = (0..differing).map(|at| ((entries - at) as f64 / (at + 1) as f64).log2()).sum();
    (bits / 8.0).ceil() as usize
}

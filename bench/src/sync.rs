//! The table: what it costs to find and repair so many differences among so many entries.

use anyhow::{Result, ensure};

use crate::ours;
use crate::report::{Cell, Table};
use crate::rivals::{self, Cost};
use crate::stores::{Kind, Spread, Store, chosen, keys};

const DIFFERING: [usize; 6] = [0, 1, 10, 100, 1_000, 10_000];

/// The table for each number of entries.
pub fn tables(sizes: &[usize]) -> Result<Vec<Table>> {
    sizes.iter().map(|entries| size(*entries)).collect()
}

fn size(entries: usize) -> Result<Table> {
    eprintln!("two stores of {entries} entries");
    let keys = keys(entries);
    let (mut a, mut b) = (Store::filled(&keys)?, Store::filled(&keys)?);
    let mut table = Table::new(
        "Bringing two stores into step",
        format!(
            "{entries} entries each. Bytes both ways, entries themselves left out; CPU is of both ends on one thread, \
             stores in memory. What is a model and not a measurement says so."
        ),
        &["differing", "where", "how", "scheme", "bytes", "round trips", "CPU ms", "note"],
    );
    for spread in [Spread::Scattered, Spread::OnePrefix] {
        for kind in [Kind::Missing, Kind::Changed] {
            for differing in DIFFERING.into_iter().filter(|differing| 2 * differing <= entries) {
                let numbers = chosen(entries, differing, spread);
                b.differ(&keys, &numbers, kind)?;
                let cost = ours::converse(&mut a, &mut b)?;
                ensure!(a.replica.chunks().root() == b.replica.chunks().root(), "the stores still differ");
                let note = format!("{} entries moved in {} bytes", cost.entries, cost.entry_bytes);
                let round_trips = cost.flights.div_ceil(2);
                let ours = Cost { bytes: cost.bytes, round_trips, cpu: Some(cost.cpu), note };
                let bound = Cost {
                    bytes: bound(entries, differing),
                    round_trips: 1,
                    cpu: None,
                    note: "log2 C(n, d): which of the entries".to_owned(),
                };
                let mut line = |scheme, cost| table.row(row(differing, spread, kind, scheme, cost));
                line("reknit session", ours);
                line("seeds' algorithm", rivals::seeds(&keys, &numbers, kind));
                line("negentropy 0.5", rivals::negentropy(&keys, &numbers, kind)?);
                line("merkle-search-tree 0.8", rivals::merkle_search_tree(&keys, &numbers, kind));
                line("information bound", bound);
            }
        }
    }
    Ok(table)
}

fn row(differing: usize, spread: Spread, kind: Kind, scheme: &str, cost: Cost) -> Vec<Cell> {
    vec![
        Cell::Figure(differing as f64, 0),
        Cell::text(if spread == Spread::Scattered { "scattered" } else { "one prefix" }),
        Cell::text(if kind == Kind::Missing { "missing" } else { "changed" }),
        Cell::text(scheme),
        Cell::Figure(cost.bytes as f64, 0),
        Cell::Figure(cost.round_trips as f64, 0),
        cost.cpu.map_or(Cell::None("-"), |cpu| Cell::Figure(cpu.as_secs_f64() * 1e3, 1)),
        Cell::text(cost.note),
    ]
}

/// Bytes that say which `differing` of `entries` it is.
fn bound(entries: usize, differing: usize) -> usize {
    let bits: f64 = (0..differing).map(|at| ((entries - at) as f64 / (at + 1) as f64).log2()).sum();
    (bits / 8.0).ceil() as usize
}

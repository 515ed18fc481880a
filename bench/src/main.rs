//! Benches of reknit. `bench` measures everything that serves, side by side; `bench sync` what it costs to bring two
//! stores into step.
//!
//! Everything in one table is measured in one run on one machine; what is a model and not a measurement says so.

#![allow(clippy::disallowed_methods, reason = "a bench reads clocks and owns threads: it measures")]

mod bare;
mod lag;
mod lives;
mod load;
mod ours;
mod process;
mod rejoin;
mod report;
mod rivals;
mod scale;
mod size;
mod speed;
mod stores;
mod sync;

use std::path::Path;

use anyhow::{Result, bail};
use report::Table;
use size::Size;

/// Where the report goes.
const FOLDER: &str = "target/bench";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serve_all(&Size::full(), &PARTS),
        ["quick"] => serve_all(&Size::quick(), &PARTS),
        ["quick", part] if PARTS.contains(&part) => serve_all(&Size::quick(), &[part]),
        ["sync"] => {
            sync::run(&[10_000, 100_000, 1_000_000])?;
            rejoin::run(&[10_000, 100_000])
        }
        ["sync", "rejoin"] => rejoin::run(&[10_000, 100_000]),
        ["sync", entries] => sync::run(&[entries.parse()?]),
        ["serve", port, "constant", _] => bare::serve_constant(port.parse()?),
        ["serve", port, "redb", folder] => bare::serve_redb(port.parse()?, Path::new(folder)),
        [part] if PARTS.contains(&part) => serve_all(&Size::full(), &[part]),
        _ => bail!("bench [quick] [{}] | bench sync [rejoin | NUMBER OF ENTRIES]", PARTS.join(" | ")),
    }
}

const PARTS: [&str; 5] = ["speed", "lag", "rejoin", "scale", "lives"];

fn serve_all(size: &Size, parts: &[&str]) -> Result<()> {
    let mut tables: Vec<Table> = Vec::new();
    for part in parts {
        let new = match *part {
            "speed" => speed::run(size)?,
            "lag" => vec![lag::run(size)?],
            "rejoin" => vec![rejoin::table(&size.missed)?],
            "scale" => scale::run(size)?,
            _ => vec![lives::run(size)?],
        };
        new.iter().for_each(Table::print);
        tables.extend(new);
    }
    report::write(Path::new(FOLDER), &tables)?;
    println!("\n{FOLDER}/report.json and {FOLDER}/report.html hold the same.");
    Ok(())
}

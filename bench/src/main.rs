//! Benches of reknit: everything that serves, side by side, and what it costs to bring two stores into step.
//!
//! Everything in one table is measured in one run on one machine; what is a model and not a measurement says so.

#![allow(clippy::disallowed_methods, reason = "a bench reads clocks and owns threads: it measures")]

mod bare;
mod counts;
mod lag;
mod lives;
mod load;
mod ours;
mod overload;
mod paths;
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

use anyhow::{Result, bail, ensure};
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
        ["counts"] => counts::run(false),
        ["counts", "write"] => counts::run(true),
        ["path", name, times] => paths::walk(name, times.parse()?),
        ["serve", port, "constant", _] => bare::serve_constant(port.parse()?),
        ["serve", port, "redb", folder] => bare::serve_redb(port.parse()?, Path::new(folder)),
        [part] if PARTS.contains(&part) => serve_all(&Size::full(), &[part]),
        _ => bail!("bench [quick] [{}] | bench counts [write]", PARTS.join(" | ")),
    }
}

/// In this order; the last one keeps this process to one processor from then on.
const PARTS: [&str; 7] = ["speed", "lag", "rejoin", "scale", "sync", "lives", "overload"];

fn serve_all(size: &Size, parts: &[&str]) -> Result<()> {
    let mut tables: Vec<Table> = Vec::new();
    let mut failed = Vec::new();
    for part in parts {
        let began = std::time::Instant::now();
        match measure(size, part) {
            Ok(new) => {
                new.iter().for_each(Table::print);
                tables.extend(new);
            }
            // What was measured before it is worth a report all the same.
            Err(error) => failed.push(format!("{part}: {error:#}")),
        }
        eprintln!("{part}: {:.0} s", began.elapsed().as_secs_f64());
    }
    report::write(Path::new(FOLDER), &tables)?;
    println!("\n{FOLDER}/report.json and {FOLDER}/report.html hold the same.");
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn measure(size: &Size, part: &str) -> Result<Vec<Table>> {
    Ok(match part {
        "speed" => speed::run(size)?,
        "lag" => vec![lag::run(size)?],
        "rejoin" => vec![rejoin::table(&size.missed)?],
        "scale" => scale::run(size)?,
        "sync" => sync::tables(&size.entries)?,
        "lives" => vec![lives::run(size)?],
        _ => vec![overload::run(size)?],
    })
}

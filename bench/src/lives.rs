//! How fast the simulator lives, in both worlds.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;

use crate::process::{self, beside};
use crate::report::{Cell, Table};
use crate::size::Size;

/// The table.
pub fn run(size: &Size) -> Result<Table> {
    let mut table = Table::new(
        "The simulator",
        "Lives drawn from seeds, all faults, all checks; a processor's time is user and system together.",
        &["world", "lives", "s", "lives/s", "lives per CPU s", "simulated s per CPU s"],
    );
    for (world, lives) in [("fast", size.lives.0), ("full", size.lives.1)] {
        eprintln!("{lives} lives in the {world} world");
        table.row(measure(world, lives)?);
    }
    Ok(table)
}

fn measure(world: &str, lives: usize) -> Result<Vec<Cell>> {
    let before = children_cpu()?;
    let began = Instant::now();
    let mut command = Command::new(beside("sim")?);
    command.args([&format!("seeds=0..{lives}"), &format!("world={world}"), "json"]);
    let output = command.stderr(Stdio::inherit()).output()?;
    let took = began.elapsed().as_secs_f64();
    ensure!(output.status.success(), "the sweep failed");
    let cpu = (children_cpu()? - before).as_secs_f64();
    let sweep: Json = serde_json::from_slice(&output.stdout)?;
    let simulated = sweep["virtual_ms"].as_f64().context("the sweep says how long it lived")? / 1e3;
    Ok(vec![
        Cell::text(world),
        Cell::Figure(lives as f64, 0),
        Cell::Figure(took, 1),
        Cell::Figure(lives as f64 / took, 1),
        Cell::Figure(lives as f64 / cpu, 1),
        Cell::Figure(simulated / cpu, 0),
    ])
}

/// Processor time of all children that have ended.
fn children_cpu() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    process::cpu_of(&stat, 13)
}

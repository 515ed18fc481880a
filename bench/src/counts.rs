//! Instructions per walk of a hot path, counted by valgrind and held against the committed counts.
//!
//! A count is of two runs: one that walks the path so many times and one that does so twice as often; their difference
//! has no start and no end in it. It does not depend on how busy the machine is. It does depend on the compiler, which
//! is pinned, and a little on the processor, whose vector instructions the hashes use where there are any.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value as Json, json};

use crate::paths::{HotPath, PATHS};
use crate::process::{beside, installed};
use crate::report::{Cell, Table};

/// What was counted when it was last looked at.
const REFERENCE: &str = "bench/counts.json";
/// So much more than the reference, in percent, is a regression. Two runs differ by less than one.
const TOLERANCE: f64 = 5.0;
/// What valgrind shows of a processor depends on this; counts of a machine without it are not compared.
const FEATURE: &str = "avx2";

/// Counts and compares; with `write` the counts become the reference.
pub fn run(write: bool) -> Result<()> {
    let Some(valgrind) = installed("valgrind") else {
        println!("valgrind is not installed: no instructions counted");
        return Ok(());
    };
    if !std::fs::read_to_string("/proc/cpuinfo")?.contains(FEATURE) {
        println!("this processor has no {FEATURE}: its counts are not the reference's");
        return Ok(());
    }
    let mut counts = Vec::new();
    for path in &PATHS {
        counts.push(count(&valgrind, path)?);
    }
    if write {
        let map: Map<String, Json> =
            PATHS.iter().zip(&counts).map(|(path, count)| (path.name.to_owned(), json!(count))).collect();
        std::fs::write(REFERENCE, serde_json::to_string_pretty(&map)? + "\n")?;
    }
    let reference: Map<String, Json> = serde_json::from_slice(&std::fs::read(REFERENCE)?)?;
    let mut table = Table::new(
        "Instructions of the hot paths",
        format!("Per walk, by valgrind; more than {TOLERANCE} % above the reference is a regression."),
        &["path", "instructions", "reference", "change %", "a walk is"],
    );
    let mut worse = Vec::new();
    for (path, count) in PATHS.iter().zip(&counts) {
        let known = reference.get(path.name).and_then(Json::as_u64).context("a reference for each path")?;
        let change = (*count as f64 / known as f64 - 1.0) * 100.0;
        if change > TOLERANCE {
            worse.push(format!("{}: {count} instructions, {change:.1} % above {known}", path.name));
        }
        table.row(vec![
            Cell::text(path.name),
            Cell::Figure(*count as f64, 0),
            Cell::Figure(known as f64, 0),
            Cell::Figure(change, 1),
            Cell::text(path.about),
        ]);
    }
    table.print();
    ensure!(
        worse.is_empty(),
        "{}\nmake it cheap again, or say in the commit why not and run `just bench counts write`",
        worse.join("\n")
    );
    Ok(())
}

/// Instructions of one walk.
fn count(valgrind: &Path, path: &HotPath) -> Result<u64> {
    let once = instructions(valgrind, path.name, path.walks)?;
    let twice = instructions(valgrind, path.name, 2 * path.walks)?;
    Ok(twice.saturating_sub(once) / path.walks as u64)
}

/// Instructions of a process that walks a path so many times.
fn instructions(valgrind: &Path, path: &str, times: usize) -> Result<u64> {
    eprintln!("{times} walks of path {path}");
    let mut command = Command::new(valgrind);
    command.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    command.arg(beside("bench")?).args(["path", path, &times.to_string()]);
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{command:?}: {said}");
    }
    // "==123== I   refs:      1,234,567", with one space fewer in newer versions.
    let line = said.lines().find(|line| line.contains("refs:")).context("valgrind says how many")?;
    let digits: String =
        line.rsplit(':').next().unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

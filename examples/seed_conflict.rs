//! Prepares data directories that disagree: the same key, the same timestamp, another uuid and value in each.
//!
//! ```sh
//! cargo run --example seed_conflict -- data/node1 data/node2 data/node3
//! ```
//!
//! Start a node on each of them, let them meet, and watch them agree: the directory named first has the oldest
//! author, whose value wins. No node may run on the directories meanwhile.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reknit::model::{Dot, Key, Origin, Row, Stamp, Version, WallTime};
use reknit::storage::engine::Engine;
use reknit::storage::{Batch, Storage, Table, rows};

/// The key that the directories disagree about.
pub const KEY: &str = "conflict/color";

fn main() -> anyhow::Result<()> {
    let directories: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    anyhow::ensure!(directories.len() >= 2, "usage: seed_conflict DIR DIR…, two or more data directories");
    let directories: Vec<&Path> = directories.iter().map(PathBuf::as_path).collect();
    for (directory, version) in directories.iter().zip(prepare(&directories)?) {
        let value = String::from_utf8_lossy(&version.value);
        println!(
            "{}: {KEY} = {value} at {} as {}",
            directory.display(),
            version.stamp.millis,
            version.uuid()
        );
    }
    Ok(())
}

/// Writes a version of the key into each directory, the oldest author's first, and returns them.
///
/// # Errors
/// A directory cannot be written, or a node runs on it.
pub fn prepare(directories: &[&Path]) -> anyhow::Result<Vec<Version>> {
    #[allow(clippy::disallowed_methods, reason = "a tool for people takes its stamp from their clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let stamp = Stamp { millis: u64::try_from(now.as_millis())?, counter: 0 };
    let mut versions = Vec::new();
    for (number, directory) in (1..).zip(directories) {
        let mut origin = [0; 8];
        getrandom::fill(&mut origin).map_err(|error| anyhow::anyhow!("no random bits: {error}"))?;
        let version = Version {
            stamp,
            dot: Dot { origin: Origin(u64::from_be_bytes(origin)), seq: 1 },
            author_joined: WallTime(stamp.millis - 60_000 + number),
            ruling: 0,
            confirms: None,
            tombstone: false,
            expires_at: None,
            content_type: "application/json".into(),
            value: format!("\"value {number}\"").into(),
        };
        write(directory, version.clone())?;
        versions.push(version);
    }
    Ok(versions)
}

fn write(directory: &Path, version: Version) -> anyhow::Result<()> {
    let key = Key::from_path(KEY)?;
    std::fs::create_dir_all(directory)?;
    let mut store = Engine::open(directory)?;
    let mut seen = rows::dot_set(&store, Table::Seen)?;
    let before = rows::record(&store, &key)?;
    let dot = version.dot;
    seen.insert(dot);
    let mut batch = Batch::default();
    rows::put_row(&mut batch, &key, &Row::one(version), before.versions());
    rows::put_runs(&mut batch, Table::Seen, dot.origin, seen.runs(dot.origin));
    store.apply(batch)?;
    store.persist()?;
    Ok(())
}

//! What grows with the number of keys and of nodes, and how.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::load::{self, Dialect, Load, Until, Verb};
use crate::process::{self, Server, free_port, wait};
use crate::report::{Cell, Table};
use crate::size::Size;

const CONNECTIONS: usize = 16;

/// Both tables.
pub fn run(size: &Size) -> Result<Vec<Table>> {
    Ok(vec![keys(size)?, nodes(size)?])
}

fn keys(size: &Size) -> Result<Table> {
    let mut table = Table::new(
        "One node and its keys",
        format!("{CONNECTIONS} connections; started again over the keys; then each overwritten once."),
        &[
            "keys",
            "start ms",
            "memory MiB",
            "disk MiB",
            "PUT/s",
            "PUT p99 µs",
            "GET/s",
            "overwritten, disk MiB",
        ],
    );
    let empty = tempfile::tempdir_in(".")?;
    let (node, start) = started(empty.path(), free_port()?)?;
    let memory = node.memory()?;
    let mut cells = vec![Cell::Figure(0.0, 0), Cell::Figure(start, 0), mebibytes(memory)];
    cells.push(mebibytes(disk(empty.path())?));
    cells.extend([Cell::None("-"), Cell::None("-"), Cell::None("-"), Cell::None("-")]);
    table.row(cells);
    drop(node);
    for &keys in &size.keys {
        eprintln!("one node with {keys} keys");
        table.row(with_keys(size, keys)?);
    }
    Ok(table)
}

fn with_keys(size: &Size, keys: u64) -> Result<Vec<Cell>> {
    let folder = tempfile::tempdir_in(".")?;
    let port = free_port()?;
    let fill = Load { verb: Verb::Put, connections: 64, keys, until: Until::AllKeys, seed: 1 };
    let (node, _) = started(folder.path(), port)?;
    load::run(Dialect::Rest, &[port], &fill)?;
    drop(node);
    let (node, start) = started(folder.path(), port)?;
    let (memory, filled) = (node.memory()?, disk(folder.path())?);
    let load = |verb| Load { verb, connections: CONNECTIONS, keys, until: Until::After(size.time), seed: 2 };
    let put = load::run(Dialect::Rest, &[port], &load(Verb::Put))?;
    let get = load::run(Dialect::Rest, &[port], &load(Verb::Get))?;
    load::run(Dialect::Rest, &[port], &fill)?;
    Ok(vec![
        Cell::Figure(keys as f64, 0),
        Cell::Figure(start, 0),
        mebibytes(memory),
        mebibytes(filled),
        Cell::Figure(put.rate(), 0),
        Cell::Figure(put.times.value_at_quantile(0.99) as f64, 0),
        Cell::Figure(get.rate(), 0),
        mebibytes(disk(folder.path())?),
    ])
}

/// A node over this folder, and the milliseconds until it served.
fn started(folder: &Path, port: u16) -> Result<(Server, f64)> {
    let began = Instant::now();
    let node = Server::node(folder, "one", port, &[])?;
    Ok((node, began.elapsed().as_secs_f64() * 1e3))
}

fn nodes(size: &Size) -> Result<Table> {
    let mut table = Table::new(
        "Clusters on one machine",
        format!("{CONNECTIONS} connections spread over the nodes; all share two cores and one disk."),
        &["nodes", "PUT/s", "PUT p99 µs", "GET/s", "ms until all agree", "memory MiB per node"],
    );
    for &count in &size.nodes {
        eprintln!("{count} nodes");
        let folder = tempfile::tempdir_in(".")?;
        let nodes = process::cluster(folder.path(), count)?;
        let ports: Vec<u16> = nodes.iter().map(|node| node.port).collect();
        let load =
            |verb, until| Load { verb, connections: CONNECTIONS, keys: 10_000, until, seed: count as u64 };
        load::run(Dialect::Rest, &ports, &load(Verb::Put, Until::AllKeys))?;
        let put = load::run(Dialect::Rest, &ports, &load(Verb::Put, Until::After(size.time)))?;
        let written = Instant::now();
        wait("all nodes agree", || {
            let roots = nodes.iter().map(|node| node.get("/merkle_tree/root")).collect::<Result<Vec<_>>>()?;
            Ok(roots.iter().all(|root| *root == roots[0]))
        })?;
        let agreed = written.elapsed().as_secs_f64() * 1e3;
        let get = load::run(Dialect::Rest, &ports, &load(Verb::Get, Until::After(size.time)))?;
        let memory = nodes.iter().map(Server::memory).sum::<Result<u64>>()? / count as u64;
        table.row(vec![
            Cell::Figure(count as f64, 0),
            Cell::Figure(put.rate(), 0),
            Cell::Figure(put.times.value_at_quantile(0.99) as f64, 0),
            Cell::Figure(get.rate(), 0),
            Cell::Figure(agreed, 0),
            mebibytes(memory),
        ]);
    }
    Ok(table)
}

fn mebibytes(bytes: u64) -> Cell {
    Cell::Figure(bytes as f64 / f64::from(1 << 20), 1)
}

/// Bytes of the files in a folder.
fn disk(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let data = entry.metadata().context("a file of the node")?;
        bytes += if data.is_dir() { disk(&entry.path())? } else { data.len() };
    }
    Ok(bytes)
}

//! From the acknowledgement of a write on one node to the moment another shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::load::{self, Client, Dialect, Load, Until, VALUE_BYTES, Verb};
use crate::process;
use crate::report::{Cell, Table};
use crate::size::Size;

/// Between two samples of an idle cluster.
const PAUSE: Duration = Duration::from_millis(5);
/// Longest time that a write may need.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections that write at the same time, in the loaded case.
const WRITERS: usize = 16;

/// The table.
pub fn run(size: &Size) -> Result<Table> {
    eprintln!("from node to node");
    let folder = tempfile::tempdir_in(".")?;
    let nodes = process::cluster(folder.path(), 3)?;
    let (a, b, c) = (nodes[0].port, nodes[1].port, nodes[2].port);
    let mut table = Table::new(
        "From node to node",
        format!(
            "Three nodes; from the acknowledgement on A until C shows the value; {} samples.",
            size.samples
        ),
        &["cluster", "p50 µs", "p99 µs", "most µs", "aim p50 / p99"],
    );
    let idle = sample(a, c, size.samples, 0)?;
    row(&mut table, "idle", &idle, "1,500 / 5,000");

    let is_over = Arc::new(AtomicBool::new(false));
    let until = Until::Told(Arc::clone(&is_over));
    let noise = thread::spawn(move || {
        let load = Load { verb: Verb::Put, connections: WRITERS, keys: 100_000, until, seed: 99 };
        load::run(Dialect::Rest, &[b], &load)
    });
    let loaded = sample(a, c, size.samples, 1);
    is_over.store(true, Ordering::Relaxed);
    let written = noise.join().map_err(|_| anyhow::anyhow!("the writers panicked"))??;
    row(&mut table, &format!("{WRITERS} writers on B, {:.0} writes/s", written.rate()), &loaded?, "");
    Ok(table)
}

fn row(table: &mut Table, what: &str, times: &Histogram<u64>, aim: &str) {
    table.row(vec![
        Cell::text(what),
        Cell::Figure(times.value_at_quantile(0.5) as f64, 0),
        Cell::Figure(times.value_at_quantile(0.99) as f64, 0),
        Cell::Figure(times.max() as f64, 0),
        Cell::text(aim),
    ]);
}

fn sample(from: u16, to: u16, samples: usize, series: usize) -> Result<Histogram<u64>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut writer = Client::open(Dialect::Rest, from).await?;
        let mut reader = Client::open(Dialect::Rest, to).await?;
        let value = Bytes::from(vec![b'7'; VALUE_BYTES]);
        let mut times = load::histogram()?;
        for number in 0..samples {
            let key = format!("lag/{series}/{number}");
            writer.put(&key, &value).await?;
            let written = Instant::now();
            while !reader.get(&key).await? {
                ensure!(written.elapsed() < PATIENCE, "{key} did not arrive");
            }
            times.saturating_record(written.elapsed().as_micros() as u64);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(times)
    })
}

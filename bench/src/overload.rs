//! Three times as much to do as a node can: what it takes it finishes, the rest is refused at once, its memory stays
//! flat, and nobody takes it for dead.
//!
//! The nodes run on one processor and the load on the other, where there are two: otherwise the load would be part of
//! what is measured, and slow the node down by being more.
//!
//! Both loads take turns: a store that grows, and a machine that is faster at one time than at another, would else be
//! taken for what the crowd did.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use hyper::StatusCode;

use crate::load::{self, Client, Dialect, VALUE_BYTES};
use crate::process::{self, Server, wait};
use crate::report::{Cell, Table};
use crate::size::Size;

/// How often what the node does at its best.
const FACTOR: f64 = 3.0;
/// Connections that find the best: more do not get more done.
const CLIENTS: usize = 128;
/// Connections of the crowd: the node takes 512 requests at once.
const CROWD: usize = 1000;
/// How often each of the two loads has its turn.
const ROUNDS: usize = 4;
/// Least share of the best that must still be done.
const GOODPUT_MIN: f64 = 0.8;
/// Most that the node's memory may grow.
const GROWTH_MAX: u64 = 128 << 20;
/// Between two looks at memory and members.
const LOOK: Duration = Duration::from_millis(200);

/// What came of a load.
struct Crowd {
    took: Duration,
    done: Histogram<u64>,
    refused: Histogram<u64>,
    failed: u64,
    why: Option<String>,
}

impl Crowd {
    fn new() -> Result<Crowd> {
        let empty = load::histogram()?;
        Ok(Crowd { took: Duration::ZERO, done: empty.clone(), refused: empty, failed: 0, why: None })
    }

    /// Another part of the same load.
    fn add(&mut self, more: &Crowd) -> Result<()> {
        self.took += more.took;
        self.join(more)
    }

    /// Another connection of the same load.
    fn join(&mut self, other: &Crowd) -> Result<()> {
        self.done.add(&other.done)?;
        self.refused.add(&other.refused)?;
        self.failed += other.failed;
        self.why = self.why.take().or_else(|| other.why.clone());
        Ok(())
    }

    fn per_second(&self, times: &Histogram<u64>) -> f64 {
        times.len() as f64 / self.took.as_secs_f64()
    }
}

/// The table; fails if the node does not keep its promises.
pub fn run(size: &Size) -> Result<Table> {
    eprintln!("overload");
    let folder = tempfile::tempdir_in(".")?;
    let nodes = process::cluster(folder.path(), 3)?;
    let apart = nodes.iter().all(|node| node.pin(0)) && process::pin_self(1);
    let (ports, port) = (nodes.iter().map(|node| node.port).collect::<Vec<_>>(), nodes[0].port);
    let first = put(port, CLIENTS, None, size.time)?;
    let rate = FACTOR * first.per_second(&first.done);
    let before = nodes[0].memory()?;

    let is_over = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&is_over);
    let (watched, best, crowd) = thread::scope(|scope| -> Result<_> {
        let watching = scope.spawn(|| watch(&nodes, &watched));
        let rounds = rounds(port, rate, size.time * 2);
        is_over.store(true, Ordering::Relaxed);
        let watched = watching.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))?;
        let (best, crowd) = rounds?;
        Ok((watched?, best, crowd))
    })?;
    let (most, dead) = watched;
    wait("all nodes agree", || {
        let roots = ports.iter().zip(&nodes).map(|(_, node)| node.get("/merkle_tree/root"));
        let roots = roots.collect::<Result<Vec<_>>>()?;
        Ok(roots.iter().all(|root| *root == roots[0]))
    })?;

    let share = crowd.per_second(&crowd.done) / best.per_second(&best.done);
    let mut table = Table::new(
        "Overload",
        format!(
            "Writes to one of three nodes; {CROWD} connections that want {FACTOR} times what {CLIENTS} got done, \
             {ROUNDS} turns each{}.",
            if apart { "; nodes on one processor, load on another" } else { "" }
        ),
        &[
            "load",
            "done/s",
            "done p99 ms",
            "refused/s",
            "refused p50 ms",
            "refused p99 ms",
            "failed",
            "memory MiB",
            "goodput %",
            "taken for dead",
        ],
    );
    table.row(line("at its best", &best, before, None, None));
    table.row(line("too much", &crowd, most, Some(share), Some(dead)));
    if crowd.failed > 0 || dead > 0 || most >= before + GROWTH_MAX || share < GOODPUT_MIN {
        // Nobody else would show what led to the refusal below.
        table.print();
    }
    ensure!(crowd.failed == 0, "{} requests failed: {}", crowd.failed, crowd.why.unwrap_or_default());
    ensure!(dead == 0, "a member was taken for dead {dead} times");
    ensure!(most < before + GROWTH_MAX, "memory grew from {before} to {most} bytes");
    ensure!(share >= GOODPUT_MIN, "goodput fell to {share:.2} of what the node did at its best");
    Ok(table)
}

fn line(what: &str, crowd: &Crowd, memory: u64, share: Option<f64>, dead: Option<usize>) -> Vec<Cell> {
    let at = |times: &Histogram<u64>, quantile| {
        if times.is_empty() {
            return Cell::None("-");
        }
        Cell::Figure(times.value_at_quantile(quantile) as f64 / 1e3, 1)
    };
    vec![
        Cell::text(what),
        Cell::Figure(crowd.per_second(&crowd.done), 0),
        at(&crowd.done, 0.99),
        Cell::Figure(crowd.per_second(&crowd.refused), 0),
        at(&crowd.refused, 0.5),
        at(&crowd.refused, 0.99),
        Cell::Figure(crowd.failed as f64, 0),
        Cell::Figure(memory as f64 / f64::from(1 << 20), 0),
        share.map_or(Cell::None("-"), |share| Cell::Figure(share * 100.0, 0)),
        dead.map_or(Cell::None("-"), |dead| Cell::Figure(dead as f64, 0)),
    ]
}

/// What is done at best and what is done of too much, in turns.
fn rounds(port: u16, first: f64, time: Duration) -> Result<(Crowd, Crowd)> {
    let (mut best, mut crowd) = (Crowd::new()?, Crowd::new()?);
    let mut rate = first;
    for _ in 0..ROUNDS {
        best.add(&put(port, CLIENTS, None, time)?)?;
        // Three times the best that was seen so far: a slow beginning must not make it an easy crowd.
        rate = rate.max(FACTOR * best.per_second(&best.done));
        crowd.add(&put(port, CROWD, Some(rate), time)?)?;
    }
    Ok((best, crowd))
}

/// The most memory that the first node held, and how often another node believed one to be down.
fn watch(nodes: &[Server], is_over: &AtomicBool) -> Result<(u64, usize)> {
    let (mut most, mut dead) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        most = most.max(nodes[0].memory()?);
        for node in &nodes[1..] {
            let members = node.get("/members/")?;
            let members = members.as_array().map(Vec::as_slice).unwrap_or_default();
            dead += members.iter().filter(|member| member["state"] == "down").count();
        }
        thread::sleep(LOOK);
    }
    Ok((most, dead))
}

/// Writes from so many connections: as fast as they are answered, or so many a second together.
fn put(port: u16, connections: usize, rate: Option<f64>, time: Duration) -> Result<Crowd> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(Client::open(Dialect::Rest, port).await?);
        }
        let began = Instant::now();
        let pause = rate.map(|rate| Duration::from_secs_f64(connections as f64 / rate));
        let tasks: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(at, client)| {
                // The connections' turns are spread evenly over the pause.
                let first = pause.unwrap_or_default().mul_f64(at as f64 / connections as f64);
                tokio::spawn(one(client, at as u64, began + first, pause, began + time))
            })
            .collect();
        let mut all = Crowd::new()?;
        for task in tasks {
            all.join(&task.await??)?;
        }
        all.took = began.elapsed();
        Ok(all)
    })
}

async fn one(
    mut client: Client,
    at: u64,
    mut next: Instant,
    pause: Option<Duration>,
    until: Instant,
) -> Result<Crowd> {
    let mut seen = Crowd::new()?;
    let value = Bytes::from(vec![b'7'; VALUE_BYTES]);
    for turn in 0.. {
        if let Some(pause) = pause {
            tokio::time::sleep_until(next.into()).await;
            // What an answer was late is not made up for: that would be another load than the one asked for.
            next = (next + pause).max(Instant::now());
        }
        let asked = Instant::now();
        if asked >= until {
            break;
        }
        let status = client.try_put(&load::key((at << 20 | turn) % 100_000), &value).await;
        let took = asked.elapsed().as_micros() as u64;
        match status {
            Ok(StatusCode::OK) => seen.done.saturating_record(took),
            Ok(StatusCode::SERVICE_UNAVAILABLE) => seen.refused.saturating_record(took),
            Ok(status) => {
                seen.failed += 1;
                seen.why = Some(status.to_string());
            }
            Err(error) => {
                seen.failed += 1;
                seen.why = Some(format!("{error:#}"));
                break;
            }
        }
    }
    Ok(seen)
}

//! `kv bench`: how much the nodes answer and how fast, as a client sees it.
//!
//! Each connection asks again as soon as it is answered, or, with `--rate`, when its next turn has come. Refusals (503)
//! are counted apart and are no goodput: the figures show what nodes do with more than they can.

#![allow(clippy::disallowed_methods, reason = "durations of real requests are what it measures")]

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use reknit::client::{Client, ClientError, Options};
use reknit::model::Key;
use serde_json::{Value as Json, json};

use crate::show::{print_json, status_table};
use crate::{Failure, Output, duration};

/// Most connections.
const CONNECTIONS_MAX: u16 = 4096;
/// Most durations that one connection keeps; beyond them only counts go on.
const SAMPLES_MAX: usize = 1 << 20;
/// Stack of a thread that only waits.
const STACK_BYTES: usize = 256 << 10;

/// What to ask, how often at once, for how long.
#[derive(Args, Clone)]
pub struct Bench {
    /// What each request does
    #[arg(long, default_value = "put")]
    op: Op,
    /// How many ask at once
    #[arg(short, long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=i64::from(CONNECTIONS_MAX)))]
    connections: u16,
    /// How many requests a second all connections ask together; without it, as many as are answered
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// For how long
    #[arg(short, long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    duration: Duration,
    /// Bytes of a value
    #[arg(short, long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    size: u32,
    /// Keys that are written or read, below bench/
    #[arg(short, long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Op {
    Put,
    Get,
    /// Nine reads to a write
    Mixed,
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    done: u64,
    refused: u64,
    failed: u64,
    done_micros: Vec<u32>,
    refused_micros: Vec<u32>,
    last_failure: Option<String>,
}

impl Bench {
    /// Runs and prints the figures.
    pub fn run(&self, client: &Client, output: Output) -> Result<(), Failure> {
        let began = Instant::now();
        let until = began + self.duration;
        let seen: Vec<Seen> = std::thread::scope(|scope| {
            let ask = |number| {
                let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
                thread.spawn_scoped(scope, move || self.ask(client, number, until))
            };
            let threads: Result<Vec<_>, _> = (0..self.connections).map(ask).collect();
            let threads = threads.map_err(|error| Failure::Io("a thread".into(), error))?;
            Ok::<_, Failure>(
                threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect(),
            )
        })?;
        let figures = self.figures(&seen, began.elapsed());
        match output {
            Output::Json | Output::Raw => print_json(&figures)?,
            Output::Table => status_table(&figures)?,
        }
        match seen.into_iter().find_map(|seen| seen.last_failure) {
            Some(why) if figures["done"] == 0 => Err(ClientError::Unreachable(why).into()),
            _ => Ok(()),
        }
    }

    /// Asks until the time is over. Each connection goes through the keys from a place of its own.
    fn ask(&self, client: &Client, number: u16, until: Instant) -> Seen {
        let endpoints = client.endpoints();
        let mine = client.at(&endpoints[usize::from(number) % endpoints.len()]).expect("it was one before");
        let value = vec![b'x'; self.size as usize];
        let mut seen = Seen::default();
        let mut turn = u64::from(number).wrapping_mul(0x9e37_79b9);
        let pause =
            self.rate.map(|rate| Duration::from_secs_f64(f64::from(self.connections) / f64::from(rate)));
        // The connections' turns are spread evenly over the pause.
        let share = f64::from(number) / f64::from(self.connections);
        let mut next = Instant::now() + pause.unwrap_or_default().mul_f64(share);
        loop {
            if let Some(pause) = pause {
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                // What an answer was late is not made up for: that would be another load than the one asked for.
                next = (next + pause).max(Instant::now());
            }
            if Instant::now() >= until {
                break;
            }
            turn = turn.wrapping_add(1);
            let key =
                Key::from_path(&format!("bench/{:08}", turn % u64::from(self.keys))).expect("a plain key");
            let is_put = match self.op {
                Op::Put => true,
                Op::Get => false,
                Op::Mixed => turn.is_multiple_of(10),
            };
            let began = Instant::now();
            let result = if is_put {
                mine.put(&key, &value, "text/plain", &Options::default()).map(drop)
            } else {
                mine.get(&key).map(drop)
            };
            seen.note(result, began.elapsed());
        }
        seen
    }

    fn figures(&self, seen: &[Seen], took: Duration) -> Json {
        let sum = |count: fn(&Seen) -> u64| seen.iter().map(count).sum::<u64>();
        let done = sum(|seen| seen.done);
        let last = seen.iter().find_map(|seen| seen.last_failure.clone());
        json!({
            "connections": self.connections,
            "seconds": (took.as_secs_f64() * 10.0).round() / 10.0,
            "done": done,
            "done_per_second": (done as f64 / took.as_secs_f64()).round(),
            "refused_503": sum(|seen| seen.refused),
            "failed": sum(|seen| seen.failed),
            "done_micros": percentiles(seen, |seen| &seen.done_micros),
            "refused_micros": percentiles(seen, |seen| &seen.refused_micros),
            "failure": last,
        })
    }
}

impl Seen {
    fn note(&mut self, result: Result<(), ClientError>, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let samples = match result {
            Ok(()) => {
                self.done += 1;
                &mut self.done_micros
            }
            Err(ClientError::Refused(problem)) if problem.status == 503 => {
                self.refused += 1;
                &mut self.refused_micros
            }
            Err(error) => {
                self.failed += 1;
                self.last_failure = Some(error.to_string());
                return;
            }
        };
        if samples.len() < SAMPLES_MAX {
            samples.push(micros);
        }
    }
}

fn percentiles(seen: &[Seen], samples: fn(&Seen) -> &Vec<u32>) -> Json {
    let mut all: Vec<u32> = seen.iter().flat_map(samples).copied().collect();
    all.sort_unstable();
    let at = |share: usize| all.get((all.len() * share / 1000).min(all.len().saturating_sub(1)));
    json!({ "p50": at(500), "p90": at(900), "p99": at(990), "p999": at(999), "max": all.last() })
}

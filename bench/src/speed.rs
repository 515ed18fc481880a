//! Durable writes and reads over the network, side by side: every subject gets every load in every round, and the
//! median of the rounds counts.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::bare;
use crate::load::{self, Dialect, Load, Outcome, Until, Verb};
use crate::process::{self, Server, beside, free_port, installed};
use crate::report::{Cell, Table};
use crate::size::Size;

/// Keys that reads draw from; they are written first.
const READ_KEYS: u64 = 10_000;
/// Keys that writes draw from.
const WRITE_KEYS: u64 = 100_000;
const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// Something that serves.
struct Subject {
    name: &'static str,
    dialect: Dialect,
    servers: Vec<Server>,
    verbs: &'static [Verb],
}

/// One load on one subject, in every round.
struct Measured {
    name: &'static str,
    verb: Verb,
    connections: usize,
    rounds: Vec<Round>,
}

#[derive(Clone, Copy)]
struct Round {
    rate: f64,
    p50: f64,
    p99: f64,
    /// Microseconds of processor time of all its processes, per operation.
    cpu: f64,
}

/// The two tables: ratios, then figures.
pub fn run(size: &Size) -> Result<Vec<Table>> {
    let folder = tempfile::tempdir_in(".")?;
    let subjects = subjects(folder.path())?;
    for subject in &subjects {
        if subject.verbs.contains(&Verb::Put) {
            let fill =
                Load { verb: Verb::Put, connections: 64, keys: READ_KEYS, until: Until::AllKeys, seed: 0 };
            load::run(subject.dialect, &subject.ports(), &fill)?;
        }
    }
    let mut all = Vec::new();
    for round in 0..size.rounds {
        eprintln!("throughput, round {} of {}", round + 1, size.rounds);
        for verb in [Verb::Put, Verb::Get] {
            for connections in CONNECTIONS {
                for subject in subjects.iter().filter(|subject| subject.verbs.contains(&verb)) {
                    let measured = subject.measure(verb, connections, size.time, round as u64)?;
                    note(&mut all, subject.name, verb, connections, measured);
                }
                if verb == Verb::Put {
                    let raw = bare::group_commit(&fresh(folder.path())?, connections, WRITE_KEYS, size.time)?;
                    note(&mut all, RAW, verb, connections, Round::of(&raw, Duration::ZERO));
                }
            }
        }
    }
    Ok(vec![ratios(&all), figures(&all, size)])
}

const ONE: &str = "reknit, 1 node";
const THREE: &str = "reknit, 3 nodes";
const CONSTANT: &str = "axum, a constant";
const REDB: &str = "axum + redb, group commit";
const RAW: &str = "redb, group commit, no network";
const ETCD: &str = "etcd, 1 node";
const ETCD_THREE: &str = "etcd, 3 nodes";
const REDIS: &str = "redis, appendfsync always";

fn subjects(folder: &Path) -> Result<Vec<Subject>> {
    const BOTH: &[Verb] = &[Verb::Put, Verb::Get];
    let rest = |name, servers, verbs| Subject { name, dialect: Dialect::Rest, servers, verbs };
    let one = Server::node(&fresh(folder)?, "one", free_port()?, &[])?;
    let three = process::cluster(&fresh(folder)?, 3)?;
    let constant = bare(&["constant".into(), String::new()], folder)?;
    let redb = bare(&["redb".into(), fresh(folder)?.display().to_string()], folder)?;
    let mut subjects = vec![
        rest(ONE, vec![one], BOTH),
        rest(THREE, three, BOTH),
        rest(CONSTANT, vec![constant], &[Verb::Get]),
        rest(REDB, vec![redb], BOTH),
    ];
    match installed("etcd") {
        Some(program) => {
            for (name, count) in [(ETCD, 1), (ETCD_THREE, 3)] {
                let servers = etcd(&program, &fresh(folder)?, count)?;
                subjects.push(Subject { name, dialect: Dialect::Etcd, servers, verbs: BOTH });
            }
        }
        None => eprintln!("etcd is not installed: left out"),
    }
    match installed("redis-server") {
        Some(program) => {
            let servers = vec![redis(&program, &fresh(folder)?)?];
            subjects.push(Subject { name: REDIS, dialect: Dialect::Redis, servers, verbs: BOTH });
        }
        None => eprintln!("redis-server is not installed: left out"),
    }
    Ok(subjects)
}

/// A folder of its own under this one.
fn fresh(folder: &Path) -> Result<std::path::PathBuf> {
    Ok(tempfile::tempdir_in(folder)?.keep())
}

fn bare(arguments: &[String], folder: &Path) -> Result<Server> {
    let port = free_port()?;
    let mut command = Command::new(beside("bench")?);
    command.arg("serve").arg(port.to_string()).args(arguments);
    let server = Server::start(&mut command, &folder.join(format!("{}.log", arguments[0])), port)?;
    server.wait_for("/livez")?;
    Ok(server)
}

fn etcd(program: &Path, folder: &Path, count: usize) -> Result<Vec<Server>> {
    let ports = (0..2 * count).map(|_| free_port()).collect::<Result<Vec<u16>>>()?;
    let peer = |at: usize| format!("http://127.0.0.1:{}", ports[count + at]);
    let all: Vec<String> = (0..count).map(|at| format!("n{at}={}", peer(at))).collect();
    let mut servers = Vec::new();
    for (at, port) in ports.iter().enumerate().take(count) {
        let client = format!("http://127.0.0.1:{port}");
        let mut command = Command::new(program);
        command.args([
            "--name",
            &format!("n{at}"),
            "--data-dir",
            &folder.join(format!("n{at}")).display().to_string(),
        ]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer(at), "--initial-advertise-peer-urls", &peer(at)]);
        command.args(["--initial-cluster", &all.join(","), "--log-level", "error"]);
        servers.push(Server::start(&mut command, &folder.join(format!("n{at}.log")), *port)?);
    }
    for server in &servers {
        server.wait_for("/health")?;
    }
    Ok(servers)
}

fn redis(program: &Path, folder: &Path) -> Result<Server> {
    let port = free_port()?;
    let mut command = Command::new(program);
    command.args(["--port", &port.to_string(), "--dir", &folder.display().to_string(), "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "always"]);
    let server = Server::start(&mut command, &folder.join("log"), port)?;
    process::wait("redis listens", || Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()))?;
    Ok(server)
}

impl Subject {
    fn ports(&self) -> Vec<u16> {
        self.servers.iter().map(|server| server.port).collect()
    }

    fn cpu(&self) -> Result<Duration> {
        self.servers.iter().map(Server::cpu).sum()
    }

    fn measure(&self, verb: Verb, connections: usize, time: Duration, seed: u64) -> Result<Round> {
        let keys = if verb == Verb::Put { WRITE_KEYS } else { READ_KEYS };
        let before = self.cpu()?;
        let load = Load { verb, connections, keys, until: Until::After(time), seed: seed << 8 };
        let outcome = load::run(self.dialect, &self.ports(), &load)?;
        Ok(Round::of(&outcome, self.cpu()?.saturating_sub(before)))
    }
}

impl Round {
    fn of(outcome: &Outcome, cpu: Duration) -> Round {
        Round {
            rate: outcome.rate(),
            p50: outcome.times.value_at_quantile(0.5) as f64,
            p99: outcome.times.value_at_quantile(0.99) as f64,
            cpu: cpu.as_secs_f64() * 1e6 / outcome.operations.max(1) as f64,
        }
    }
}

impl Measured {
    fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        let mut figures: Vec<f64> = self.rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    }
}

fn note(all: &mut Vec<Measured>, name: &'static str, verb: Verb, connections: usize, round: Round) {
    let same = |one: &&mut Measured| one.name == name && one.verb == verb && one.connections == connections;
    match all.iter_mut().find(same) {
        Some(one) => one.rounds.push(round),
        None => all.push(Measured { name, verb, connections, rounds: vec![round] }),
    }
}

/// Reknit against each ceiling and each rival, with what is aimed for.
fn ratios(all: &[Measured]) -> Table {
    let mut table = Table::new(
        "Ratios of throughput",
        "Reknit's operations per second over the other's, in the same run.",
        &["what", "connections", "against", "ratio", "aim"],
    );
    let of = |name: &str, verb, connections| {
        let same = |one: &&Measured| one.name == name && one.verb == verb && one.connections == connections;
        all.iter().find(same).map(|one| one.median(|round| round.rate))
    };
    let mut line = |ours: &'static str, verb: Verb, theirs: &'static str, aim: Option<f64>| {
        for connections in CONNECTIONS {
            let (Some(own), Some(other)) = (of(ours, verb, connections), of(theirs, verb, connections))
            else {
                continue;
            };
            let aim = aim.filter(|_| connections == 64 || verb == Verb::Get);
            table.row(vec![
                Cell::text(format!("{verb:?} {ours}")),
                Cell::Figure(connections as f64, 0),
                Cell::text(theirs),
                Cell::Figure(own / other, 2),
                aim.map_or(Cell::None(""), |aim| Cell::text(format!("≥ {aim}"))),
            ]);
        }
    };
    line(ONE, Verb::Put, RAW, Some(0.6));
    line(ONE, Verb::Put, REDB, Some(0.8));
    line(ONE, Verb::Put, ETCD, Some(3.0));
    line(THREE, Verb::Put, ETCD_THREE, None);
    line(ONE, Verb::Put, REDIS, None);
    line(ONE, Verb::Get, CONSTANT, Some(0.7));
    line(ONE, Verb::Get, REDB, None);
    line(ONE, Verb::Get, ETCD, Some(1.0));
    line(THREE, Verb::Get, ETCD_THREE, None);
    line(ONE, Verb::Get, REDIS, None);
    table
}

fn figures(all: &[Measured], size: &Size) -> Table {
    let about = format!(
        "Values of {} bytes, keys of 32; {} rounds of {:?} each, medians. CPU is of the server's processes, per operation.",
        load::VALUE_BYTES,
        size.rounds,
        size.time
    );
    let columns = ["server", "verb", "connections", "per second", "p50 µs", "p99 µs", "CPU µs"];
    let mut table = Table::new("Throughput and answer times", about, &columns);
    let mut sorted: Vec<&Measured> = all.iter().collect();
    sorted.sort_by_key(|one| (one.verb == Verb::Get, one.connections));
    for one in sorted {
        table.row(vec![
            Cell::text(one.name),
            Cell::text(format!("{:?}", one.verb).to_uppercase()),
            Cell::Figure(one.connections as f64, 0),
            Cell::Figure(one.median(|round| round.rate), 0),
            Cell::Figure(one.median(|round| round.p50), 0),
            Cell::Figure(one.median(|round| round.p99), 0),
            if one.name == RAW { Cell::None("-") } else { Cell::Figure(one.median(|round| round.cpu), 1) },
        ]);
    }
    table
}

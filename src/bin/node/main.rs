//! `node`: the server. Thin: reads the configuration, puts disk, node, peers and API together, and ends well.

mod cert;
mod service;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use reknit::api::{self, App, Connections, Info, Limits, SharedReader, Tokens};
use reknit::config::{Config, ConfigError, KEYS, LogFormat, LogLevel};
use reknit::driver::tokio_world::{
    LoopFailure, LoopThread, Peers, PeersSettings, SystemClock, TcpNetwork, Tls, spawn_loop,
};
use reknit::driver::{Clock, Mailbox, Pulse, mailbox};
use reknit::model::{Reply, Request};
use reknit::node::Node;
use reknit::storage::StorageError;
use reknit::storage::engine::Engine;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Many small allocations on several threads: the system's allocator spends three times as long on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "mutants")]
compile_error!(
    "a node with known bugs inside is for the simulator only: build `node` without the feature `mutants`"
);

const HELP: &str = "\
Every setting is a key of CONFIG (YAML), a variable (port: REKNIT_PORT) and a flag (--port).
Flags win over variables, variables over the file, the file over defaults. No file is written unasked.

Exit codes:
  0  stopped by SIGTERM or SIGINT, or left its cluster
  1  could not start or go on
  2  wrong arguments or configuration
  3  the disk failed, and opening it again did not help";

/// How long the loop may take to say that it is draining, to let connections to peers end, and to end itself.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(5);
/// How often a disk that failed is tried again while its last readers still hold it.
const LOCKED_RETRIES: u32 = 50;
/// The time between two such attempts.
const LOCKED_PAUSE: Duration = Duration::from_millis(100);

/// Why the process ends without having been asked to.
#[derive(Debug)]
enum Failure {
    Config(ConfigError),
    /// What could not be done, and why.
    Start(String, String),
    Loop(LoopFailure),
}

fn main() -> ExitCode {
    let arguments = command().get_matches();
    match arguments.subcommand() {
        Some(("token", asked)) => return make_token(asked),
        Some(("cert", asked)) => return make_certificates(asked),
        _ => {}
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("node: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn make_token(asked: &ArgMatches) -> ExitCode {
    let text = |name: &str| asked.get_one::<String>(name).expect("required or with a default").as_str();
    match api::new_token(text("NAME"), text("scopes"), text("prefix"), dice()) {
        Ok((token, line)) => {
            eprintln!("{token}");
            say(&line);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("node: {why}");
            ExitCode::from(2)
        }
    }
}

fn make_certificates(asked: &ArgMatches) -> ExitCode {
    let ("dev", asked) = asked.subcommand().expect("clap requires it") else {
        unreachable!("there is no other")
    };
    let texts =
        |name: &str| asked.get_many::<String>(name).into_iter().flatten().cloned().collect::<Vec<_>>();
    let directory = asked.get_one::<PathBuf>("out").expect("it has a default");
    match cert::write_dev(directory, &texts("NODE"), &texts("host")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("node: cannot write certificates to {}: {why}", directory.display());
            ExitCode::from(1)
        }
    }
}

fn command() -> Command {
    let switch = |name: &'static str, about: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(about)
    };
    let setting = |key: &'static reknit::config::Key| {
        let dashed = key.name.replace('_', "-");
        let arg = Arg::new(key.name).long(dashed).value_name("VALUE").help(key.about);
        arg.alias(key.name).help_heading("Settings").value_parser(value_parser!(String))
    };
    Command::new("node")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A node of a reknit cluster; without arguments a standalone one on 127.0.0.1:8080 with ./data")
        .after_help(HELP)
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
        .subcommand(
            Command::new("token")
                .about("Make a bearer token: its line for tokens_file on standard output, the token on standard error")
                .arg(Arg::new("NAME").required(true).help("Who uses it"))
                .arg(Arg::new("scopes").long("scopes").default_value("read").help("Of read, write, admin"))
                .arg(Arg::new("prefix").long("prefix").default_value("").help("Only keys that begin so")),
        )
        .subcommand(
            Command::new("cert").about("Make certificates").subcommand_required(true).subcommand(
                Command::new("dev")
                    .about("Write an authority and a certificate per node, for trying TLS out; no file is replaced")
                    .arg(Arg::new("NODE").required(true).num_args(1..).help("The nodes' ids"))
                    .arg(
                        Arg::new("host")
                            .long("host")
                            .action(ArgAction::Append)
                            .help("A name or address that nodes are reached at, beside their ids and this host; repeatable"),
                    )
                    .arg(
                        Arg::new("out")
                            .long("out")
                            .default_value("certs")
                            .value_parser(value_parser!(PathBuf))
                            .help("Directory to write to"),
                    ),
            ),
        )
        .arg(Arg::new("CONFIG").value_parser(value_parser!(PathBuf)).help("Configuration file (YAML)"))
        .arg(switch("check-config", "Check the configuration and stop"))
        .arg(switch("print-config", "Print the configuration with where each value comes from, and stop"))
        .arg(
            Arg::new("restore")
                .long("restore")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Fill an empty data_dir from a backup first; the node begins a new life of its own"),
        )
        .args(KEYS.iter().map(setting))
}

fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    let config = configuration(arguments)?;
    if arguments.get_flag("print-config") {
        say(config.to_yaml().trim_end());
        return Ok(());
    }
    if arguments.get_flag("check-config") {
        config.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
        say("the configuration is fine");
        return Ok(());
    }
    let log = start_log(&config);
    config.warnings().iter().for_each(|warning| tracing::warn!(event = "configuration", "{warning}"));
    if let Some(backup) = arguments.get_one::<PathBuf>("restore") {
        let what = || format!("restore {} into {}", backup.display(), config.data_dir.display());
        let restored = Engine::restore(&config.data_dir, backup);
        let counted = restored.map_err(|error| Failure::start(&what(), error))?;
        tracing::info!(event = "restored", rows = counted.rows, bytes = counted.bytes, "{}", what());
    }
    allow_many_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::start("start the I/O runtime", error))?;
    let reread = || configuration(arguments);
    let result = runtime.block_on(live(config, &log, &reread));
    // What still runs there is reads of clients who are gone.
    runtime.shutdown_background();
    result
}

fn configuration(arguments: &ArgMatches) -> Result<Config, Failure> {
    let file = arguments.get_one::<PathBuf>("CONFIG").map(PathBuf::as_path);
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    let flag = |key: &reknit::config::Key| {
        Some((key.name.to_owned(), arguments.get_one::<String>(key.name)?.clone()))
    };
    Config::load(file, variables, KEYS.iter().filter_map(flag)).map_err(Failure::Config)
}

/// As many files as the system allows this process: the usual 1024 would be used up by clients alone, and the node could
/// then neither call its peers nor open a file of its own.
fn allow_many_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(event = "few-files", "no more than {current:?} files may be open: {error}");
    }
}

/// The whole life of the process, between the configuration and the exit code.
async fn live(config: Config, log: &LogHandle, reread: Reread<'_>) -> Result<(), Failure> {
    let deaf = |error| Failure::start("listen for signals", error);
    let mut signals = Signals::listen().map_err(deaf)?;
    // Asks to read the configuration, tokens and certificates again.
    let mut hangup = signal(SignalKind::hangup()).map_err(deaf)?;
    // The port first: whoever starts a node twice should read that, and nothing be touched.
    let listener = api::listen(config.listen())
        .map_err(|error| Failure::start(&format!("listen on {}", config.listen()), error))?;

    let mut parts = Parts::start(&config, listener)?;
    announce(&config);
    service::ready();
    let watching = start_watch(&parts.mailbox);

    let ended = loop {
        tokio::select! {
            biased;
            result = parts.running.ended() => break Some(result.map(drop)),
            () = signals.next() => break None,
            _ = hangup.recv() => {
                parts.reload(&config);
                reconfigure(&parts.mailbox, &config, log, reread).await;
            }
        }
    };
    service::stopping();
    watching.abort();
    tokio::select! {
        biased;
        result = parts.say_goodbye(ended) => result.map_err(Failure::Loop),
        () = signals.next() => Err(Failure::start("stop in peace", "a second signal came")),
    }
}

/// Takes over what of the configuration can change while the node runs: the level of the log, the intervals, and
/// `read_only` where it is another than at the start. A configuration that is wrong changes nothing.
async fn reconfigure(mailbox: &Mailbox, before: &Config, log: &LogHandle, reread: Reread<'_>) {
    let config = match reread() {
        Ok(config) => config,
        Err(failure) => {
            tracing::error!(event = "configuration-not-reloaded", "{failure}; everything is as before");
            return;
        }
    };
    if let Err(error) = log.reload(targets(&config)) {
        tracing::error!(event = "log-not-reloaded", "{error}");
    }
    let settings = config.settings();
    let mut wishes = vec![Request::Retime { timing: Box::new(settings.timing) }];
    if config.read_only != before.read_only {
        wishes.push(Request::SetMode { mode: settings.mode });
    }
    for wish in wishes {
        if !matches!(timeout(GOODBYE_PATIENCE, mailbox.ask(wish)).await, Ok(Ok(Reply::Done))) {
            tracing::warn!(event = "not-reconfigured", "the node did not take the new configuration");
        }
    }
    tracing::info!(event = "configuration-reloaded", "the log's level and the intervals are the file's");
}

/// What a process is made of, once it runs.
struct Parts {
    running: LoopThread,
    mailbox: Mailbox,
    peers: Peers,
    serving: JoinHandle<()>,
    tokens: Tokens,
    tls: Option<Tls>,
    /// Ends `serving`.
    stop: CancellationToken,
}

impl Parts {
    fn start(config: &Config, listener: TcpListener) -> Result<Parts, Failure> {
        let tokens = match &config.tokens_file {
            Some(path) => Tokens::read(path).map_err(|error| Failure::start("read the tokens", error))?,
            None => Tokens::default(),
        };
        let tls = config.tls().map(|[certificate, key, authority]| Tls::read(certificate, key, authority));
        let tls = tls.transpose().map_err(|error| Failure::start("read the certificates", error))?;
        let clock = SystemClock::start();
        let reader = SharedReader::default();
        let (peers, network) = start_peers(config, tls.clone());
        let (mailbox, letters) = mailbox();
        let pulse = Pulse::default();
        let place = || format!("open the data in {}", config.data_dir.display());
        let node = open_node(config, &reader, &clock, 0).map_err(|error| Failure::start(&place(), error))?;
        let reopen = {
            let (config, reader) = (config.clone(), reader.clone());
            move || open_node(&config, &reader, &clock, LOCKED_RETRIES)
        };
        let running =
            spawn_loop(node, clock, network, letters, pulse.clone(), reopen).map_err(Failure::Loop)?;
        let stop = CancellationToken::new();
        let connections = Connections::default();
        let app = App {
            mailbox: mailbox.clone(),
            reader,
            clock: Arc::new(clock),
            info: info(config),
            limits: Limits::default(),
            pulse,
            connections: connections.clone(),
            stop: stop.clone(),
            tokens: tokens.clone(),
            spool_dir: config.data_dir.clone(),
        };
        let router = api::router_with_peers(app, peers.clone());
        let serving = start_serving(listener, router, &stop, tls.clone(), connections);
        Ok(Parts { running, mailbox, peers, serving, tokens, tls, stop })
    }

    /// Reads tokens and certificates again. What cannot be read leaves the present ones in use.
    fn reload(&self, config: &Config) {
        let tokens = config.tokens_file.as_deref().map(|path| self.tokens.reload(path));
        if let Some(Err(error)) = tokens {
            tracing::error!(event = "tokens-not-reloaded", "{error}; the tokens are as before");
        }
        let tls = self.tls.as_ref().zip(config.tls());
        let tls = tls.map(|(tls, [certificate, key, authority])| tls.reload(certificate, key, authority));
        if let Some(Err(error)) = tls {
            tracing::error!(event = "certificates-not-reloaded", "{error}; the certificates are as before");
        }
        tracing::info!(event = "reloaded", "read tokens and certificates again");
    }

    /// Finishes what is under way. `ended` is how the loop ended, if it has.
    async fn say_goodbye(mut self, ended: Option<Result<(), LoopFailure>>) -> Result<(), LoopFailure> {
        if ended.is_none() {
            drain(&self.mailbox).await;
        }
        self.stop.cancel();
        // However it ended: nobody is served any more.
        let _ = self.serving.await;
        // Nobody can ask the loop any more, which ends it.
        drop(self.mailbox);
        self.peers.stop(GOODBYE_PATIENCE).await;
        match ended {
            Some(result) => result,
            None => end(&mut self.running).await,
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the server is a task of the I/O runtime, which is ours")]
fn start_serving(
    listener: TcpListener,
    router: axum::Router,
    stop: &CancellationToken,
    tls: Option<Tls>,
    connections: Connections,
) -> JoinHandle<()> {
    tokio::spawn(api::serve(listener, router, stop.clone(), tls, connections))
}

#[allow(clippy::disallowed_methods, reason = "the watchdog is a task of the I/O runtime, which is ours")]
fn start_watch(mailbox: &Mailbox) -> JoinHandle<()> {
    tokio::spawn(service::watch(mailbox.clone()))
}

fn start_peers(config: &Config, tls: Option<Tls>) -> (Peers, TcpNetwork) {
    Peers::start(PeersSettings {
        id: config.node_id.clone(),
        address: config.advertise_address.clone(),
        secret: config.cluster_secret.clone().into_bytes(),
        insecure_peers: config.insecure_peers,
        compression: config.peer_compression,
        tls,
        dice: dice(),
    })
}

fn info(config: &Config) -> Info {
    Info {
        id: config.node_id.clone(),
        version: env!("CARGO_PKG_VERSION"),
        cluster_secret: config.cluster_secret.clone().into_bytes(),
        policies: config.policies.clone(),
    }
}

/// Opens the node on its disk, which no reader may hold any more.
fn open_node(
    config: &Config,
    reader: &SharedReader,
    clock: &SystemClock,
    retries: u32,
) -> Result<Node<Engine>, StorageError> {
    reader.set(None);
    let engine = open_engine(&config.data_dir, retries)?;
    let node = Node::open(engine, config.settings(), dice(), clock.now())?;
    reader.set(Some(node.store().reader()));
    Ok(node)
}

/// A snapshot that is being read still holds the disk, for a moment.
fn open_engine(data_dir: &Path, retries: u32) -> Result<Engine, StorageError> {
    for _ in 0..retries {
        match Engine::open(data_dir) {
            Err(StorageError::Locked) => pause(LOCKED_PAUSE),
            other => return other,
        }
    }
    Engine::open(data_dir)
}

#[allow(clippy::disallowed_methods, reason = "the loop's own thread, while it has no node to run")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Tells clients and peers that this node is on its way out; not for long, since it may not be able to.
async fn drain(mailbox: &Mailbox) {
    tracing::info!(event = "draining", "asked to stop: no new writes, finishing what is under way");
    if !matches!(timeout(GOODBYE_PATIENCE, mailbox.ask(Request::Drain)).await, Ok(Ok(_))) {
        tracing::warn!(event = "not-drained", "the loop does not answer; stopping all the same");
    }
}

/// Waits for the loop, which ends once nobody can ask it any more.
async fn end(running: &mut LoopThread) -> Result<(), LoopFailure> {
    match timeout(GOODBYE_PATIENCE, running.ended()).await {
        Ok(result) => result.map(drop),
        Err(_) => {
            tracing::warn!(
                event = "loop-still-busy",
                "the loop does not end; what it acknowledged is durable"
            );
            Ok(())
        }
    }
}

/// The signals that end a node.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The one line that says where it is.
fn announce(config: &Config) {
    let (id, listen, data) = (&config.node_id, config.listen(), config.data_dir.display());
    let scheme = if config.tls().is_some() { "https" } else { "http" };
    say(&format!("{id} listens on {scheme}://{listen}, data in {data}"));
    tracing::info!(node = %id, event = "started", %listen, %data, version = env!("CARGO_PKG_VERSION"), "started");
}

/// A line on standard output, for whoever reads it.
fn say(line: &str) {
    // Nobody may be reading.
    let _ = writeln!(io::stdout(), "{line}");
}

/// Changes what the log shows, while it runs.
type LogHandle = tracing_subscriber::reload::Handle<Targets, tracing_subscriber::Registry>;

/// Reads the configuration once more, from where it came from.
type Reread<'a> = &'a dyn Fn() -> Result<Config, Failure>;

fn targets(config: &Config) -> Targets {
    let level = match config.log_level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    // Libraries speak up only when something is wrong.
    let libraries = level.min(LevelFilter::WARN);
    Targets::new().with_default(libraries).with_target("reknit", level).with_target("node", level)
}

fn start_log(config: &Config) -> LogHandle {
    let (targets, handle) = tracing_subscriber::reload::Layer::new(targets(config));
    let registry = tracing_subscriber::registry().with(targets);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match config.log_format {
        LogFormat::Text => registry.with(lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr()))).init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
    handle
}

/// From the system's randomness, and so different at every start.
fn dice() -> [u8; 32] {
    let mut dice = [0; 32];
    getrandom::fill(&mut dice).expect("the system has randomness to give");
    dice
}

impl Failure {
    fn start(what: &str, why: impl fmt::Display) -> Failure {
        Failure::Start(what.to_owned(), why.to_string())
    }

    fn exit_code(&self) -> u8 {
        match self {
            Failure::Start(..) => 1,
            Failure::Config(_) => 2,
            Failure::Loop(LoopFailure::Storage(_)) => 3,
            Failure::Loop(LoopFailure::Start(_) | LoopFailure::Panicked) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Config(error) => error.fmt(f),
            Failure::Start(what, why) => write!(f, "cannot {what}: {why}"),
            Failure::Loop(failure) => failure.fmt(f),
        }
    }
}

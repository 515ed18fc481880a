//! `kv`: the command-line client. Thin: arguments in, [`reknit::client`] asked, bytes or tables out.

mod bench;
mod explain;
mod list;
mod show;
mod transfer;
mod value;
mod watch;

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use reknit::client::{Client, ClientError, Options};
use reknit::model::{Key, key};
use serde_json::{Value as Json, json};

use list::Listing;
use show::{conflicts_table, members_table, print, print_json, show, status_table};

const EXIT_CODES: &str = "Keys are written as in the URL: %25 is a percent sign, %XX any byte.

Exit codes:
  0  done
  1  the node could not do it
  2  wrong arguments, or a value that cannot be stored
  3  no such key
  4  a condition did not hold, or another conflict, such as concurrent values
  5  no node answered in time, or a comparison was not finished; a write may be stored
  6  the node wants a token, or this one may not do it";

/// Longest value that is read from a file or standard input; the node's own limit is lower.
const VALUE_BYTES_MAX: u64 = 64 << 20;
/// Longest file with a token.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Reads and writes keys of a reknit cluster.
#[derive(Parser)]
#[command(name = "kv", version, after_help = EXIT_CODES)]
struct Cli {
    /// Nodes to ask, in this order, separated by commas
    #[arg(
        long = "node",
        alias = "endpoints",
        env = "REKNIT_ENDPOINTS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8080",
        value_name = "URL",
        global = true
    )]
    nodes: Vec<String>,
    /// Bearer token; better in the environment or a file, where no list of processes shows it [env: REKNIT_TOKEN]
    #[arg(long, value_name = "TOKEN", global = true)]
    token: Option<String>,
    /// File with the token [env: REKNIT_TOKEN_FILE, after REKNIT_TOKEN]
    #[arg(long, value_name = "FILE", conflicts_with = "token", global = true)]
    token_file: Option<PathBuf>,
    /// Certificate authority (PEM) that https:// nodes are checked against
    #[arg(long, env = "REKNIT_CA", value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// What the output looks like; raw is the node's own answer, or one key a line
    #[arg(short, long, default_value = "table", global = true)]
    output: Output,
    /// How long one node may take to answer
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "TIME", global = true)]
    timeout: Duration,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
    Raw,
}

#[derive(Subcommand)]
enum Command {
    /// Write the exact bytes of a value to standard output
    Get {
        /// Such as users/john
        #[arg(value_parser = parse_key)]
        key: Key,
    },
    /// Store a value
    Put {
        /// Such as users/john
        #[arg(value_parser = parse_key)]
        key: Key,
        /// The value; `-` reads standard input, `@FILE` a file, byte for byte
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Media type [default: application/json for JSON, else text/plain or application/octet-stream]
        #[arg(short = 't', long = "type", value_name = "TYPE")]
        content_type: Option<String>,
        /// Let the value expire, such as 1h
        #[arg(long, value_name = "TIME")]
        ttl: Option<String>,
        #[command(flatten)]
        options: WriteOptions,
    },
    /// Delete a key
    #[command(alias = "delete")]
    Del {
        /// Such as users/john
        #[arg(value_parser = parse_key)]
        key: Key,
        #[command(flatten)]
        options: WriteOptions,
    },
    /// List the keys below a prefix
    Ls {
        /// Such as users/; without it, all keys
        #[arg(default_value = "", value_parser = prefix)]
        prefix: Prefix,
        /// List what is up to the next delimiter once, such as /
        #[arg(short, long, value_name = "TEXT")]
        delimiter: Option<String>,
        /// Stop after this many
        #[arg(short = 'n', long, value_name = "COUNT")]
        limit: Option<usize>,
        /// From the last to the first
        #[arg(short, long)]
        reverse: bool,
    },
    /// Tell what changes, a line each, until interrupted
    Watch {
        /// Such as users/; without it, all keys
        #[arg(default_value = "", value_parser = prefix)]
        prefix: Prefix,
        /// Begin after this cursor of an earlier watch (-o json shows one with the last change of an answer) or `start`
        #[arg(long, value_name = "CURSOR", default_value = "now")]
        since: String,
        /// Stop after this many changes
        #[arg(short = 'n', long, value_name = "COUNT")]
        limit: Option<usize>,
    },
    /// Write all versions below a prefix, deletes too, as NDJSON
    Export {
        /// Such as users/; without it, all keys
        #[arg(default_value = "", value_parser = prefix)]
        prefix: Prefix,
        /// Where to; replaced only once everything is there [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// What the node has set aside instead: what came back too old to be told from deleted data
        #[arg(long)]
        aside: bool,
    },
    /// Take the versions of an export
    Import {
        /// An export; `-` reads standard input
        file: PathBuf,
    },
    /// Save one durable state of the node's disk, for `node --restore FILE`
    Backup {
        /// Replaced only once everything is there
        file: PathBuf,
    },
    /// Show the cluster's members as the node sees them, or change them
    Members {
        #[command(subcommand)]
        wish: Option<Wish>,
    },
    /// Show the node's own state
    Status,
    /// List the keys that hold several values at once
    Conflicts {
        /// Such as cart/; without it, all keys
        #[arg(default_value = "", value_parser = prefix)]
        prefix: Prefix,
    },
    /// Show which versions every member holds under a key, and which one wins
    Explain {
        /// Such as users/john
        #[arg(value_parser = parse_key)]
        key: Key,
    },
    /// Let the node compare with a peer now and repair what differs
    Sync {
        /// The peer's id
        peer: String,
        /// Only keys that begin so
        #[arg(long, default_value = "", value_parser = prefix)]
        prefix: Prefix,
        /// Count only; move nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Measure how many requests a second the nodes answer, and how fast; writes keys below bench/
    Bench(bench::Bench),
    /// Write a script that completes arguments, for the shell to source
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages into a directory
    Man {
        /// Made if it is not there
        directory: PathBuf,
    },
}

/// What an operator wants of the members.
#[derive(Subcommand)]
enum Wish {
    /// Let the node join the cluster of the node at an address
    Join {
        /// Such as 10.0.0.7:8080
        address: String,
    },
    /// Let the node say goodbye and stop, once another member holds what it holds
    Leave {
        /// Even if nobody is known to hold it
        #[arg(long)]
        force: bool,
    },
    /// Remove a member that is down and will not come back
    Remove {
        /// The member's id
        id: String,
        /// Even if it seems to live
        #[arg(long)]
        force: bool,
    },
}

#[derive(Args)]
struct WriteOptions {
    /// On how many nodes it must be durable: local, a number, or majority
    #[arg(long, value_name = "NODES")]
    ack: Option<String>,
    /// How long to wait for them, such as 5s
    #[arg(long, value_name = "TIME", requires = "ack")]
    ack_timeout: Option<String>,
    /// Only if the key's version has this uuid, or `*` for any
    #[arg(long, value_name = "UUID")]
    if_match: Option<String>,
    /// Only if the key's version has another uuid, or `*` for none at all
    #[arg(long, value_name = "UUID")]
    if_none_match: Option<String>,
}

/// The first bytes of some keys.
#[derive(Clone)]
struct Prefix(Vec<u8>);

/// What went wrong, and so the exit code.
enum Failure {
    /// The node, the connection or the answer.
    Client(ClientError),
    NoSuchKey(Key),
    /// Standard input, a file or standard output.
    Io(String, io::Error),
    /// What was asked for cannot be shown.
    Output(&'static str),
    /// A comparison ended before it was through, and how.
    BrokenOff(String),
    /// No member could be asked.
    NothingLearned(Box<Failure>),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads us has read enough: `kv ls | head`.
        Err(Failure::Io(_, error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("kv: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let client = client(cli)?;
    match &cli.command {
        Command::Get { key } => value::get(&client, cli.output, key),
        Command::Put { key, value, content_type, ttl, options } => {
            let bytes = value_bytes(value)?;
            let content_type = content_type.as_deref().unwrap_or_else(|| guessed_type(&bytes));
            let mut options = options.to_options();
            options.query.extend(ttl.iter().map(|ttl| ("ttl".to_owned(), ttl.clone())));
            let written = client.put(key, &bytes, content_type, &options)?;
            match cli.output {
                Output::Table => print(format!("{}\n", written.uuid).as_bytes()),
                Output::Json | Output::Raw => {
                    let mut shown = json!({ "uuid": written.uuid, "timestamp": written.timestamp });
                    if let Some(acked) = written.acked {
                        shown["acked"] = acked.into();
                    }
                    print_json(&shown)
                }
            }
        }
        Command::Del { key, options } => Ok(client.delete(key, &options.to_options())?),
        Command::Ls { prefix, delimiter, limit, reverse } => {
            let listing = Listing { prefix: &prefix.0, delimiter: delimiter.as_deref(), reverse: *reverse };
            listing.print(&client, cli.output, limit.unwrap_or(usize::MAX))
        }
        Command::Watch { prefix, since, limit } => {
            watch::watch(&client, cli.output, &prefix.0, since, limit.unwrap_or(usize::MAX), cli.timeout)
        }
        Command::Export { prefix, file, aside } => {
            let mut parameters = vec![("prefix", prefix.0.clone())];
            parameters.extend(aside.then(|| ("aside", b"true".to_vec())));
            transfer::save(&client, "/export", &parameters, file.as_deref())
        }
        Command::Backup { file } => transfer::save(&client, "/backup", &[], Some(file)),
        Command::Import { file } => {
            let answer = transfer::import(&client, file)?;
            show(cli.output, &answer, status_table)
        }
        Command::Members { wish: None } => show(cli.output, &client.read("/members/", &[])?, members_table),
        Command::Members { wish: Some(wish) } => wish.tell(&client, cli.output),
        Command::Status => show(cli.output, &client.read("/status", &[])?, status_table),
        Command::Conflicts { prefix } => {
            let answer = client.read("/conflicts", &[("prefix", prefix.0.clone())])?;
            show(cli.output, &answer, conflicts_table)
        }
        Command::Explain { key } => explain::explain(&client, cli.output, key),
        Command::Sync { peer, prefix, dry_run } => {
            let mut parameters = vec![("peer", peer.clone().into_bytes()), ("prefix", prefix.0.clone())];
            parameters.extend(dry_run.then(|| ("dry_run", b"true".to_vec())));
            let answer = client.post("/sync", &parameters, b"")?;
            show(cli.output, &answer, status_table)?;
            broken_off(&answer)
        }
        Command::Bench(bench) => bench.run(&client, cli.output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "kv", &mut script);
            print(&script)
        }
        Command::Man { directory } => {
            let io = |error| Failure::Io(directory.display().to_string(), error);
            std::fs::create_dir_all(directory).map_err(io)?;
            clap_mangen::generate_to(Cli::command(), directory).map_err(io)
        }
    }
}

fn client(cli: &Cli) -> Result<Client, Failure> {
    let file = |path: &PathBuf, bytes_max: u64| {
        let io = |error| Failure::Io(path.display().to_string(), error);
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(io)?;
        file.take(bytes_max).read_to_string(&mut text).map_err(io)?;
        Ok::<_, Failure>(text)
    };
    // What is said aloud comes before what lies about in the environment.
    let (path, word) = match (cli.token_file.clone(), cli.token.clone()) {
        (None, None) => match variable("REKNIT_TOKEN") {
            None => (variable("REKNIT_TOKEN_FILE").map(PathBuf::from), None),
            word => (None, word),
        },
        said => said,
    };
    let token = match path {
        Some(path) => Some(file(&path, TOKEN_BYTES_MAX)?),
        None => word,
    };
    let ca = cli.ca.as_ref().map(|path| file(path, VALUE_BYTES_MAX)).transpose()?;
    let token = token.map(|token| token.trim().to_owned());
    Ok(Client::with(&cli.nodes, cli.timeout, token, ca.as_deref())?)
}

/// What the environment says; an empty variable says nothing.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// A comparison that ended before it was through has shown nothing.
fn broken_off(report: &[u8]) -> Result<(), Failure> {
    let report: Json = serde_json::from_slice(report).map_err(not_understood)?;
    match show::text(&report, "ended").as_str() {
        "equal" | "repaired" => Ok(()),
        how => Err(Failure::BrokenOff(how.to_owned())),
    }
}

impl Wish {
    fn tell(&self, client: &Client, output: Output) -> Result<(), Failure> {
        let (path, body) = match self {
            Wish::Join { address } => ("/members/join", json!({ "address": address })),
            Wish::Leave { force } => ("/members/leave", json!({ "force": force })),
            Wish::Remove { id, force } => ("/members/remove", json!({ "id": id, "force": force })),
        };
        show(output, &client.post(path, &[], body.to_string().as_bytes())?, status_table)
    }
}

/// The bytes that a value argument stands for.
fn value_bytes(argument: &str) -> Result<Vec<u8>, Failure> {
    let read = |reader: &mut dyn Read, name: &str| {
        let mut bytes = Vec::new();
        let read = reader.take(VALUE_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| Failure::Io(name.to_owned(), error))?;
        Ok(bytes)
    };
    match argument.strip_prefix('@') {
        Some(path) => {
            let mut file = std::fs::File::open(path).map_err(|error| Failure::Io(path.to_owned(), error))?;
            read(&mut file, path)
        }
        None if argument == "-" => read(&mut io::stdin().lock(), "standard input"),
        None => Ok(argument.as_bytes().to_owned()),
    }
}

fn guessed_type(bytes: &[u8]) -> &'static str {
    if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        "application/json"
    } else if std::str::from_utf8(bytes).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}

fn prefix(argument: &str) -> Result<Prefix, String> {
    key::decode(argument).map(Prefix).map_err(|error| error.to_string())
}

fn parse_key(argument: &str) -> Result<Key, String> {
    Key::from_path(argument).map_err(|error| error.to_string())
}

fn duration(argument: &str) -> Result<Duration, String> {
    let duration = argument.parse::<jiff::SignedDuration>().ok();
    let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
    duration
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "no duration such as 500ms, 5s or 1m".into())
}

fn not_understood(error: serde_json::Error) -> Failure {
    ClientError::Answer(error.to_string()).into()
}

impl WriteOptions {
    fn to_options(&self) -> Options {
        let query = [("ack", &self.ack), ("timeout", &self.ack_timeout)];
        let headers = [("If-Match", &self.if_match), ("If-None-Match", &self.if_none_match)];
        let given = |(name, value): (&str, &Option<String>)| Some((name.to_owned(), value.clone()?));
        let tag = |(name, uuid): (String, String)| {
            let is_tag = uuid == "*" || uuid.starts_with('"');
            (name, if is_tag { uuid } else { format!("\"{uuid}\"") })
        };
        Options {
            query: query.into_iter().filter_map(given).collect(),
            headers: headers.into_iter().filter_map(given).map(tag).collect(),
        }
    }
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Client(ClientError::Endpoint(_) | ClientError::Authority(_)) => 2,
            Failure::Client(ClientError::Unreachable(_)) => 5,
            Failure::Client(ClientError::Answer(_)) => 1,
            Failure::Client(ClientError::Siblings { .. }) => 4,
            Failure::NothingLearned(why) => why.exit_code(),
            Failure::Client(ClientError::Refused(problem)) => match problem.status {
                // The node understands its parameters and bodies better than this program does.
                400 | 413 | 414 | 415 | 422 => 2,
                401 | 403 => 6,
                404 if problem.code == "not-found" => 3,
                409 | 412 | 428 => 4,
                408 | 504 => 5,
                _ => 1,
            },
            Failure::NoSuchKey(_) => 3,
            Failure::BrokenOff(_) => 5,
            Failure::Io(..) | Failure::Output(_) => 1,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Client(error) => error.fmt(f),
            Failure::NoSuchKey(key) => write!(f, "no such key: {key}"),
            Failure::Io(name, error) => write!(f, "{name}: {error}"),
            Failure::Output(why) => f.write_str(why),
            Failure::BrokenOff(how) => write!(f, "the comparison was not finished: {how}"),
            Failure::NothingLearned(why) => write!(f, "no member could be asked: {why}"),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::Client(error)
    }
}

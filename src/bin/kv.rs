//! `kv`: the command-line client. Thin: arguments in, [`reknit::client`] asked, bytes or tables out.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use reknit::client::{Client, ClientError, Options, Value};
use reknit::model::{Key, key};
use serde::Deserialize;
use serde_json::{Value as Json, json};

const EXIT_CODES: &str = "Keys are written as in the URL: %25 is a percent sign, %XX any byte.

Exit codes:
  0  done
  1  the node could not do it
  2  wrong arguments
  3  no such key
  4  a condition did not hold, or another conflict
  5  no node answered in time; a write may be stored";

/// Most keys that `ls` asks for in one page.
const PAGE_KEYS: usize = 1000;
/// Longest value that is read from a file or standard input; the node's own limit is lower.
const VALUE_BYTES_MAX: u64 = 64 << 20;

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
    /// Show the cluster's members as the node sees them
    Members,
    /// Show the node's own state
    Status,
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
    let client = Client::new(&cli.nodes, cli.timeout)?;
    match &cli.command {
        Command::Get { key } => {
            let value = client.get(key)?.ok_or_else(|| Failure::NoSuchKey(key.clone()))?;
            print_value(cli.output, key, &value)
        }
        Command::Put { key, value, content_type, ttl, options } => {
            let bytes = value_bytes(value)?;
            let content_type = content_type.as_deref().unwrap_or_else(|| guessed_type(&bytes));
            let mut options = options.to_options();
            options.query.extend(ttl.iter().map(|ttl| ("ttl".to_owned(), ttl.clone())));
            let written = client.put(key, &bytes, content_type, &options)?;
            match cli.output {
                Output::Table => print(format!("{}\n", written.uuid).as_bytes()),
                Output::Json | Output::Raw => {
                    print_json(&json!({ "uuid": written.uuid, "timestamp": written.timestamp }))
                }
            }
        }
        Command::Del { key, options } => Ok(client.delete(key, &options.to_options())?),
        Command::Ls { prefix, delimiter, limit, reverse } => {
            let listing = Listing { prefix: &prefix.0, delimiter: delimiter.as_deref(), reverse: *reverse };
            listing.print(&client, cli.output, limit.unwrap_or(usize::MAX))
        }
        Command::Members => show(cli.output, &client.read("/members/", &[])?, members_table),
        Command::Status => show(cli.output, &client.read("/status", &[])?, status_table),
    }
}

fn print_value(output: Output, key: &Key, value: &Value) -> Result<(), Failure> {
    if output != Output::Json {
        return print(&value.bytes);
    }
    let shown = match serde_json::from_slice::<Json>(&value.bytes) {
        Ok(json) if value.content_type.starts_with("application/json") => json,
        _ => match std::str::from_utf8(&value.bytes) {
            Ok(text) => Json::String(text.to_owned()),
            Err(_) => return Err(Failure::Output("the value is no text; -o raw writes its bytes")),
        },
    };
    print_json(&json!({
        "key": key.to_string(),
        "uuid": value.uuid,
        "timestamp": value.timestamp,
        "content_type": value.content_type,
        "value": shown,
    }))
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

struct Listing<'a> {
    prefix: &'a [u8],
    delimiter: Option<&'a str>,
    reverse: bool,
}

impl Listing<'_> {
    /// Prints up to `limit` rows; as text page by page, so that a long listing starts at once.
    fn print(&self, client: &Client, output: Output, limit: usize) -> Result<(), Failure> {
        let mut left = limit;
        let mut rows = Vec::new();
        let mut next: Option<String> = None;
        while left > 0 {
            let page = client.read("/kv", &self.parameters(left.min(PAGE_KEYS), next.as_deref()))?;
            let page: Page = serde_json::from_slice(&page).map_err(not_understood)?;
            next = page.next.clone();
            let mut found = self.in_order(page);
            found.truncate(left);
            left -= found.len();
            match output {
                Output::Raw => {
                    let lines: String = found.iter().map(|row| format!("{}\n", name(row))).collect();
                    print(lines.as_bytes())?;
                }
                Output::Table | Output::Json => rows.extend(found),
            }
            if next.is_none() {
                break;
            }
        }
        match output {
            Output::Raw => Ok(()),
            Output::Json => print_json(&Json::Array(rows)),
            Output::Table => print_table(&["KEY", "WRITTEN", "TYPE"], &rows, |row| {
                vec![name(row), time_text(row.get("timestamp")), text(row, "content_type")]
            }),
        }
    }

    /// Keys and common prefixes as one list.
    fn in_order(&self, page: Page) -> Vec<Json> {
        let prefixes = page.prefixes.into_iter().map(|prefix| json!({ "prefix": prefix }));
        let mut rows: Vec<_> = page.items.into_iter().chain(prefixes).collect();
        // Names are percent-encoded, which is another order than that of the bytes.
        rows.sort_by_cached_key(|row| key::decode(&name(row)).unwrap_or_default());
        if self.reverse {
            rows.reverse();
        }
        rows
    }

    fn parameters(&self, limit: usize, next: Option<&str>) -> Vec<(&'static str, Vec<u8>)> {
        let mut parameters = vec![
            ("prefix", self.prefix.to_owned()),
            ("limit", limit.to_string().into()),
            ("keys_only", "true".into()),
        ];
        parameters.extend(self.delimiter.map(|text| ("delimiter", text.into())));
        parameters.extend(self.reverse.then(|| ("reverse", "true".into())));
        parameters.extend(next.map(|cursor| ("cursor", cursor.into())));
        parameters
    }
}

/// One answer of many to a listing.
#[derive(Deserialize)]
struct Page {
    items: Vec<Json>,
    prefixes: Vec<String>,
    next: Option<String>,
}

/// What a row of a listing is called.
fn name(row: &Json) -> String {
    if row.get("prefix").is_some() { text(row, "prefix") } else { text(row, "key") }
}

/// Prints a JSON answer: as it came, or through `table`.
fn show(output: Output, answer: &[u8], table: fn(&Json) -> Result<(), Failure>) -> Result<(), Failure> {
    let json: Json = serde_json::from_slice(answer).map_err(not_understood)?;
    match output {
        Output::Raw => print(answer),
        Output::Json => print_json(&json),
        Output::Table => table(&json),
    }
}

fn members_table(members: &Json) -> Result<(), Failure> {
    let rows = members.as_array().ok_or_else(|| ClientError::Answer("no list of members".into()))?;
    print_table(&["ID", "ADDRESS", "STATE", "MODE", "JOINED", "LAST SEEN"], rows, |row| {
        let time = |name| time_text(row.get(name));
        let mut cells = ["id", "address", "state", "mode"].map(|name| text(row, name)).to_vec();
        cells.extend([time("joined_timestamp"), time("last_seen")]);
        cells
    })
}

/// One row per fact; what is nested is shown below its own name.
fn status_table(status: &Json) -> Result<(), Failure> {
    let mut rows = Vec::new();
    flatten("", status, &mut rows);
    print_table(&["WHAT", "VALUE"], &rows, |row| vec![text(row, "what"), text(row, "value")])
}

fn flatten(name: &str, value: &Json, rows: &mut Vec<Json>) {
    let below = |inner: &str| if name.is_empty() { inner.to_owned() } else { format!("{name}.{inner}") };
    match value {
        Json::Object(fields) => fields.iter().for_each(|(field, value)| flatten(&below(field), value, rows)),
        Json::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| flatten(&below(&index.to_string()), value, rows));
        }
        plain => rows.push(json!({ "what": name, "value": plain })),
    }
}

fn text(row: &Json, name: &str) -> String {
    match row.get(name) {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Milliseconds since 1970 as people read them.
fn time_text(millis: Option<&Json>) -> String {
    let millis = millis.and_then(Json::as_i64);
    let time = millis.and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    time.map(|time| time.to_string()).unwrap_or_default()
}

fn print_table(head: &[&str], rows: &[Json], cells: impl Fn(&Json) -> Vec<String>) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    for row in rows {
        table.add_row(cells(row));
    }
    let lines: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    print(lines.as_bytes())
}

fn print_json(json: &Json) -> Result<(), Failure> {
    print(format!("{json:#}\n").as_bytes())
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::Io("standard output".to_owned(), error))
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
            Failure::Client(ClientError::Endpoint(_)) => 2,
            Failure::Client(ClientError::Unreachable(_)) => 5,
            Failure::Client(ClientError::Answer(_)) => 1,
            Failure::Client(ClientError::Refused(problem)) => match problem.status {
                404 => 3,
                409 | 412 | 428 => 4,
                408 | 504 => 5,
                _ => 1,
            },
            Failure::NoSuchKey(_) => 3,
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
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::Client(error)
    }
}

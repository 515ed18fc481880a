//! The load generator, one for every server: so many connections, each asking for the next thing once the last is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// Bytes of a value.
pub const VALUE_BYTES: usize = 200;
/// Longest answer time that is told apart from longer ones, in microseconds.
const SLOWEST: u64 = 60_000_000;

/// How a server is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `PUT` and `GET /kv/{key}`.
    Rest,
    /// The JSON gateway of etcd.
    Etcd,
    /// The protocol of redis.
    Redis,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    Put,
    Get,
}

/// What to do, and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    pub verb: Verb,
    pub connections: usize,
    /// Keys are drawn from so many.
    pub keys: u64,
    pub until: Until,
    pub seed: u64,
}

/// When it ends.
#[derive(Clone, Debug)]
pub enum Until {
    /// After this time.
    After(Duration),
    /// When all keys have been asked for, each once.
    AllKeys,
    /// When told so.
    Told(Arc<AtomicBool>),
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub operations: u64,
    pub took: Duration,
    /// Microseconds.
    pub times: Histogram<u64>,
}

impl Outcome {
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.took.as_secs_f64()
    }
}

/// The key of this number: 32 bytes, no two neighbours beside each other.
pub fn key(number: u64) -> String {
    let shuffled = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("bench/{shuffled:016x}/{number:09}")
}

/// Puts the load on these ports, each connection to the next of them.
pub fn run(dialect: Dialect, ports: &[u16], load: &Load) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(drive(dialect, ports, load))
}

async fn drive(dialect: Dialect, ports: &[u16], load: &Load) -> Result<Outcome> {
    let mut clients = Vec::new();
    for at in 0..load.connections {
        clients.push(Client::open(dialect, ports[at % ports.len()]).await?);
    }
    let began = Instant::now();
    let tasks = clients.into_iter().enumerate().map(|(at, client)| {
        let load = load.clone();
        tokio::spawn(async move { one(client, at as u64, &load, began).await })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut times = histogram()?;
    for task in tasks {
        times.add(task.await??)?;
    }
    Ok(Outcome { operations: times.len(), took: began.elapsed(), times })
}

pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(SLOWEST, 3)?)
}

async fn one(mut client: Client, at: u64, load: &Load, began: Instant) -> Result<Histogram<u64>> {
    let mut dice = ChaCha8Rng::seed_from_u64(load.seed ^ at);
    let mut times = histogram()?;
    let mut value = vec![0; VALUE_BYTES];
    dice.fill_bytes(&mut value);
    for byte in &mut value {
        *byte = b'a' + *byte % 26;
    }
    let value = Bytes::from(value);
    let mut next = at;
    loop {
        let number = match &load.until {
            Until::After(time) if began.elapsed() >= *time => break,
            Until::Told(is_over) if is_over.load(Ordering::Relaxed) => break,
            Until::AllKeys if next >= load.keys => break,
            Until::AllKeys => next,
            Until::After(_) | Until::Told(_) => dice.random_range(0..load.keys),
        };
        next += load.connections as u64;
        let asked = Instant::now();
        match load.verb {
            Verb::Put => client.put(&key(number), &value).await?,
            Verb::Get => {
                ensure!(client.get(&key(number)).await?, "{} is not there", key(number));
            }
        }
        times.saturating_record(asked.elapsed().as_micros() as u64);
    }
    Ok(times)
}

/// One connection.
pub enum Client {
    Rest(SendRequest<Full<Bytes>>),
    Etcd(SendRequest<Full<Bytes>>),
    Redis(BufStream<TcpStream>),
}

impl Client {
    pub async fn open(dialect: Dialect, port: u16) -> Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        if dialect == Dialect::Redis {
            return Ok(Client::Redis(BufStream::new(stream)));
        }
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with the connection; an error shows in the next request.
        tokio::spawn(connection);
        Ok(if dialect == Dialect::Rest { Client::Rest(sender) } else { Client::Etcd(sender) })
    }

    pub async fn put(&mut self, key: &str, value: &Bytes) -> Result<()> {
        match self {
            Client::Rest(sender) => {
                let (status, _) = ask(sender, Method::PUT, &format!("/kv/{key}"), value.clone()).await?;
                ensure!(status == StatusCode::OK, "a write was answered with {status}");
            }
            Client::Etcd(sender) => {
                let body =
                    format!(r#"{{"key":"{}","value":"{}"}}"#, BASE64.encode(key), BASE64.encode(value));
                let (status, _) = ask(sender, Method::POST, "/v3/kv/put", body.into()).await?;
                ensure!(status == StatusCode::OK, "a write was answered with {status}");
            }
            Client::Redis(stream) => {
                command(stream, &[b"SET", key.as_bytes(), value]).await?;
                ensure!(line(stream).await?.starts_with("+OK"), "a write was refused");
            }
        }
        Ok(())
    }

    /// Writes over HTTP, and returns how that was answered.
    pub async fn try_put(&mut self, key: &str, value: &Bytes) -> Result<StatusCode> {
        let Client::Rest(sender) = self else { bail!("only reknit refuses politely") };
        Ok(ask(sender, Method::PUT, &format!("/kv/{key}"), value.clone()).await?.0)
    }

    /// Whether the key has a value.
    pub async fn get(&mut self, key: &str) -> Result<bool> {
        match self {
            Client::Rest(sender) => {
                let (status, body) = ask(sender, Method::GET, &format!("/kv/{key}"), Bytes::new()).await?;
                Ok(status == StatusCode::OK && body.len() == VALUE_BYTES)
            }
            Client::Etcd(sender) => {
                let body = format!(r#"{{"key":"{}"}}"#, BASE64.encode(key));
                let (_, body) = ask(sender, Method::POST, "/v3/kv/range", body.into()).await?;
                Ok(body.len() > VALUE_BYTES)
            }
            Client::Redis(stream) => {
                command(stream, &[b"GET", key.as_bytes()]).await?;
                let head = line(stream).await?;
                let bytes: i64 = head.trim_end().strip_prefix('$').context("a bulk string")?.parse()?;
                let Ok(bytes) = usize::try_from(bytes) else { return Ok(false) };
                let mut value = vec![0; bytes + 2];
                stream.read_exact(&mut value).await?;
                Ok(bytes == VALUE_BYTES)
            }
        }
    }
}

async fn ask(
    sender: &mut SendRequest<Full<Bytes>>,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes)> {
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.header("content-type", "text/plain").body(Full::new(body))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

async fn command(stream: &mut BufStream<TcpStream>, words: &[&[u8]]) -> Result<()> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    stream.write_all(&bytes).await?;
    Ok(stream.flush().await?)
}

async fn line(stream: &mut BufStream<TcpStream>) -> Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(line)
}

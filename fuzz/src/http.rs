//! Any requests to the router over a real node: every one gets an answer, none of them an error of our own making, and
//! every refusal is a problem document that names its code.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use async_trait::async_trait;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::BodyExt;
use redb::backends::InMemoryBackend;
use reknit::api::{self, App, Connections, Info, Limits, SharedReader, Tokens};
use reknit::driver::{self, Clock, Network, Pulse};
use reknit::model::{Address, Instant, NodeId, Now, WallTime};
use reknit::node::{Node, Settings};
use reknit::storage::engine::Engine;
use tokio::time::Instant as TokioInstant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Most requests of one story.
const REQUESTS_MAX: usize = 6;
/// Longest time, by a clock that jumps, that an answer may take: longer than any deadline of the API.
const PATIENCE: Duration = Duration::from_secs(3600);

const METHODS: [Method; 8] = [
    Method::GET,
    Method::PUT,
    Method::DELETE,
    Method::POST,
    Method::HEAD,
    Method::PATCH,
    Method::OPTIONS,
    Method::TRACE,
];
const PATHS: [&str; 24] = [
    "/kv/k",
    "/kv/home/room/socks",
    "/kv/",
    "/kv",
    "/kv/%2e%2e/x",
    "/kv/a//b",
    "/kv/%00",
    "/batch",
    "/export",
    "/import",
    "/changes",
    "/members/",
    "/members/join",
    "/members/leave",
    "/members/remove",
    "/health",
    "/readyz",
    "/status",
    "/version",
    "/merkle_tree/root",
    "/metrics",
    "/sync",
    "/conflicts",
    "/events",
];
const QUERIES: [&str; 20] = [
    "",
    "prefix=k",
    "limit=3",
    "limit=-1",
    "ack=2",
    "ack=majority",
    "timeout=1s",
    "ttl=1h",
    "ttl=0s",
    "offset=3",
    "heads",
    "versions",
    "at=x",
    "read=2",
    "cursor=!!",
    "delimiter=/",
    "reverse",
    "since=0",
    "keys_only=1",
    "peer=node9",
];
const HEADERS: [(&str, &str); 16] = [
    ("content-type", "application/json"),
    ("content-type", "text/plain; charset=utf-8"),
    ("content-type", "\u{1}"),
    ("content-length", "5"),
    ("content-length", "99999999999"),
    ("content-encoding", "gzip"),
    ("content-range", "bytes 0-1/2"),
    ("if-match", "*"),
    ("if-match", "\"00000000-0000-8000-8000-000000000000\""),
    ("if-none-match", "*"),
    ("if-none-match", "W/\"x\", garbage"),
    ("x-reknit-context", "AAAA"),
    ("authorization", "Bearer nobody"),
    ("accept", "application/json"),
    ("idempotency-key", "once"),
    ("expect", "100-continue"),
];
const BODIES: [&str; 8] = [
    "",
    "\"red\"",
    "{\"a\":",
    "{\"address\":\"127.0.0.1:9\"}",
    "{\"op\":\"put\",\"key\":\"k\",\"value\":1}\n{\"op\":\"delete\",\"key\":\"k\"}\n",
    "{\"id\":\"node9\"}",
    "\u{0}\u{1}",
    "[1,2,3]",
];

pub fn run(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    // What is left of the bytes when a story runs out of them is its end.
    let _ = runtime.block_on(story(&mut Unstructured::new(bytes)));
}

async fn story(input: &mut Unstructured<'_>) -> Result<()> {
    let router = api::router(app());
    for _ in 0..input.int_in_range(1..=REQUESTS_MAX)? {
        let Some(request) = request(input)? else { continue };
        let (asked, is_head) = (format!("{request:?}"), request.method() == Method::HEAD);
        let answer = tokio::time::timeout(PATIENCE, router.clone().oneshot(request)).await;
        let answer = answer.unwrap_or_else(|_| panic!("no answer to {asked}"));
        check(&asked, is_head, answer.expect("a router has no errors")).await;
    }
    Ok(())
}

fn request(input: &mut Unstructured<'_>) -> Result<Option<Request<Body>>> {
    let mut target = String::from(*input.choose(&PATHS)?);
    if input.ratio(1, 4)? {
        target.push_str(&any_text(input, 12)?);
    }
    for at in 0..input.int_in_range(0..=3)? {
        target.push(if at == 0 { '?' } else { '&' });
        target.push_str(input.choose(&QUERIES)?);
    }
    if input.ratio(1, 8)? {
        target.push_str(&any_text(input, 6)?);
    }
    let Ok(uri) = target.parse::<Uri>() else { return Ok(None) };
    let mut request = Request::builder().method(input.choose(&METHODS)?).uri(uri);
    for _ in 0..input.int_in_range(0..=3)? {
        let (name, value) = input.choose(&HEADERS)?;
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::try_from(*value)) {
            request = request.header(name, value);
        }
    }
    let body = if input.ratio(1, 4)? {
        let len = input.arbitrary_len::<u8>()?.min(300);
        Bytes::copy_from_slice(input.bytes(len)?)
    } else {
        Bytes::from_static(input.choose(&BODIES)?.as_bytes())
    };
    Ok(request.body(Body::from(body)).ok())
}

fn any_text(input: &mut Unstructured<'_>, len: usize) -> Result<String> {
    let len = input.int_in_range(1..=len)?;
    let bytes = input.bytes(len)?;
    Ok(bytes.iter().map(|byte| char::from(b'!' + byte % 94)).collect())
}

async fn check(asked: &str, is_head: bool, answer: Response<Body>) {
    let status = answer.status();
    assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{asked}");
    let of_type =
        answer.headers().get("content-type").map(|value| value.to_str().unwrap_or_default().to_owned());
    if of_type.as_deref().is_some_and(|of_type| of_type.starts_with("text/event-stream")) {
        return;
    }
    let body = answer.into_body().collect().await.expect("a body comes whole").to_bytes();
    if status.is_client_error() || status.is_server_error() {
        assert_eq!(of_type.as_deref(), Some("application/problem+json"), "{status} to {asked}");
        let has_code = String::from_utf8_lossy(&body).contains("\"code\":");
        assert!(is_head || has_code, "{status} without a code to {asked}");
    }
}

fn app() -> App {
    let engine = Engine::open_with(InMemoryBackend::new()).expect("a new store");
    let id = NodeId::new("node1").expect("a word is a node id");
    let address = Address::new("127.0.0.1:9").expect("an address");
    let clock = Arc::new(FuzzClock(TokioInstant::now()));
    let reader = SharedReader::new(engine.reader());
    let settings = Settings::new(id.clone(), address, Vec::new());
    let node = Node::open(engine, settings, [7; 32], clock.now());
    let mut node = node.expect("a store in memory does not break");
    let (mailbox, mut letters) = driver::mailbox();
    let ticking = Arc::clone(&clock);
    tokio::spawn(async move {
        driver::run(&mut node, ticking.as_ref(), &mut NoNetwork, &mut letters).await.map(drop)
    });
    App {
        mailbox,
        reader,
        clock,
        info: Info { id, version: "0", cluster_secret: Vec::new(), policies: Default::default() },
        limits: Limits::default(),
        pulse: Pulse::default(),
        stop: CancellationToken::new(),
        tokens: Tokens::default(),
        connections: Connections::default(),
        spool_dir: PathBuf::from("/nonexistent"),
    }
}

struct FuzzClock(TokioInstant);

#[async_trait]
impl Clock for FuzzClock {
    fn now(&self) -> Now {
        let mono = self.0.elapsed();
        Now { mono: Instant(mono), wall: WallTime(1_800_000_000_000).after(mono) }
    }

    async fn sleep_until(&self, deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(self.0 + deadline.0).await,
            None => std::future::pending().await,
        }
    }

    async fn wait(&self, _duration: Duration) {}
}

/// Nobody is there.
struct NoNetwork;

#[async_trait]
impl Network for NoNetwork {
    fn send(&mut self, _to: &Address, _frame: Bytes) {}

    async fn recv(&mut self) -> Option<(NodeId, Bytes)> {
        std::future::pending().await
    }

    fn try_recv(&mut self) -> Option<(NodeId, Bytes)> {
        None
    }
}

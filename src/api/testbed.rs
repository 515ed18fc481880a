//! A router over a real node: its loop, its engine on a disk in memory, and nobody to talk to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::HOST;
use axum::http::{HeaderMap, HeaderValue, Request as HttpRequest, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::Instant as TokioInstant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{App, Connections, Info, Limits, Shared, SharedReader, Tokens};
use crate::driver::{self, Clock, Mailbox, Network, Observer, Pulse};
use crate::model::{
    Address, Dot, Entry, Instant, Key, Member, MemberState, Mode, NodeId, Now, Origin, Policies, Stamp,
    Version, WallTime,
};
use crate::node::{Node, Output, Settings};
use crate::storage::engine::Engine;
use crate::storage::{Batch, Storage, Table, rows};

/// A clock whose wall time a test can move.
pub struct TestClock {
    start: TokioInstant,
    ahead: AtomicU64,
}

impl TestClock {
    pub fn advance(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).expect("a test's duration");
        self.ahead.fetch_add(millis, Ordering::Relaxed);
    }

    pub fn go_back(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).expect("a test's duration");
        self.ahead.fetch_sub(millis, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Now {
        let mono = self.start.elapsed();
        let wall = WallTime(1_800_000_000_000 + self.ahead.load(Ordering::Relaxed)).after(mono);
        Now { mono: Instant(mono), wall }
    }

    async fn sleep_until(&self, deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(self.start + deadline.0).await,
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

/// Beats once a turn is durable, as the loop of a process does.
struct Beat(Pulse);

impl Observer for Beat {
    fn before_outputs(&mut self, now: Now, outputs: &[Output]) -> Option<usize> {
        self.0.beat(now, outputs);
        None
    }
}

/// What a test can set before the node starts.
pub struct Setup {
    pub settings: Settings,
    pub limits: Limits,
    pub secret: Vec<u8>,
    pub tokens: Tokens,
    engine: Engine,
}

impl Setup {
    pub fn new() -> Setup {
        let engine = Engine::open_with(redb::backends::InMemoryBackend::new()).unwrap();
        let address = Address::new("127.0.0.1:9").unwrap();
        let settings = Settings::new(NodeId::new("node1").unwrap(), address, Vec::new());
        Setup { settings, limits: Limits::default(), secret: Vec::new(), tokens: Tokens::default(), engine }
    }

    /// Another member that the node remembers; it never answers.
    pub fn with_member(mut self, name: &str, state: MemberState) -> Setup {
        let member = Member {
            id: NodeId::new(name).unwrap(),
            address: Address::new(&format!("{name}:1")).unwrap(),
            life: 1,
            incarnation: 0,
            state,
            joined: WallTime(7),
            mode: Mode::Normal,
            origin: None,
            policies: 0,
            protocol: crate::protocol::wire::PROTOCOL,
        };
        let mut batch = Batch::default();
        let row = rows::MemberRow { member, last_seen: WallTime(0), away: Duration::ZERO };
        rows::put_member(&mut batch, &row);
        self.apply(batch);
        self
    }

    /// A record whose bytes make no sense.
    pub fn with_rotten(mut self, path: &str) -> Setup {
        let mut batch = Batch::default();
        batch.put(Table::Records, Key::from_path(path).unwrap().as_bytes(), *b"\x01rotten");
        self.apply(batch);
        self
    }

    /// A value that came back too old to be told from deleted data.
    pub fn with_aside(mut self, path: &str, number: u64, json: &str) -> Setup {
        let dot = Dot { origin: Origin(0xa51de), seq: number };
        let version = Version {
            stamp: Stamp { millis: number, counter: 0 },
            dot,
            author_joined: WallTime(7),
            ruling: 0,
            confirms: None,
            tombstone: false,
            expires_at: None,
            content_type: "application/json".into(),
            value: Bytes::copy_from_slice(json.as_bytes()),
        };
        let mut batch = Batch::default();
        rows::put_aside(&mut batch, &Entry { key: Key::from_path(path).unwrap(), version });
        self.apply(batch);
        self
    }

    fn apply(&mut self, batch: Batch) {
        self.engine.apply(batch).unwrap();
        self.engine.persist().unwrap();
    }

    /// The app, and the node for [`Bed::of`] to run.
    pub fn start(self) -> Bed {
        let clock = Arc::new(TestClock { start: TokioInstant::now(), ahead: AtomicU64::new(0) });
        let reader = SharedReader::new(self.engine.reader());
        let policies = self.settings.policies.clone();
        let mut node = Node::open(self.engine, self.settings, [7; 32], clock.now()).unwrap();
        let (mailbox, mut letters) = driver::mailbox();
        let ticking = Arc::clone(&clock);
        let pulse = Pulse::default();
        let mut watch = Beat(pulse.clone());
        tokio::spawn(async move {
            let (clock, network) = (ticking.as_ref(), &mut NoNetwork);
            driver::run_observed(&mut node, clock, network, &mut letters, &mut watch).await.unwrap();
        });
        let info = Info { policies, ..info(self.secret) };
        Bed::of(mailbox, reader, clock, info, self.limits, pulse, self.tokens)
    }
}

/// Who the node under test is.
pub fn info(cluster_secret: Vec<u8>) -> Info {
    let (id, policies) = (NodeId::new("node1").unwrap(), Policies::default());
    Info { id, version: "1.2.3", cluster_secret, policies }
}

/// A router under test.
pub struct Bed {
    pub router: Router,
    pub shared: Arc<Shared>,
    pub clock: Arc<TestClock>,
    pub reader: SharedReader,
    pub mailbox: Mailbox,
}

impl Bed {
    /// A router over a fresh node.
    pub fn new() -> Bed {
        Setup::new().start()
    }

    /// A router over a fresh node that these tokens guard.
    pub fn guarded(tokens: Tokens) -> Bed {
        Setup { tokens, ..Setup::new() }.start()
    }

    /// A router over a node that nobody runs.
    pub fn without_node(mailbox: Mailbox) -> Bed {
        let clock = Arc::new(TestClock { start: TokioInstant::now(), ahead: AtomicU64::new(0) });
        Bed::of(
            mailbox,
            SharedReader::default(),
            clock,
            info(Vec::new()),
            Limits::default(),
            Pulse::default(),
            Tokens::default(),
        )
    }

    fn of(
        mailbox: Mailbox,
        reader: SharedReader,
        clock: Arc<TestClock>,
        info: Info,
        limits: Limits,
        pulse: Pulse,
        tokens: Tokens,
    ) -> Bed {
        let app = App {
            mailbox: mailbox.clone(),
            reader: reader.clone(),
            clock: clock.clone(),
            info,
            limits,
            pulse,
            connections: Connections::default(),
            stop: CancellationToken::new(),
            tokens,
            spool_dir: std::env::temp_dir(),
        };
        let shared = Shared::new(app, None);
        let router = super::dress(super::routes(), shared.clone());
        Bed { router, shared, clock, reader, mailbox }
    }

    /// Sends `line`, such as `PUT /kv/a`, from this host.
    pub async fn send(&self, line: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        self.send_from("127.0.0.1:4000", line, headers, body).await
    }

    pub async fn send_from(
        &self,
        from: &str,
        line: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let (method, uri) = line.split_once(' ').unwrap();
        let mut request = HttpRequest::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body.into()).unwrap();
        request.headers_mut().entry(HOST).or_insert(HeaderValue::from_static("node1"));
        let from: SocketAddr = from.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(from));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Sends a request without headers and body.
    pub async fn ask(&self, line: &str) -> Answer {
        self.send(line, &[], "").await
    }

    /// Writes JSON and expects that to work.
    pub async fn put(&self, path: &str, json: &str) -> Answer {
        let answer = self.send(&format!("PUT /kv/{path}"), &[], json.to_owned()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Checks that this is a whole problem document, and returns status and code.
    #[track_caller]
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let document = self.json();
        assert_eq!(document["status"], self.status.as_u16(), "{document}");
        assert_eq!(document["request_id"], self.header("x-request-id"), "{document}");
        assert!(document["retryable"].is_boolean(), "{document}");
        for name in ["title", "detail"] {
            assert!(document[name].as_str().is_some_and(|text| !text.is_empty()), "{document}");
        }
        let code = document["code"].as_str().unwrap();
        assert_eq!(document["type"], format!("urn:reknit:problem:{code}"));
        (self.status.as_u16(), code.to_owned())
    }
}

/// How [`Answer::problem`] reads in an assertion.
pub fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

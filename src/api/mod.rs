//! HTTP: what clients and operators see.
//!
//! Writes go through the node's mailbox; reads come from durable snapshots beside the loop. Every answer that is
//! an error is `application/problem+json`, and every answer carries the request's id. `docs/api.md` lists the
//! routes. Nothing here decides what is true: that is the node's part.
#![allow(
    clippy::disallowed_methods,
    reason = "a server needs tasks; time still comes from the driver's clock"
)]

mod auth;
mod backup;
mod batch;
mod body;
mod changes;
mod cluster;
mod conflicts;
mod context;
mod door;
mod events;
mod explain;
mod health;
mod history;
mod kv;
mod list;
mod media;
mod merkle;
mod metrics;
pub mod openapi;
mod params;
mod patient;
mod peer;
mod problem;
mod reads;
mod sync;
mod serve;
mod shown;
mod siblings;
mod tags;
#[cfg(test)]
mod testbed;
mod transfer;
mod ui;

use std::any::Any;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, MatchedPath, Request as HttpRequest, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Version as HttpVersion};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::driver::tokio_world::Peers;
use crate::driver::{Clock, Mailbox, Pulse};
use crate::model::{NodeId, Policies, Reply, Request, Status, Version, WallTime};
use auth::Grant;
pub use auth::{Tokens, TokensError, new_token};
use door::{Door, Room};
pub use metrics::Connections;
use metrics::{Metrics, Route};
pub use peer::router_with_peers;
use problem::{Code, Problem};
pub use reads::SharedReader;
pub use serve::{Patience, listen, serve, serve_with};

/// Names a request in answers and logs; taken from the client if it sends one.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken from a client.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// How long the loop may take for an answer, beyond what the request itself allows.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// Most scans that run at once; more wait for their turn. A scan holds a thread and up to 16 MiB.
const SCANS_MAX: usize = 4;

/// Most exports, imports and backups at once: each holds some MiB, or a file, as long as its client likes.
const TRANSFERS_MAX: usize = 8;
/// A smaller answer is not counted: the connections' own bound is enough for these.
const ANSWER_BYTES_MIN: u64 = 64 << 10;
/// Routes that take no place among the requests under way: they have bounds of their own, or must always answer.
const UNCOUNTED: [&str; 4] = ["/changes", "/events", "/metrics", "/status"];

/// Routes that do nothing before all of their body is here, and take a place only then. Beside these, writes of a key.
const WAITING: [&str; 5] = ["/batch", "/members/join", "/members/leave", "/members/remove", "/members/mode"];

/// What the API stands on.
pub struct App {
    /// The way to the node.
    pub mailbox: Mailbox,
    /// The way to what is durable.
    pub reader: SharedReader,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who this node is.
    pub info: Info,
    /// The bounds that are a matter of taste.
    pub limits: Limits,
    /// Beats when there may be something new to read.
    pub pulse: Pulse,
    /// Counts the connections of the port.
    pub connections: Connections,
    /// Ends what would otherwise never end: watches.
    pub stop: CancellationToken,
    /// Who may ask what.
    pub tokens: Tokens,
    /// Where a backup may stand while it is sent.
    pub spool_dir: PathBuf,
}

/// Who this node is, as far as clients may ask.
pub struct Info {
    /// The node's place.
    pub id: NodeId,
    /// The version of the program.
    pub version: &'static str,
    /// Keys the summaries; lets other hosts change the members. Empty for an open cluster.
    pub cluster_secret: Vec<u8>,
    /// How the versions under a key are resolved.
    pub policies: Policies,
}

/// The bounds that are a matter of taste.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest value; at most [`Version::VALUE_BYTES_MAX`].
    pub value_bytes_max: usize,
    /// How long a request's body may take to arrive.
    pub body_patience: Duration,
    /// Most requests under way at once, probes and watches not counted; more are told to come back.
    pub requests_max: usize,
    /// Most bytes of requests' bodies that are held at once.
    pub bodies_bytes_max: usize,
    /// Most bytes of large answers that wait for their clients at once.
    pub answers_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            value_bytes_max: Version::VALUE_BYTES_MAX,
            body_patience: Duration::from_secs(30),
            requests_max: 512,
            bodies_bytes_max: 128 << 20,
            answers_bytes_max: 256 << 20,
        }
    }
}

/// What the handlers share.
struct Shared {
    app: App,
    /// Counted for `/metrics` and `/status`.
    peers: Option<Peers>,
    metrics: Metrics,
    scans: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    /// One permit per request under way.
    room: Arc<Room>,
    /// One permit per KiB of a request's body.
    bodies: Arc<Semaphore>,
    /// One permit per KiB of a large answer.
    answers: Arc<Semaphore>,
    /// One permit per export, import or backup.
    transfers: Arc<Semaphore>,
    batches: batch::Answered,
    seal: context::Seal,
    started: WallTime,
    requests: AtomicU64,
}

/// Everything this node answers.
pub fn router(app: App) -> Router {
    dress(routes(), Shared::new(app, None))
}

fn routes() -> Router<Arc<Shared>> {
    let key = get(kv::read).put(kv::put).delete(kv::delete);
    Router::new()
        .route("/kv", get(list::list))
        .route("/kv/", get(list::list).put(kv::put).delete(kv::delete))
        .route("/kv/{*key}", key)
        .route("/", get(ui::root))
        .route("/ui", get(ui::page))
        .route("/openapi.json", get(openapi::openapi))
        .route("/batch", post(batch::batch))
        .route("/changes", get(changes::changes))
        .route("/conflicts", get(conflicts::conflicts))
        .route("/export", get(transfer::export))
        .route("/import", post(transfer::import))
        .route("/backup", get(backup::backup))
        .route("/members", get(cluster::members))
        .route("/members/", get(cluster::members))
        .route("/members/join", post(cluster::join))
        .route("/members/leave", post(cluster::leave))
        .route("/members/remove", post(cluster::remove))
        .route("/members/mode", post(cluster::mode))
        .route("/events", get(events::events))
        .route("/merkle_tree/root", get(merkle::root))
        .route("/sync", post(sync::sync))
        .route("/health", get(health::health))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/version", get(health::version))
        .route("/status", get(health::status))
        .route("/metrics", get(metrics::metrics))
        .fallback(no_route)
}

/// Adds what every route has: ids, problems in one form, panics caught, counts.
fn dress(routes: Router<Arc<Shared>>, shared: Arc<Shared>) -> Router {
    let routes = routes
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(&shared), finish))
        .with_state(Arc::clone(&shared));
    Router::new().fallback_service(Door::new(shared, routes))
}

async fn no_route(request: HttpRequest) -> Problem {
    Problem::new(Code::NoRoute, format!("nothing is served at {}", request.uri().path()))
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    Problem::new(Code::Internal, "the handler panicked; the log says where").into_response()
}

/// One request's place among those under way, free again once nobody does anything for it any more.
#[derive(Clone, Debug)]
struct Place(#[expect(dead_code, reason = "it is held, and then not")] Arc<Taken>);

/// What a request with a body holds while it is under way.
struct Hold {
    _place: Place,
    _room: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Taken {
    permit: Option<OwnedSemaphorePermit>,
    room: Arc<Room>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.permit = None;
        self.room.freed();
    }
}

/// A body has at most one coding, or two readers might see its end in two places. Lengths that differ, and a length beside
/// a coding, are hyper's matter: it refuses the first, and closes after the second.
fn check_coding(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Problem::new(Code::BadHeader, "no transfer coding but `chunked`, once, is known here")),
    }
}

/// Whoever stands before this node may choose by the host, so no request may have two, and what came over a connection
/// as HTTP/1.1 has one.
fn check_host(parts: &Parts) -> Result<(), Problem> {
    let is_host = |host: &HeaderValue| host.is_empty() || Authority::try_from(host.as_bytes()).is_ok();
    let mut hosts = parts.headers.get_all(HOST).iter();
    let came_over_a_connection = parts.extensions.get::<ConnectInfo<SocketAddr>>().is_some();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host) => Ok(()),
        (None, None) if parts.version != HttpVersion::HTTP_11 || !came_over_a_connection => Ok(()),
        _ => Err(Problem::new(Code::BadHeader, "a request names its host, once")),
    }
}

/// The outermost layer.
async fn finish(State(shared): State<Arc<Shared>>, request: HttpRequest, next: Next) -> Response {
    let began = shared.app.clock.now().mono;
    let id = shared.request_id(request.headers());
    let method = request.method().clone();
    let route = Route::of(request.extensions().get::<MatchedPath>());
    let (request, leftover) = body::lend(request);

    // Where the body ends is not sure: what comes behind it must not be taken for a request.
    let coding = check_coding(request.headers());
    let is_sound = coding.is_ok();
    let response = match coding.and_then(|()| shared.admit(request, route)) {
        Ok((request, place)) => {
            let response = next.run(request).await;
            drop(place);
            // What may have been done is told, however much that is: it would be done again.
            if method.is_safe() { shared.hold(response) } else { response }
        }
        Err(problem) => problem.into_response(),
    };
    if let Some(leftover) = leftover {
        leftover.discard(response.status() == StatusCode::SERVICE_UNAVAILABLE).await;
    }

    if response.status().is_server_error() {
        shared.complain(&id, route, &response);
    }
    let mut response = problem::render(response, &id, method == Method::HEAD);
    let value = HeaderValue::from_str(&id).expect("ids are checked or made here");
    response.headers_mut().insert(REQUEST_ID, value);
    if !is_sound {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let took = shared.app.clock.now().mono.since(began);
    shared.metrics.answered(route, &method, response.status(), took);
    response
}

impl Shared {
    fn new(app: App, peers: Option<Peers>) -> Arc<Shared> {
        assert!(app.limits.value_bytes_max <= Version::VALUE_BYTES_MAX, "what is taken can be stored");
        Arc::new(Shared {
            metrics: Metrics::new(&app.info, &app.connections),
            scans: Arc::new(Semaphore::new(SCANS_MAX)),
            watches: Arc::new(Semaphore::new(changes::WATCHES_MAX)),
            room: Arc::new(Room::new(app.limits.requests_max)),
            bodies: Arc::new(Semaphore::new(app.limits.bodies_bytes_max / body::UNIT)),
            answers: Arc::new(Semaphore::new(app.limits.answers_bytes_max / body::UNIT)),
            transfers: Arc::new(Semaphore::new(TRANSFERS_MAX)),
            batches: batch::Answered::default(),
            seal: context::Seal::new(&app.info.cluster_secret),
            started: app.clock.now().wall,
            requests: AtomicU64::new(0),
            peers,
            app,
        })
    }

    /// Lets a request in: its caller may ask this, and there is room for it. What is refused here costs next to
    /// nothing, so that a node with more to do than it can still answers at once.
    fn admit(&self, request: HttpRequest, route: Route) -> Result<(HttpRequest, Option<Place>), Problem> {
        let (mut parts, body) = request.into_parts();
        let grant = self.check(&parts, route)?;
        let (method, name) = (&parts.method, route.name());
        let is_counted = auth::needs(method, name).is_some() && !UNCOUNTED.contains(&name);
        let waits = WAITING.contains(&name) || *method == Method::PUT && name.starts_with("/kv");
        let place = match is_counted && (body.is_end_stream() || !waits) {
            true => Some(self.place()?),
            false => None,
        };
        parts.extensions.insert(grant);
        if let Some(place) = &place {
            parts.extensions.insert(place.clone());
        }
        Ok((HttpRequest::from_parts(parts, body), place))
    }

    /// A place among the requests under way.
    fn place(&self) -> Result<Place, Problem> {
        let permit = self.room.take().ok_or_else(|| self.no_room())?;
        Ok(Place(Arc::new(Taken { permit: Some(permit), room: Arc::clone(&self.room) })))
    }

    fn check(&self, parts: &Parts, route: Route) -> Result<Grant, Problem> {
        let is_open = auth::needs(&parts.method, route.name()).is_none();
        let grant = match self.app.tokens.grant(&parts.headers) {
            Ok(grant) => grant,
            Err(_) if is_open => Grant::everything(),
            Err(problem) => return Err(problem),
        };
        grant.check_request(parts, route.name())?;
        check_host(parts)?;
        auth::check_origin(parts)?;
        Ok(grant)
    }

    /// What a request is told for which there is no room.
    fn no_room(&self) -> Problem {
        let limit = self.app.limits.requests_max as u64;
        let detail = format!("{limit} requests are under way; nothing was done");
        Problem::new(Code::Busy, detail).with_limit(limit)
    }

    /// A request's whole body, of at most `limit` bytes, and what it takes to go on with it. The request is under way
    /// only from here on: clients that are slow to send must not keep others out.
    async fn body(&self, head: &Parts, body: Body, limit: usize) -> Result<(Bytes, Hold), Problem> {
        let limits = &self.app.limits;
        let bounds = body::Bounds {
            limit,
            patience: limits.body_patience,
            pool: &self.bodies,
            pool_bytes: limits.bodies_bytes_max,
        };
        let (bytes, room) = body::take(head, body, bounds).await?.split();
        let place = match head.extensions.get::<Place>() {
            Some(place) => place.clone(),
            None => self.place()?,
        };
        Ok((bytes, Hold { _place: place, _room: room }))
    }

    /// Counts a large answer until it is sent: clients that read slowly, or not at all, must not fill the memory.
    fn hold(&self, response: Response) -> Response {
        let bytes = HttpBody::size_hint(response.body()).exact().unwrap_or(0);
        match self.answer_room(bytes) {
            Ok(Some(room)) => response.map(|body| body::Held::body(body, room)),
            Ok(None) => response,
            Err(problem) => problem.into_response(),
        }
    }

    /// Room for an answer of so many bytes; none is counted for a small one.
    fn answer_room(&self, bytes: u64) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        if bytes < ANSWER_BYTES_MIN {
            return Ok(None);
        }
        let units = u32::try_from(bytes.div_ceil(body::UNIT as u64)).unwrap_or(u32::MAX);
        Arc::clone(&self.answers).try_acquire_many_owned(units).map(Some).map_err(|_| {
            let limit = self.app.limits.answers_bytes_max as u64;
            let detail = format!("answers of {limit} bytes wait for their clients; ask again");
            Problem::new(Code::Busy, detail).with_limit(limit)
        })
    }

    /// A place for an export, import or backup, to be held until its end.
    fn transfer(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.transfers).try_acquire_owned().map_err(|_| {
            let detail = format!("{TRANSFERS_MAX} exports, imports and backups are under way");
            Problem::new(Code::Busy, detail).with_limit(TRANSFERS_MAX as u64)
        })
    }

    /// The client's id if it is one to repeat, else one of our own.
    fn request_id(&self, headers: &HeaderMap) -> String {
        let is_plain = |id: &&str| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
        };
        let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(is_plain);
        given.map(str::to_owned).unwrap_or_else(|| {
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            format!("{}-{:x}-{number}", self.app.info.id, self.started.0)
        })
    }

    /// Only a bug or a broken disk is for a person to look at; overload and timeouts are counted.
    fn complain(&self, id: &str, route: Route, response: &Response) {
        let node = &self.app.info.id;
        let Some(problem) = response.extensions().get::<Problem>() else { return };
        match problem.code() {
            Code::Internal | Code::CorruptRecord | Code::StorageFailed => {
                tracing::error!(%node, request = id, route = route.name(), event = "request-failed", "{problem}");
            }
            _ => tracing::debug!(%node, request = id, route = route.name(), "{problem}"),
        }
    }

    /// Asks the node; a refusal is a problem. `patience` is what the request itself allows for.
    async fn ask(&self, request: Request, patience: Duration) -> Result<Reply, Problem> {
        let limit = patience + ANSWER_PATIENCE;
        let answer = tokio::time::timeout(limit, self.app.mailbox.ask(request)).await;
        let reply = answer.map_err(|_| {
            let detail = format!("no answer within {} s", limit.as_secs());
            Problem::new(Code::NoAnswer, detail)
        })??;
        match reply {
            Reply::Refused(refusal) => Err(refusal.into()),
            Reply::Written { .. }
            | Reply::Value(_)
            | Reply::Siblings { .. }
            | Reply::Members(_)
            | Reply::Status(_)
            | Reply::Imported(_)
            | Reply::Synced(_)
            | Reply::Explained(_)
            | Reply::Done => Ok(reply),
        }
    }

    /// The node about itself, and what was counted on its connections to peers.
    async fn status(&self) -> Result<Box<Status>, Problem> {
        match self.ask(Request::Status, Duration::ZERO).await? {
            Reply::Status(mut status) => {
                status.counters.extend(self.peers.iter().flat_map(Peers::counters));
                Ok(status)
            }
            other => Err(odd(&other)),
        }
    }

    /// Runs a scan on a thread where it may take its time, at most [`SCANS_MAX`] at once.
    async fn scan<T: Send + 'static>(
        self: &Arc<Shared>,
        scan: impl FnOnce(&Shared) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = Arc::clone(&self.scans).acquire_owned().await.expect("it is never closed");
        self.beside(move |shared| {
            let result = scan(shared);
            // Held by the thread and not by the waiter, who may be gone long before the scan ends.
            drop(permit);
            result
        })
        .await
    }

    /// Runs what is bounded otherwise on a thread of its own.
    async fn beside<T: Send + 'static>(
        self: &Arc<Shared>,
        work: impl FnOnce(&Shared) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let shared = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || work(&shared));
        task.await.unwrap_or_else(|_| Err(Problem::new(Code::Internal, "it panicked; the log says where")))
    }
}

/// A reply that does not belong to its request.
fn odd(reply: &Reply) -> Problem {
    Problem::new(Code::Internal, format!("the node answered {reply:?}"))
}

/// An answer of `value` as JSON.
fn json(value: &impl Serialize) -> Response {
    let mut bytes = serde_json::to_vec(value).expect("our own structs are JSON");
    // What a large answer grew by beyond its length would be held, uncounted, until it is sent.
    bytes.shrink_to_fit();
    ([(CONTENT_TYPE, HeaderValue::from_static(media::JSON))], bytes).into_response()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

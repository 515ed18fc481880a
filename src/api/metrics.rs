//! Figures for Prometheus, in OpenMetrics text. Each app has its own registry; keys are never labels.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::health::PROBE_PATIENCE;
use super::problem::Problem;
use super::shown::accepts;
use super::{Info, Shared};
use crate::model::{Member, MemberState, MemberView, Status};

/// Prometheus' older form, for whoever does not ask for OpenMetrics.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
/// What Prometheus itself asks for.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The routes as labels: a fixed list, so that no client can make up new ones.
pub const ROUTES: [&str; 28] = [
    "/kv",
    "/kv/",
    "/kv/{*key}",
    "/",
    "/ui",
    "/batch",
    "/changes",
    "/conflicts",
    "/export",
    "/import",
    "/backup",
    "/members",
    "/members/",
    "/members/join",
    "/members/leave",
    "/members/remove",
    "/members/mode",
    "/events",
    "/merkle_tree/root",
    "/health",
    "/livez",
    "/readyz",
    "/version",
    "/status",
    "/sync",
    "/metrics",
    "/openapi.json",
    "/peer",
];

/// What is listed among the counters but is a number of the moment.
const PRESENT: [&str; 2] = ["peer_connections_open", "peers_connected"];

/// A route as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route(&'static str);

impl Route {
    /// One key.
    pub const KEY: Route = Route("/kv/{*key}");

    /// The route that a request was matched with.
    pub fn of(path: Option<&MatchedPath>) -> Route {
        let known = path.and_then(|path| ROUTES.iter().find(|route| **route == path.as_str()));
        Route(known.copied().unwrap_or("none"))
    }

    /// Its path.
    pub fn name(self) -> &'static str {
        self.0
    }
}

/// A method as a label.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    method: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: String,
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

/// A peer; there are no more of them than members.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPeer {
    peer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Counted {
    event: &'static str,
}

/// What is counted of clients' connections.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// Open now.
    pub open: Gauge,
    /// Asked to go because others waited for their places.
    pub let_go: Counter,
    /// Of these, closed in the midst of a head, or of agreeing on encryption.
    pub cut: Counter,
}

/// What the API itself counts.
pub struct Metrics {
    registry: Registry,
    answered: Family<Answered, Counter>,
    took: Family<Timed, Histogram, fn() -> Histogram>,
    corrupt_records: Counter,
}

fn durations() -> Histogram {
    // From 50 µs to about 13 s.
    Histogram::new(exponential_buckets(0.000_05, 4.0, 10))
}

impl Metrics {
    /// Counts from zero.
    pub fn new(info: &Info, connections: &Connections) -> Metrics {
        let mut registry = Registry::with_prefix("reknit");
        let Connections { open, let_go, cut } = connections.clone();
        registry.register("http_connections", "Clients' connections open now", open);
        let help = "Connections that were asked to go because others waited for their places";
        registry.register("http_connections_let_go", help, let_go);
        let help =
            "Connections that were closed in the midst of a head because others waited for their places";
        registry.register("http_connections_cut", help, cut);
        let answered = Family::default();
        let took: Family<Timed, Histogram, fn() -> Histogram> = Family::new_with_constructor(durations);
        let corrupt_records = Counter::default();
        registry.register("http_requests", "Requests answered", answered.clone());
        let help = "Time from a request's head to its answer's head";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, took.clone());
        let help = "Reads that met a record which fails its checksum";
        registry.register("corrupt_reads", help, corrupt_records.clone());
        let build = Build { version: info.version.to_owned(), node: info.id.to_string() };
        // A gauge, as is the custom: Prometheus' own checker reads no figures of type info.
        let builds: Family<Build, Gauge> = Family::default();
        builds.get_or_create(&build).set(1);
        registry.register("build_info", "What runs here", builds);
        Metrics { registry, answered, took, corrupt_records }
    }

    /// Counts an answered request.
    pub fn answered(&self, Route(route): Route, method: &Method, code: StatusCode, took: Duration) {
        let method = word(method);
        self.answered.get_or_create(&Answered { route, method, code: code.as_u16() }).inc();
        self.took.get_or_create(&Timed { route }).observe(took.as_secs_f64());
    }

    /// Counts a request that was refused before it was looked at.
    pub fn refused(&self, Route(route): Route, method: &Method) {
        let code = StatusCode::SERVICE_UNAVAILABLE.as_u16();
        self.answered.get_or_create(&Answered { route, method: word(method), code }).inc();
    }

    /// Counts a read of a record that fails its checksum.
    pub fn corrupt_record(&self) {
        self.corrupt_records.inc();
    }
}

/// `GET /metrics`: answers even when the node does not; then its part is missing and `reknit_node_answers` is 0.
pub async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Response, Problem> {
    let node = async { Ok::<_, Problem>((*shared.status().await?, shared.members().await?)) };
    let node = tokio::time::timeout(PROBE_PATIENCE, node).await;
    let node = node.ok().and_then(Result::ok);
    let mut text = String::new();
    encode_registry(&mut text, &shared.metrics.registry)
        .and_then(|()| encode_registry(&mut text, &of_node(node)))
        .and_then(|()| encode_eof(&mut text))
        .expect("a string takes all that is written to it");
    if accepts(&headers, "application/openmetrics-text") {
        return Ok(([(CONTENT_TYPE, OPEN_METRICS)], text).into_response());
    }
    Ok(([(CONTENT_TYPE, PLAIN)], plain(&text)).into_response())
}

/// The same figures in the older form, which has counters described under their full name and no units.
fn plain(text: &str) -> String {
    let counters: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut plain = String::with_capacity(text.len());
    for line in text.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        let described = ["# HELP ", "# TYPE "].iter().find_map(|mark| {
            let (name, rest) = line.strip_prefix(mark)?.split_once(' ')?;
            counters.contains(&name).then(|| format!("{mark}{name}_total {rest}"))
        });
        plain.push_str(described.as_deref().unwrap_or(line));
        plain.push('\n');
    }
    plain
}

/// The node's own figures, as of now.
fn of_node(node: Option<(Status, Vec<MemberView>)>) -> Registry {
    let mut registry = Registry::with_prefix("reknit");
    let mut gauge = |name: &str, help: &str, value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    gauge("node_answers", "Whether the node answered this scrape", u64::from(node.is_some()));
    let Some((status, members)) = node else { return registry };
    gauge("origins", "Origins of which this node has covered versions", status.origins as u64);
    gauge("dots_seen", "Versions that this node has covered", status.dots_seen);
    let behind = status.peers.iter().filter(|peer| !peer.in_step).count();
    gauge("peers_out_of_step", "Peers that were last heard to have covered other versions", behind as u64);

    gauge(
        "disk_full",
        "Whether the disk is full, so that only reads are served",
        u64::from(status.disk_full),
    );
    let quarantined =
        "Records set apart because they fail their checksum, as far as they are named in /status";
    gauge("quarantined", quarantined, status.quarantined.len() as u64);
    let set_aside = "Keys with versions set aside as too old to be told from deleted data, as far as they are named in /status";
    gauge("set_aside", set_aside, status.set_aside.len() as u64);

    let [lag, behind]: [Family<OfPeer, Gauge>; 2] = Default::default();
    let age: Family<OfPeer, Gauge<f64, std::sync::atomic::AtomicU64>> = Family::default();
    for peer in &status.peers {
        let label = OfPeer { peer: peer.id.to_string() };
        lag.get_or_create(&label).set(i64::try_from(peer.lag).unwrap_or(i64::MAX));
        behind.get_or_create(&label).set(i64::try_from(peer.behind).unwrap_or(i64::MAX));
        // Who is down cannot be in step, which is another matter with an alert of its own.
        let is_up = |member: &Member| matches!(member.state, MemberState::Alive | MemberState::Suspect);
        if members.iter().any(|view| view.member.id == peer.id && is_up(&view.member)) {
            age.get_or_create(&label).set(peer.divergent_ms as f64 / 1000.0);
        }
    }
    let help = "Versions that this node has covered and the peer is not known to have";
    registry.register("convergence_lag_versions", help, lag);
    let help = "Versions that the peer is known to have covered and this node has not";
    registry.register("convergence_behind_versions", help, behind);
    let help =
        "Time since a peer that is up was last known to hold just what this node holds; 0 while it does";
    registry.register_with_unit("divergence_age", help, Unit::Seconds, age);

    let in_state: Family<InState, Gauge> = Family::default();
    for state in ["alive", "suspect", "down", "left", "forgotten"] {
        in_state.get_or_create(&InState { state }).set(0);
    }
    for MemberView { member, .. } in members {
        in_state.get_or_create(&InState { state: state_name(member.state) }).inc();
    }
    registry.register("members", "Members by what this node believes of them, itself included", in_state);

    let events: Family<Counted, Counter> = Family::default();
    for (event, count) in status.counters {
        if PRESENT.contains(&event) {
            let now: Gauge = Gauge::default();
            now.set(i64::try_from(count).unwrap_or(i64::MAX));
            registry.register(event, "As of now", now);
            continue;
        }
        events.get_or_create(&Counted { event }).inc_by(count);
    }
    registry.register("node_events", "What the node counted since its start", events);
    registry
}

fn state_name(state: MemberState) -> &'static str {
    match state {
        MemberState::Alive => "alive",
        MemberState::Suspect => "suspect",
        MemberState::Down => "down",
        MemberState::Left => "left",
        MemberState::Forgotten => "forgotten",
    }
}

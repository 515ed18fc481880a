//! Whether this node lives, serves, and how it stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::problem::{Code, Problem};
use super::sync::Report;
use super::{Shared, json};
use crate::model::{Member, Mode, NodeId, Stamp, Status};
use crate::protocol::wire::PROTOCOL_VERSION;

/// How long a probe waits for the loop. Probes ask often; a slow disk is not a dead node.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(2);

#[derive(JsonSchema, Serialize)]
pub struct Health {
    status: &'static str,
    #[schemars(with = "String")]
    mode: Mode,
    member_count: usize,
    #[schemars(with = "String")]
    node_id: NodeId,
}

/// `GET /health`
pub async fn health(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let Status { me, member_count, disk_full, .. } = *shared.status().await?;
    let status = match me.mode {
        _ if disk_full => "disk-full",
        Mode::Normal | Mode::ReadOnly => "ok",
        Mode::Draining => "draining",
        Mode::Syncing => "syncing",
    };
    Ok(json(&Health { status, mode: me.mode, member_count, node_id: me.id }))
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Fine")]
pub struct Ok200 {
    status: &'static str,
}

/// `GET /livez`: fails only when the loop is over, which a restart would mend.
pub async fn livez(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    match tokio::time::timeout(PROBE_PATIENCE, shared.status()).await {
        Ok(Err(problem)) if problem.code() == Code::Stopped => Err(problem),
        Ok(_) | Err(_) => Ok(json(&Ok200 { status: "ok" })),
    }
}

/// `GET /readyz`: whether clients should be sent here. A peer that is down does not count.
pub async fn readyz(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let status = tokio::time::timeout(PROBE_PATIENCE, shared.status()).await;
    let status = status.map_err(|_| Problem::new(Code::Busy, "the node takes long to answer"))??;
    if status.disk_full {
        return Err(Problem::new(
            Code::DiskFull,
            "there is no room on this node's disk; it serves reads only",
        ));
    }
    match status.me.mode {
        Mode::Normal | Mode::ReadOnly => Ok(json(&Ok200 { status: "ok" })),
        Mode::Draining => Err(Problem::new(Code::Draining, "this node is on its way out")),
        Mode::Syncing => {
            Err(Problem::new(Code::Syncing, "this node is new and still taking what the others have"))
        }
    }
}

#[derive(JsonSchema, Serialize)]
pub struct Version {
    name: &'static str,
    version: &'static str,
    protocol_version: u16,
    /// What this version serves, for clients that know several.
    routes: &'static [&'static str],
}

/// `GET /version`
pub async fn version(State(shared): State<Arc<Shared>>) -> Response {
    let version = shared.app.info.version;
    json(&Version {
        name: "reknit",
        version,
        protocol_version: PROTOCOL_VERSION,
        routes: &super::metrics::ROUTES,
    })
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Status")]
pub struct Standing {
    #[schemars(with = "super::openapi::MemberRecord")]
    node: Member,
    /// Its disk was full: it serves reads only, and tries again by itself.
    disk_full: bool,
    member_count: usize,
    alive_count: usize,
    origins: usize,
    dots_seen: u64,
    /// Nodes with equal hashes have covered the same versions.
    seen_hash: String,
    #[schemars(with = "super::openapi::StampShape")]
    high_water: Stamp,
    quarantined: Vec<String>,
    /// The first keys of which a version was set aside; all of them are in `/export?aside`.
    set_aside: Vec<String>,
    peers: Vec<Peer>,
    counters: BTreeMap<&'static str, u64>,
}

#[derive(JsonSchema, Serialize)]
pub struct Peer {
    #[schemars(with = "String")]
    id: NodeId,
    stream: &'static str,
    in_step: bool,
    /// As last heard from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_hash: Option<String>,
    lag: u64,
    behind: u64,
    divergent_ms: u64,
    in_session: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_session: Option<LastSession>,
}

#[derive(JsonSchema, Serialize)]
pub struct LastSession {
    ago_ms: u64,
    #[serde(flatten)]
    report: Report,
}

/// `GET /status`
pub async fn status(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let status = *shared.status().await?;
    let peers = status.peers.into_iter();
    let peers = peers.map(|peer| Peer {
        id: peer.id,
        stream: peer.stream,
        in_step: peer.in_step,
        seen_hash: peer.seen_hash.map(|hash| format!("{hash:016x}")),
        lag: peer.lag,
        behind: peer.behind,
        divergent_ms: peer.divergent_ms,
        in_session: peer.in_session,
        last_session: peer.last_session.map(|(ago_ms, report)| LastSession { ago_ms, report: report.into() }),
    });
    Ok(json(&Standing {
        node: status.me,
        disk_full: status.disk_full,
        member_count: status.member_count,
        alive_count: status.alive_count,
        origins: status.origins,
        dots_seen: status.dots_seen,
        seen_hash: format!("{:016x}", status.seen_hash),
        high_water: status.high_water,
        quarantined: status.quarantined.iter().map(ToString::to_string).collect(),
        set_aside: status.set_aside.iter().map(ToString::to_string).collect(),
        peers: peers.collect(),
        counters: status.counters.into_iter().collect(),
    }))
}

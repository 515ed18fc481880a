//! The members: who they are, and an operator's wishes about them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request as HttpRequest, State};
use axum::http::header::ORIGIN;
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::params::Params;
use super::problem::{Code, Problem};
use super::{Shared, json, odd};
use crate::model::{Address, MemberState, MemberView, Mode, NodeId, ProtocolRange, Reply, Request};

/// Largest body of a wish about members.
const BODY_BYTES_MAX: usize = 4096;
/// How long a node may take to make sure that its data is held elsewhere before it goes.
const LEAVING: Duration = Duration::from_secs(10);

const SECRET: HeaderName = HeaderName::from_static("x-cluster-secret");

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "MemberShown")]
pub struct Shown {
    #[schemars(with = "String")]
    id: NodeId,
    #[schemars(with = "String")]
    address: Address,
    last_seen: u64,
    joined_timestamp: u64,
    #[schemars(with = "String")]
    state: MemberState,
    #[schemars(with = "String")]
    mode: Mode,
    life: u64,
    incarnation: u32,
    /// The author of what it writes in this life, once it has written.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    /// Digest of its policies by prefix; no data flows where they differ.
    policies: String,
    #[schemars(with = "super::openapi::ProtocolVersions")]
    protocol: ProtocolRange,
}

/// `GET /members/`
pub async fn members(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let shown: Vec<Shown> = shared.members().await?.into_iter().map(show).collect();
    Ok(json(&shown))
}

impl Shared {
    /// The member table.
    pub(super) async fn members(&self) -> Result<Vec<MemberView>, Problem> {
        match self.ask(Request::Members, Duration::ZERO).await? {
            Reply::Members(members) => Ok(members),
            other => Err(odd(&other)),
        }
    }
}

fn show(MemberView { member, last_seen }: MemberView) -> Shown {
    Shown {
        id: member.id,
        address: member.address,
        last_seen: last_seen.0,
        joined_timestamp: member.joined.0,
        state: member.state,
        mode: member.mode,
        life: member.life,
        incarnation: member.incarnation,
        origin: member.origin.map(|origin| origin.to_string()),
        policies: format!("{:016x}", member.policies),
        protocol: member.protocol,
    }
}

#[derive(JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    #[schemars(with = "String")]
    address: Address,
}

#[derive(JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    #[schemars(with = "String")]
    id: NodeId,
    /// Even if it seems to live.
    #[serde(default)]
    force: bool,
}

#[derive(JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leave {
    /// Even if no other member is known to hold what this node holds.
    #[serde(default)]
    force: bool,
}

/// What was begun or done.
#[derive(JsonSchema, Serialize)]
pub struct Done {
    status: &'static str,
}

/// `POST /members/join`: begins to join through an address; the member table shows when it has worked.
pub async fn join(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let Join { address } = wish(&shared, request).await?;
    shared.ask(Request::Join { address }, Duration::ZERO).await?;
    Ok((StatusCode::ACCEPTED, json(&Done { status: "joining" })).into_response())
}

/// `POST /members/leave`: answers once the node has said goodbye.
pub async fn leave(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let Leave { force } = wish(&shared, request).await?;
    shared.ask(Request::Leave { force }, LEAVING).await?;
    Ok(json(&Done { status: "left" }))
}

/// `POST /members/remove`
pub async fn remove(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let Remove { id, force } = wish(&shared, request).await?;
    shared.ask(Request::Remove { id, force }, Duration::ZERO).await?;
    Ok(json(&Done { status: "removed" }))
}

#[derive(JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// `normal` or `read-only`.
    #[schemars(with = "String")]
    mode: Mode,
}

/// `POST /members/mode`: makes this node read-only, or normal again, until its next start.
pub async fn mode(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let Switch { mode } = wish(&shared, request).await?;
    if !matches!(mode, Mode::Normal | Mode::ReadOnly) {
        return Err(Problem::new(Code::BadBody, "an operator's modes are normal and read-only"));
    }
    shared.ask(Request::SetMode { mode }, Duration::ZERO).await?;
    let status = if mode == Mode::Normal { "normal" } else { "read-only" };
    Ok(json(&Done { status }))
}

/// An operator's wish, if the caller may have one. An empty body is `{}`.
async fn wish<T: DeserializeOwned>(shared: &Shared, request: HttpRequest) -> Result<T, Problem> {
    let (parts, body) = request.into_parts();
    shared.check_operator(&parts)?;
    Params::parse(parts.uri.query(), &[])?;
    let (bytes, _hold) = shared.body(&parts, body, BODY_BYTES_MAX).await?;
    let bytes = if bytes.is_empty() { b"{}".as_slice() } else { &bytes };
    serde_json::from_slice(bytes).map_err(|error| {
        let code = if error.is_data() { Code::BadBody } else { Code::InvalidJson };
        Problem::new(code, error.to_string())
    })
}

impl Shared {
    /// Changing the members takes the cluster's secret, or a caller on this host.
    fn check_operator(&self, parts: &Parts) -> Result<(), Problem> {
        let forbidden = |detail: &str| Err(Problem::new(Code::Forbidden, detail));
        if !self.app.tokens.is_empty() {
            // Who got here has the scope `admin`.
            return Ok(());
        }
        let secret = &self.app.info.cluster_secret;
        if let Some(given) = parts.headers.get(SECRET) {
            // Comparing hashes takes the same time wherever the secrets differ.
            let is_right = !secret.is_empty() && blake3::hash(given.as_bytes()) == blake3::hash(secret);
            return if is_right { Ok(()) } else { forbidden("the cluster secret is another one") };
        }
        // A page that a browser on this host shows could otherwise send this node away.
        if parts.headers.contains_key(ORIGIN) {
            return forbidden("browsers may not change the members");
        }
        let caller = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        if caller.is_some_and(|ConnectInfo(caller)| caller.ip().to_canonical().is_loopback()) {
            return Ok(());
        }
        forbidden(
            "changing the members takes a caller on the node's own host, or the header x-cluster-secret",
        )
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;

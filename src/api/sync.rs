//! `POST /sync` and reads that ask several nodes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;

use super::kv::Found;
use super::params::{self, Params};
use super::problem::{Code, Problem};
use super::{Shared, json, odd};
use crate::model::{Ack, Key, NodeId, Reply, Request, SyncReport};
use crate::protocol::reads::READ_PATIENCE;
use crate::protocol::sessions::SESSION_TIME_MAX;
use crate::storage::rows;

/// Longest wait for the nodes that a read asks.
const READ_PATIENCE_MAX: Duration = Duration::from_secs(60);

/// What a session did, as `/sync` and `/status` show it.
#[derive(JsonSchema, Serialize)]
pub struct Report {
    ended: &'static str,
    ahead: u64,
    behind: u64,
    sent: u64,
    took: u64,
    bytes: u64,
    flights: u32,
}

impl From<SyncReport> for Report {
    fn from(report: SyncReport) -> Report {
        let SyncReport { ended, ahead, behind, sent, took, bytes, flights } = report;
        Report { ended, ahead, behind, sent, took, bytes, flights }
    }
}

/// `POST /sync?peer=&prefix=&dry_run=`: compares with a peer now, repairs what differs unless it is only to count,
/// and answers once that is over.
pub async fn sync(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let params = Params::parse(request.uri().query(), &["peer", "prefix", "dry_run"])?;
    let peer =
        params.text("peer")?.ok_or_else(|| params::bad("peer= names the node to compare with".into()))?;
    let peer = NodeId::new(peer).map_err(|error| params::bad(error.to_string()))?;
    let prefix = Bytes::copy_from_slice(params.bytes("prefix").unwrap_or_default());
    if prefix.len() > Key::BYTES_MAX {
        return Err(params::bad("prefix= is longer than any key".into()).with_limit(Key::BYTES_MAX as u64));
    }
    let dry_run = params.switch("dry_run")?;
    match shared.ask(Request::Sync { peer, prefix, dry_run }, SESSION_TIME_MAX).await? {
        Reply::Synced(report) => Ok(json(&Report::from(report))),
        other => Err(odd(&other)),
    }
}

/// The parameters of a read: from how many nodes, and how long they may take.
pub fn wanted(params: &Params) -> Result<Option<(Ack, Duration)>, Problem> {
    let timeout = params.duration("timeout", READ_PATIENCE_MAX)?.unwrap_or(READ_PATIENCE);
    Ok(match params.text("read")? {
        None | Some("local") => None,
        Some("majority") => Some((Ack::Majority, timeout)),
        Some(count) => {
            let nodes = count.parse().ok().filter(|nodes| *nodes > 0).ok_or_else(|| {
                params::bad(format!(
                    "read={count} is neither local nor majority nor a number of nodes from 1"
                ))
            })?;
            Some((Ack::Nodes(nodes), timeout))
        }
    })
}

impl Shared {
    /// What lies under a key: as this node has it, or what several nodes' versions come to.
    pub(super) async fn found(&self, key: &Key, wanted: Option<(Ack, Duration)>) -> Result<Found, Problem> {
        let (request, timeout) = match wanted {
            Some((asked, timeout)) => (Request::Read { key: key.clone(), asked, timeout }, timeout),
            // What cannot be read here may be had elsewhere, and so may be what is missing on a node that is still
            // being filled. The node asks a peer, and mends its own copy.
            None => {
                let found = self.find(key);
                let is_elsewhere = match &found {
                    Ok(found) if found.live.is_empty() => {
                        self.app.reader.snapshot(|store| rows::is_filling(store))?
                    }
                    Ok(_) => false,
                    Err(problem) => problem.code() == Code::CorruptRecord,
                };
                if !is_elsewhere {
                    return found;
                }
                (Request::Get { key: key.clone() }, READ_PATIENCE)
            }
        };
        match self.ask(request, timeout).await? {
            Reply::Value(version) => Ok(Found { live: version.into_iter().collect(), context: None }),
            Reply::Siblings { live, token } => Ok(Found { live, context: self.seal.header(key, &token) }),
            other => Err(odd(&other)),
        }
    }
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;

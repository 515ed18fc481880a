//! The digest that two nodes compare: recomputed from one snapshot each time it is asked for.

use std::ops::Bound;
use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use serde::Serialize;

use super::params::Params;
use super::problem::Problem;
use super::{Shared, json, reads};
use crate::model::Entry;
use crate::protocol::summary::{Summary, SummaryKey};
use crate::storage::rows;
use crate::storage::{Read, StorageError};

/// Rows read at a time: a row holds up to 1 MiB.
const BATCH: usize = 16;

#[derive(Serialize)]
struct Root {
    /// Over every version that is no tombstone. Expiry changes reads only, so expired versions stay in.
    hash: String,
    /// Keys that a read finds.
    count: u64,
}

/// `GET /merkle_tree/root`
pub async fn root(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let root = shared.scan(|shared| {
        let wall = shared.app.clock.now().wall;
        shared.app.reader.snapshot(|store| {
            let millis = reads::read_millis(store, wall)?;
            of_store(store, &shared.summary_key, millis)
        })
    });
    Ok(json(&root.await?))
}

/// One snapshot for the whole of it: a root over two states would be the root of neither.
fn of_store(store: &dyn Read, key: &SummaryKey, millis: u64) -> Result<Root, StorageError> {
    let mut summary = Summary::default();
    let mut live = 0;
    let mut from = Vec::new();
    loop {
        let range = (Bound::Excluded(from.as_slice()), Bound::Unbounded);
        let rows = rows::records(store, range, BATCH, false)?;
        let Some((last, _)) = rows.last() else { break };
        from = last.as_bytes().to_vec();
        for (at, record) in rows {
            let Some(row) = record.row() else { continue };
            live += u64::from(row.versions.iter().any(|version| version.is_live_at(millis)));
            for version in row.versions.into_iter().filter(|version| !version.tombstone) {
                summary.add(key, &Entry { key: at.clone(), version });
            }
        }
    }
    Ok(Root { hash: format!("{:032x}", summary.sum), count: live })
}

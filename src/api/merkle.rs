//! The digest that two nodes compare, from the summaries that every write keeps up to date.

use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::params::Params;
use super::problem::Problem;
use super::{Shared, json, reads};
use crate::model::WallTime;
use crate::protocol::span::Span;
use crate::storage::rows;
use crate::storage::{Read, StorageError};

/// Rows read at a time where some have expired: a row holds up to 1 MiB.
const BATCH: usize = 16;

#[derive(JsonSchema, Serialize)]
pub struct Root {
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
            of_store(store, millis)
        })
    });
    Ok(json(&root.await?))
}

/// One snapshot for the whole of it: a root over two states would be the root of neither.
fn of_store(store: &dyn Read, millis: u64) -> Result<Root, StorageError> {
    let root = rows::root(store)?.map(|(_, root)| root).unwrap_or_default();
    let hash = format!("{:032x}", root.live.sum);
    if !may_have_expired(root.earliest, millis) {
        return Ok(Root { hash, count: root.keys });
    }
    let chunks = rows::chunks(store)?;
    let starts: Vec<&Vec<u8>> = chunks.iter().map(|(start, _)| start).collect();
    let mut count = 0;
    for (number, (start, sums)) in chunks.iter().enumerate() {
        let to = starts.get(number + 1).map(|to| to.to_vec());
        count += match sums {
            Some(sums) if !may_have_expired(sums.earliest, millis) => sums.keys,
            _ => shown(store, &Span { from: start.clone(), to }, millis)?,
        };
    }
    Ok(Root { hash, count })
}

fn may_have_expired(earliest: Option<WallTime>, millis: u64) -> bool {
    earliest.is_some_and(|earliest| earliest.0 <= millis)
}

/// How many keys of a span a read finds.
fn shown(store: &dyn Read, span: &Span, millis: u64) -> Result<u64, StorageError> {
    let (mut count, mut span) = (0, span.clone());
    loop {
        let rows = rows::records(store, span.bounds(), BATCH, false)?;
        let Some((last, _)) = rows.last() else { return Ok(count) };
        span.from = last.as_bytes().to_vec();
        span.from.push(0);
        let is_shown =
            |record: &rows::Record| record.versions().iter().any(|version| version.is_live_at(millis));
        count += rows.iter().filter(|(_, record)| is_shown(record)).count() as u64;
    }
}

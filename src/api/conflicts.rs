//! `GET /conflicts`: what somebody may want to look at. Keys with several concurrent values, histories with several heads
//! or with transactions that their view leaves out, versions that were set aside, records that fail their checksum.
//!
//! A page is bounded in rows and time like a listing; `next` is the key to go on from (`start=`).

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::params::{self, Params};
use super::problem::Problem;
use super::{Shared, json, list, reads};
use crate::model::{Key, Policies, Policy, Strategy, Version};
use crate::protocol::{history, resolve};
use crate::storage::rows::{self, Record};
use crate::storage::{Read, StorageError};

/// Conflicts on a page, unless the client says otherwise.
const LIMIT: usize = 100;
/// Most conflicts on a page.
pub const LIMIT_MAX: usize = 1000;
/// A page ends after reading this many rows.
const ROWS_MAX: usize = 10_000;
/// A page ends after this time.
const TIME_MAX: Duration = Duration::from_secs(1);
/// Rows read at a time.
const BATCH: usize = 16;
/// A page lists no further versions set aside once it has so many.
const ASIDE_MAX: usize = 1000;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Conflicts")]
pub(super) struct Page {
    items: Vec<Conflict>,
    /// Versions that came back too old to be told from deleted data, in the order of their names; only on the first page.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aside: Vec<Aside>,
    /// More was set aside than is listed here; `GET /export?aside=true` has all of it, with its values.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    aside_goes_on: bool,
    /// The key to go on from; nothing when everything was looked at.
    next: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KeyInConflict")]
struct Conflict {
    key: String,
    policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    strategy: Option<&'static str>,
    /// `siblings`, `heads`, `discarded` or `corrupt-record`.
    kind: &'static str,
    /// Whether reads are refused until somebody chooses.
    open: bool,
    /// The concurrent values, or the heads.
    versions: Vec<Named>,
    /// How many transactions the view leaves out.
    #[serde(skip_serializing_if = "Option::is_none")]
    discarded: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConflictingVersion")]
struct Named {
    uuid: Uuid,
    timestamp: u64,
    author: String,
    author_joined: u64,
}

impl Named {
    fn of(version: &Version) -> Named {
        Named {
            uuid: version.uuid(),
            timestamp: version.stamp.millis,
            author: version.dot.origin.to_string(),
            author_joined: version.author_joined.0,
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SetAside")]
struct Aside {
    key: String,
    deleted: bool,
    #[serde(flatten)]
    version: Named,
}

/// `GET /conflicts`
pub async fn conflicts(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let params = Params::parse(request.uri().query(), &["prefix", "start", "limit"])?;
    let prefix = list::part_of_key(&params, "prefix")?.unwrap_or_default();
    let start = list::part_of_key(&params, "start")?;
    let limit = params.text("limit")?.map_or(Ok(LIMIT), |text| {
        let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        limit.ok_or_else(|| params::bad(format!("limit={text} is no number from 1 to {LIMIT_MAX}")))
    })?;
    let page = shared.scan(move |shared| {
        let began = shared.app.clock.now();
        let has_time = || shared.app.clock.now().mono.since(began.mono) < TIME_MAX;
        shared.app.reader.snapshot(|store| {
            let millis = reads::read_millis(store, began.wall)?;
            let mut page = Page { items: Vec::new(), aside: Vec::new(), aside_goes_on: false, next: None };
            if start.is_none() {
                page.look_aside(store, &prefix)?;
            }
            let from = start.as_ref().map_or(&prefix, |start| start.max(&prefix)).clone();
            page.look(store, &shared.app.info.policies, (millis, limit), (&prefix, from), has_time)?;
            Ok(page)
        })
    });
    Ok(json(&page.await?))
}

impl Page {
    /// Lists what was set aside below a prefix. The rows are in the order of dots, so all of them may have to be read.
    fn look_aside(&mut self, store: &dyn Read, prefix: &[u8]) -> Result<(), StorageError> {
        let (mut after, mut rows_read) = (None, 0);
        loop {
            let rows = rows::aside(store, after, BATCH)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(*last);
            rows_read += rows.len();
            let entries = rows.into_iter().filter_map(|(_, entry)| entry);
            for entry in entries.filter(|entry| entry.key.as_bytes().starts_with(prefix)) {
                self.aside.push(Aside {
                    key: entry.key.to_string(),
                    deleted: entry.version.tombstone,
                    version: Named::of(&entry.version),
                });
            }
            if self.aside.len() >= ASIDE_MAX || rows_read >= ROWS_MAX {
                self.aside_goes_on = !rows::aside(store, after, 1)?.is_empty();
                return Ok(());
            }
        }
    }

    fn look(
        &mut self,
        store: &dyn Read,
        policies: &Policies,
        (millis, limit): (u64, usize),
        (prefix, mut from): (&[u8], Vec<u8>),
        has_time: impl Fn() -> bool,
    ) -> Result<(), StorageError> {
        let mut rows_read = 0;
        loop {
            let range = (Bound::Included(from.as_slice()), Bound::Unbounded);
            let rows = rows::records(store, range, BATCH, false)?;
            let is_end = rows.len() < BATCH;
            for (key, record) in rows {
                if !key.as_bytes().starts_with(prefix) {
                    return Ok(());
                }
                if self.items.len() >= limit || rows_read >= ROWS_MAX || !has_time() {
                    self.next = Some(key.to_string());
                    return Ok(());
                }
                rows_read += 1;
                // No key holds a NUL, so this is the least that a later key can be.
                from = [key.as_bytes(), &[0]].concat();
                self.items.extend(conflict(policies.of(&key), &key, &record, millis));
            }
            if is_end {
                return Ok(());
            }
        }
    }
}

fn conflict(policy: Policy, key: &Key, record: &Record, millis: u64) -> Option<Conflict> {
    let strategy = policy.strategy().map(Strategy::name);
    let none = Conflict {
        key: key.to_string(),
        policy: policy.name(),
        strategy,
        kind: "corrupt-record",
        open: true,
        versions: Vec::new(),
        discarded: None,
    };
    let versions = match record {
        Record::Rotten => return Some(none),
        Record::Absent => return None,
        Record::Row(row) => &row.versions,
    };
    match policy {
        Policy::Lww => None,
        Policy::Siblings => {
            let live: Vec<Named> =
                resolve::live(versions, millis).map(|version| Named::of(&version)).collect();
            (live.len() > 1).then_some(Conflict { kind: "siblings", versions: live, ..none })
        }
        Policy::History(strategy) if versions.len() > 1 => {
            let (dag, view) = history::read(versions, strategy);
            let discarded = Some(view.discarded(&dag)).filter(|count| *count > 0);
            let heads = resolve::heads(versions);
            let is_head = |version: &&Version| heads.iter().any(|head| head.dot == version.dot);
            let shown = versions.iter().filter(is_head).map(Named::of).collect();
            let forked = Conflict { kind: "heads", open: view.conflict, versions: shown, discarded, ..none };
            match heads.len() {
                0 | 1 => discarded.map(|_| Conflict { kind: "discarded", ..forked }),
                _ => Some(forked),
            }
        }
        Policy::History(_) => None,
    }
}

#[cfg(test)]
#[path = "conflicts_tests.rs"]
mod tests;

//! What a client may ask about the history of a key: its heads, its transactions, and what the value was.
//!
//! Answers come from one durable snapshot. What a view leaves out is in the listing, with the word for why, so that
//! nothing that was acknowledged is lost silently.

use std::collections::BTreeMap;

use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::params::{self, Params};
use super::problem::{Code, Problem};
use super::{Shared, json};
use crate::model::{Dot, DotSet, Key, Policy, Strategy, Version};
use crate::protocol::history::{self, Dag, Kind, TransactionId, View};
use crate::storage::rows::{self, Record};
use crate::storage::{StorageError, Table};

/// The parameters of a read.
pub const PARAMETERS: [&str; 4] = ["heads", "versions", "limit", "at"];
/// How many transactions a listing shows unless it is told otherwise.
const LIMIT: usize = 100;
/// Most transactions in a listing. A history can be longer than a node would let it become, by merging.
pub const LIMIT_MAX: usize = 10_000;

/// A question about a history.
#[derive(Debug)]
pub enum Question {
    /// What was nothing made on top of?
    Heads,
    /// What happened? The latest first.
    Versions {
        /// At most so many.
        limit: usize,
    },
    /// What was the value right after this transaction?
    At(TransactionId),
}

impl Question {
    /// The question that a read asks, if it is no plain one.
    ///
    /// # Errors
    /// The parameters do not go together.
    pub fn read(params: &Params) -> Result<Option<Question>, Problem> {
        let (heads, versions) = (params.switch("heads")?, params.switch("versions")?);
        let (at, limit) = (params.text("at")?, params.text("limit")?);
        if usize::from(heads) + usize::from(versions) + usize::from(at.is_some()) > 1 {
            return Err(params::bad("heads, versions and at are three questions; ask one".into()));
        }
        if limit.is_some() && !versions {
            return Err(params::bad("limit belongs to versions".into()));
        }
        if versions {
            let limit = limit.map_or(Ok(LIMIT), |text| {
                let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                limit.ok_or_else(|| params::bad(format!("limit={text} is no number from 1 to {LIMIT_MAX}")))
            })?;
            return Ok(Some(Question::Versions { limit }));
        }
        if let Some(text) = at {
            let id = Some(text).filter(|text| text.len() == 32);
            let id = id.and_then(|text| u128::from_str_radix(text, 16).ok()).map(TransactionId);
            let bad =
                || params::bad(format!("at={text} is no id of a transaction, of 32 hexadecimal digits"));
            return Ok(Some(Question::At(id.ok_or_else(bad)?)));
        }
        Ok(heads.then_some(Question::Heads))
    }
}

/// `?offset=` of a write.
///
/// # Errors
/// It is no number.
pub fn offset(params: &Params) -> Result<Option<u64>, Problem> {
    let Some(text) = params.text("offset")? else { return Ok(None) };
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let offset = text.parse().ok().filter(|_| is_plain);
    offset.map(Some).ok_or_else(|| params::bad(format!("offset={text} is no number of bytes")))
}

/// Refuses a part that would end beyond the largest value.
///
/// # Errors
/// It would.
pub fn check_end(offset: u64, len: usize, bytes_max: usize) -> Result<(), Problem> {
    if offset.checked_add(len as u64).is_some_and(|end| end <= bytes_max as u64) {
        return Ok(());
    }
    let detail = format!("{len} bytes at offset {offset} end beyond the {bytes_max} bytes of a value");
    Err(Problem::new(Code::ValueTooLarge, detail).with_limit(bytes_max as u64))
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "HistoryHeads")]
pub struct Heads {
    strategy: &'static str,
    /// Whether somebody has to choose.
    conflict: bool,
    heads: Vec<Shown>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "HistoryVersions")]
pub struct Versions {
    strategy: &'static str,
    /// How many there are, shown or not.
    count: usize,
    /// How many of them are not in the view.
    discarded: usize,
    /// Whether what the first of them were made on top of is not kept any more.
    truncated: bool,
    versions: Vec<Shown>,
}

/// One transaction as a client sees it.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Transaction")]
pub struct Shown {
    id: String,
    uuid: Uuid,
    timestamp: u64,
    /// The run that wrote it.
    author: String,
    /// When its node first joined: the older author's branch is the network's.
    author_joined: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    size: usize,
    fate: &'static str,
    parents: Vec<String>,
}

/// A history, read from one snapshot.
struct History {
    strategy: Strategy,
    dag: Dag,
    view: View,
    uuids: BTreeMap<Dot, Uuid>,
}

impl History {
    fn of(strategy: Strategy, versions: &[Version], seen: &DotSet) -> History {
        let dag = history::dag(versions, seen);
        let view = View::of(&dag, strategy);
        let uuids = versions.iter().map(|version| (version.dot, version.uuid())).collect();
        History { strategy, dag, view, uuids }
    }

    fn heads(&self) -> Heads {
        let heads = self.view.heads.iter().map(|at| self.shown(*at)).collect();
        Heads { strategy: self.strategy.name(), conflict: self.view.conflict, heads }
    }

    fn versions(&self, limit: usize) -> Versions {
        let count = self.dag.transactions().len();
        let hidden = (0..count).filter(|at| self.dag.hidden(*at).is_some());
        let latest_first = hidden.chain(self.dag.shown().iter().rev().copied());
        Versions {
            strategy: self.strategy.name(),
            count,
            discarded: self.view.discarded(&self.dag),
            truncated: self.dag.roots().iter().any(|at| !self.dag.transaction(*at).parents.is_empty()),
            versions: latest_first.take(limit).map(|at| self.shown(at)).collect(),
        }
    }

    fn shown(&self, at: usize) -> Shown {
        let transaction = self.dag.transaction(at);
        let offset = match transaction.kind {
            Kind::Patch { offset } => Some(offset),
            Kind::Full | Kind::Delete => None,
        };
        Shown {
            id: hex(transaction.id),
            uuid: self.uuids[&transaction.dot],
            timestamp: transaction.stamp.millis,
            author: transaction.dot.origin.to_string(),
            author_joined: transaction.author_joined.0,
            kind: transaction.kind.word(),
            offset,
            size: transaction.bytes.len(),
            fate: self.view.fate(&self.dag, at).word(),
            parents: transaction.parents.iter().map(|parent| hex(parent.id)).collect(),
        }
    }

    /// The value right after a transaction, under its own name.
    fn at(&self, id: TransactionId) -> Option<Version> {
        let shown = self.dag.shown().iter().copied();
        let at = shown.into_iter().find(|at| self.dag.transaction(*at).id == id)?;
        let state = history::state_at(&self.dag, at)?;
        let transaction = self.dag.transaction(at);
        Some(Version {
            stamp: transaction.stamp,
            dot: transaction.dot,
            author_joined: transaction.author_joined,
            ruling: 0,
            confirms: None,
            tombstone: false,
            expires_at: None,
            content_type: state.content_type,
            value: state.bytes,
        })
    }
}

impl Shared {
    /// Answers a question about the history of a key.
    pub(super) fn answer(&self, key: &Key, question: Question) -> Result<Response, Problem> {
        let history = self.history(key)?;
        match question {
            Question::Heads => Ok(json(&history.heads())),
            Question::Versions { limit } => Ok(json(&history.versions(limit))),
            Question::At(id) => {
                let missing = format!("the history of {key} has no value at {}", hex(id));
                let version = history.at(id).ok_or_else(|| Problem::new(Code::NotFound, missing))?;
                Ok(self.show(version, false))
            }
        }
    }

    fn history(&self, key: &Key) -> Result<History, Problem> {
        let Policy::History(strategy) = self.app.info.policies.of(key) else {
            let detail = format!("{key} is not under policy history, so nothing of its past is kept");
            return Err(Problem::new(Code::PolicyRefused, detail));
        };
        let (record, seen) = self.app.reader.snapshot(|store| {
            let record = rows::record(store, key)?;
            Ok::<_, StorageError>((record, rows::dot_set(store, Table::Seen)?))
        })?;
        match record {
            Record::Absent => Err(Problem::new(Code::NotFound, format!("this node has no history of {key}"))),
            Record::Row(row) => Ok(History::of(strategy, &row.versions, &seen)),
            Record::Rotten => {
                self.metrics.corrupt_record();
                Err(Problem::new(Code::CorruptRecord, format!("the record of {key} fails its checksum")))
            }
        }
    }
}

fn hex(id: TransactionId) -> String {
    format!("{:032x}", id.0)
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;

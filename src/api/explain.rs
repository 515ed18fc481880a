//! `GET /kv/{key}?explain`: every version that this node holds under a key, who wrote it and what became of it, and which
//! rule decided between the versions that met here.

use std::time::Duration;

use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::problem::{Code, Problem};
use super::{Shared, json, odd, reads};
use crate::model::{Decision, Key, Policy, Reply, Request, Strategy, Version};
use crate::protocol::{history, resolve, siblings};
use crate::storage::rows::{self, Record};

#[derive(Serialize, JsonSchema)]
pub(super) struct Explained {
    key: String,
    node: String,
    policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    strategy: Option<&'static str>,
    versions: Vec<Held>,
    /// The latest first; forgotten by a restart.
    decisions: Vec<Decided>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExplainedVersion")]
struct Held {
    #[serde(flatten)]
    version: Named,
    /// `shown`, `expired`, `deleted`; of a history `kept`, `discarded`, `awaiting` or `aside`.
    fate: &'static str,
    /// How many dots it replaces, under policy `siblings`.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Decision")]
struct Decided {
    /// `stamp`, `tombstone`, `ruling`, `older author`, `dot` or `content`.
    rule: &'static str,
    winner: Named,
    loser: Named,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StoredVersion")]
struct Named {
    uuid: Uuid,
    timestamp: u64,
    counter: u16,
    deleted: bool,
    ruling: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirms: Option<String>,
    author: String,
    author_joined: u64,
    seq: u64,
}

impl Named {
    fn of(version: &Version) -> Named {
        Named {
            uuid: version.uuid(),
            timestamp: version.stamp.millis,
            counter: version.stamp.counter,
            deleted: version.tombstone,
            ruling: version.ruling,
            confirms: version.confirms.map(|dot| dot.to_string()),
            author: version.dot.origin.to_string(),
            author_joined: version.author_joined.0,
            seq: version.dot.seq,
        }
    }
}

impl Shared {
    /// Explains what lies under a key.
    pub(super) async fn explain(&self, key: &Key) -> Result<Response, Problem> {
        let decisions = match self.ask(Request::Explain { key: key.clone() }, Duration::ZERO).await? {
            Reply::Explained(decisions) => decisions,
            other => return Err(odd(&other)),
        };
        let policy = self.app.info.policies.of(key);
        let wall = self.app.clock.now().wall;
        let (record, millis) = self.app.reader.snapshot(|store| {
            let record = rows::record(store, key)?;
            Ok((record, reads::read_millis(store, wall)?))
        })?;
        if record == Record::Rotten {
            self.metrics.corrupt_record();
            return Err(Problem::new(Code::CorruptRecord, format!("the record of {key} fails its checksum")));
        }
        Ok(json(&Explained {
            key: key.to_string(),
            node: self.app.info.id.as_str().to_owned(),
            policy: policy.name(),
            strategy: policy.strategy().map(Strategy::name),
            versions: held(policy, record.versions(), millis),
            decisions: decisions.iter().map(decided).collect(),
        }))
    }
}

fn held(policy: Policy, versions: &[Version], millis: u64) -> Vec<Held> {
    let plain = |version: &Version| match () {
        () if version.tombstone => "deleted",
        () if !version.is_live_at(millis) => "expired",
        () => "shown",
    };
    match policy {
        Policy::Lww | Policy::Siblings => versions
            .iter()
            .map(|version| Held {
                version: Named::of(version),
                fate: plain(version),
                replaces: (policy == Policy::Siblings).then(|| siblings::replaces(version).count()),
            })
            .collect(),
        Policy::History(strategy) => {
            let (dag, view) = history::read(versions, strategy);
            let bare = resolve::bare(policy);
            let fate = |version: &Version| {
                let at = dag.transactions().iter().position(|transaction| transaction.dot == version.dot);
                at.map_or("aside", |at| view.fate(&dag, at).word())
            };
            let held = |version: &Version| Held {
                version: Named::of(&bare(version)),
                fate: fate(version),
                replaces: None,
            };
            versions.iter().map(held).collect()
        }
    }
}

fn decided(decision: &Decision) -> Decided {
    let Decision { winner, loser, rule } = decision;
    Decided { rule, winner: Named::of(winner), loser: Named::of(loser) }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;

//! What a read shows of the versions under a key, by the key's policy.

use std::borrow::Cow;

use super::{history, order, siblings};
use crate::model::{Policy, Strategy, Version, VersionId};

/// The version whose value a read at hybrid time `millis` shows, if there is one: under `history` a view of the
/// whole graph, else the greatest of those that are live.
pub fn shown(policy: Policy, versions: &[Version], millis: u64) -> Option<Cow<'_, Version>> {
    match policy {
        Policy::History(strategy) => {
            let (dag, view) = history::read(versions, strategy);
            view.version(&dag).filter(|version| version.is_live_at(millis)).map(Cow::Owned)
        }
        Policy::Siblings => live(versions, millis).max_by(order::compare).map(Cow::Owned),
        Policy::Lww => {
            order::greatest(versions).filter(|version| version.is_live_at(millis)).map(Cow::Borrowed)
        }
    }
}

/// The values that a read of siblings shows, as their clients wrote them, in dot order.
pub fn live(versions: &[Version], millis: u64) -> impl Iterator<Item = Version> {
    versions.iter().filter(move |version| version.is_live_at(millis)).map(siblings::bare)
}

/// How a version of a key looks to its clients: without what the key's policy keeps at the head of its value.
pub fn bare(policy: Policy) -> impl Fn(&Version) -> Version {
    move |version| match policy {
        Policy::Lww => version.clone(),
        Policy::Siblings => siblings::bare(version),
        Policy::History(_) => Version { value: history::Transaction::read(version).bytes, ..version.clone() },
    }
}

/// The heads between which somebody has to choose before a read shows anything, if there are several.
pub fn conflict(policy: Policy, versions: &[Version]) -> Option<Vec<VersionId>> {
    let may_conflict = policy == Policy::History(Strategy::Fail) && versions.len() > 1;
    may_conflict.then(|| heads(versions)).filter(|heads| heads.len() > 1)
}

/// The heads of a history, the older author's first.
pub fn heads(versions: &[Version]) -> Vec<VersionId> {
    let (dag, view) = history::read(versions, Strategy::Fail);
    let dot = |at: &usize| dag.transaction(*at).dot;
    let version =
        |dot| versions.iter().find(|version| version.dot == dot).expect("the graph is of these versions");
    view.heads.iter().map(dot).map(version).map(Version::id).collect()
}

//! DOT: a dot names one write, over answers, messages and records, whatever happened to the disks.

use reknit::model::{Key, Version, VersionId};

use super::facts::{Facts, KeyNo, VersionFacts, Want};

/// Whether a version seen whole is the one that its dot is known to name.
pub fn fits(facts: &Facts, known: &VersionFacts, key: &Key, version: &Version) -> bool {
    if facts.key(known.key).key != *key {
        return false;
    }
    match (&known.whole, &known.written) {
        (Some(whole), _) => whole == version,
        (None, Some(written)) => {
            let id = &written.id;
            id.stamp == version.stamp && id.dot == version.dot && asked_for(&written.want, version)
        }
        (None, None) => true,
    }
}

/// Whether a client's answer fits the version that its dot is known to name. Each write is a version of its
/// own, so two writes under one dot are wrong even if they are alike.
pub fn fits_written(known: &VersionFacts, key: KeyNo, id: &VersionId, want: &Want) -> bool {
    known.key == key
        && known.written.is_none()
        && known.whole.as_ref().is_some_and(|whole| whole.stamp == id.stamp && asked_for(want, whole))
}

/// Whether `version` is what a client that wants `want` writes.
fn asked_for(want: &Want, version: &Version) -> bool {
    match want {
        Want::Put { value, content_type, ttl } => {
            let deadline = ttl.map(|ttl| super::noinv::deadline(version.stamp, ttl));
            !version.tombstone
                && version.ruling == 0
                && version.value == *value
                && version.content_type == *content_type
                && version.expires_at == deadline
        }
        Want::Delete => version.tombstone && version.ruling == 0,
        Want::Get => false,
    }
}

//! What lies under one key: zero or more versions, and what they are known to have replaced.

use uuid::Uuid;

use super::dots::DotSet;
use super::version::{Dot, Stamp, Version};

/// The versions under one key. Policy `lww` keeps one; the others keep what they must.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Row {
    /// In dot order, each dot once.
    pub versions: Vec<Version>,
    /// Dots of this key that are replaced although the holder's `seen` does not include them: a token named
    /// them. The row's whole context is the holder's `seen`, read with the row, and these.
    pub context: DotSet,
}

impl Row {
    /// A row of one version.
    pub fn one(version: Version) -> Row {
        Row { versions: vec![version], context: DotSet::default() }
    }

    /// The version with this dot.
    pub fn version(&self, dot: Dot) -> Option<&Version> {
        self.versions.iter().find(|version| version.dot == dot)
    }

    /// The dots of the versions.
    pub fn dots(&self) -> impl Iterator<Item = Dot> + '_ {
        self.versions.iter().map(|version| version.dot)
    }

    /// The latest stamp; the earliest possible one if there is no version.
    pub fn stamp(&self) -> Stamp {
        self.versions.iter().map(|version| version.stamp).max().unwrap_or_default()
    }

    /// How many bytes of values lie under the key.
    pub fn value_bytes(&self) -> usize {
        self.versions.iter().map(|version| version.value.len()).sum()
    }
}

/// The tag of what a read shows: the uuid of one version, or a UUIDv8 that names the set of several.
pub fn tag<'a>(shown: impl IntoIterator<Item = &'a Version>) -> Option<Uuid> {
    let mut uuids: Vec<Uuid> = shown.into_iter().map(Version::uuid).collect();
    if uuids.len() < 2 {
        return uuids.pop();
    }
    uuids.sort();
    let mut hasher = blake3::Hasher::new_derive_key("reknit 2026-11 tag of a set of siblings");
    for uuid in uuids {
        hasher.update(uuid.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Some(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

impl From<Version> for Row {
    fn from(version: Version) -> Row {
        Row::one(version)
    }
}

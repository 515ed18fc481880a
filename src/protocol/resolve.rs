//! What a read shows of the versions under a key, by the key's policy.

use super::order;
use crate::model::{Policy, Version};

/// The versions whose values a read at hybrid time `millis` shows: under `siblings` all that are live, in dot order;
/// else the greatest, if it is live.
pub fn shown(policy: Policy, versions: &[Version], millis: u64) -> Vec<&Version> {
    let is_live = |version: &&Version| version.is_live_at(millis);
    match policy {
        Policy::Siblings => versions.iter().filter(is_live).collect(),
        Policy::Lww | Policy::History(_) => order::greatest(versions).into_iter().filter(is_live).collect(),
    }
}

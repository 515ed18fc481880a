//! NOINV: nothing is made up. A version is what some client submitted under that key, or confirms one that is.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use reknit::model::{Stamp, Version, WallTime};

use super::facts::Want;

/// What clients submitted under one key, and were not refused.
#[derive(Debug, Default)]
pub struct Submitted {
    puts: BTreeMap<Bytes, Vec<Put>>,
    deletes: u32,
    undecided_hiders: u32,
}

/// Puts of one value that are alike.
#[derive(Debug)]
struct Put {
    content_type: String,
    ttl: Option<Duration>,
    count: u32,
}

impl Submitted {
    /// A client submits a write.
    pub fn submit(&mut self, want: &Want) {
        self.undecided_hiders += u32::from(want.can_hide());
        match want {
            Want::Put { value, content_type, ttl } => {
                let alike = self.puts.entry(value.clone()).or_default();
                match find(alike, content_type, *ttl) {
                    Some(put) => put.count += 1,
                    None => alike.push(Put { content_type: content_type.clone(), ttl: *ttl, count: 1 }),
                }
            }
            Want::Delete => self.deletes += 1,
            Want::Get => {}
        }
    }

    /// The write was done.
    pub fn done(&mut self, want: &Want) {
        self.undecided_hiders -= u32::from(want.can_hide());
    }

    /// The write was not done and never will be.
    pub fn refuse(&mut self, want: &Want) {
        self.undecided_hiders -= u32::from(want.can_hide());
        match want {
            Want::Put { value, content_type, ttl } => {
                let put = self.puts.get_mut(value).and_then(|alike| find(alike, content_type, *ttl));
                put.expect("what is refused was submitted").count -= 1;
            }
            Want::Delete => self.deletes -= 1,
            Want::Get => {}
        }
    }

    /// Writes without a known outcome that make a key's value disappear, now or at their deadline.
    pub fn undecided_hiders(&self) -> u32 {
        self.undecided_hiders
    }

    /// What is wrong with `version`, seen for the first time. `confirmed` is the write that it says it confirms,
    /// as far as that is known.
    pub fn judge(&self, version: &Version, confirmed: Option<&Version>) -> Option<&'static str> {
        match (version.ruling, version.confirms) {
            (0, Some(_)) => return Some("a client's write that confirms another"),
            (1.., None) => return Some("a ruling that confirms nothing"),
            (1.., Some(_)) if version.tombstone => return Some("a ruling about a delete"),
            _ => {}
        }
        if confirmed.is_some_and(|confirmed| !confirms(version, confirmed)) {
            return Some("a ruling whose content is not that of the write it confirms");
        }
        if version.tombstone {
            return (self.deletes == 0).then_some("a tombstone, and nobody deleted this key");
        }
        let alike = self.puts.get(&version.value).map_or(&[][..], Vec::as_slice);
        let is_submitted = |put: &Put| {
            put.count > 0
                && put.content_type == version.content_type
                && put.ttl.map(|ttl| deadline(version.stamp, ttl)) == version.expires_at
        };
        (!alike.iter().any(is_submitted)).then_some("a value that nobody put under this key")
    }
}

/// When the value of a put with this `ttl` is to be shown no longer.
pub fn deadline(stamp: Stamp, ttl: Duration) -> WallTime {
    let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    WallTime(stamp.millis.saturating_add(millis))
}

fn find<'a>(alike: &'a mut [Put], content_type: &str, ttl: Option<Duration>) -> Option<&'a mut Put> {
    alike.iter_mut().find(|put| put.content_type == content_type && put.ttl == ttl)
}

fn confirms(ruling: &Version, confirmed: &Version) -> bool {
    confirmed.ruling == 0
        && !confirmed.tombstone
        && ruling.stamp == confirmed.stamp
        && ruling.author_joined == confirmed.author_joined
        && ruling.expires_at == confirmed.expires_at
        && ruling.content_type == confirmed.content_type
        && ruling.value == confirmed.value
}

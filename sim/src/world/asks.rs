//! What clients ask, in the scenario's words, and what of an answer a story can expect.

use std::time::Duration;

use bytes::Bytes;
use reknit::model::{Ack, Condition, Key, Refusal, Reply, Request, Token};

use crate::scenario::{Found, WriteOptions};

/// How long a client waits for `ack=N` and `read=N`.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// The request of `put`; `token` is what its client has seen.
pub fn put(key: Key, value: &str, options: &WriteOptions, token: Option<Token>) -> Request {
    let (value, content_type) = (Bytes::copy_from_slice(value.as_bytes()), "text/plain".to_owned());
    if let Some(offset) = options.offset {
        let (condition, ack, timeout) = (Condition::None, options.ack, ACK_TIMEOUT);
        return Request::Patch { key, offset, value, content_type, condition, ack, timeout };
    }
    Request::Put {
        key,
        value,
        content_type,
        ttl: options.ttl,
        condition: token.map_or(Condition::None, Condition::Saw),
        ack: options.ack,
        timeout: ACK_TIMEOUT,
    }
}

/// The request of `delete`; `token` is what its client has seen.
pub fn delete(key: Key, options: &WriteOptions, token: Option<Token>) -> Request {
    Request::Delete {
        key,
        condition: token.map_or(Condition::None, Condition::Saw),
        ack: options.ack,
        timeout: ACK_TIMEOUT,
    }
}

/// The request of `get`.
pub fn get(key: Key, asked: Ack) -> Request {
    match asked {
        Ack::Local => Request::Get { key },
        Ack::Nodes(_) | Ack::Majority => Request::Read { key, asked, timeout: ACK_TIMEOUT },
    }
}

/// The HTTP status that the API gives for a reply.
pub fn status(reply: &Reply) -> u16 {
    match reply {
        Reply::Written { .. }
        | Reply::Members(_)
        | Reply::Status(_)
        | Reply::Imported(_)
        | Reply::Synced(_)
        | Reply::Explained(_)
        | Reply::Done => 200,
        Reply::Value(Some(_)) => 200,
        Reply::Value(None) => 404,
        Reply::Siblings { live, .. } => match live.len() {
            0 => 404,
            1 => 200,
            _ => 409,
        },
        Reply::Refused(refusal) => match refusal {
            Refusal::Mode(_)
            | Refusal::DiskFull
            | Refusal::TooManyPending { .. }
            | Refusal::TooManyOrigins { .. } => 503,
            Refusal::Condition { .. } => 412,
            Refusal::AckAboveMembers { .. } => 400,
            Refusal::AckTimeout { .. } | Refusal::ReadTimeout { .. } => 504,
            Refusal::Corrupt => 500,
            Refusal::Policy(_) => 400,
            Refusal::Heads { .. }
            | Refusal::HistoryFull { .. }
            | Refusal::TooManySiblings { .. }
            | Refusal::Member(_) => 409,
        },
    }
}

/// What a story expects of one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever comes.
    Anything,
    /// This HTTP status.
    Status(u16),
    /// A read that shows this.
    Shows(Found),
    /// An answer to a read, whatever it shows: the node lives and serves.
    Alive,
}

impl Expected {
    /// What is wrong with `reply`, if something is; `None` as a reply is none at all.
    pub fn judge(&self, reply: Option<&Reply>) -> Option<String> {
        let wanted = match self {
            Expected::Anything => return None,
            Expected::Status(status) => format!("status {status}"),
            Expected::Shows(found) => describe(found),
            Expected::Alive => "an answer to a read".to_owned(),
        };
        let Some(reply) = reply else { return Some(format!("{wanted} was expected, but nobody answered")) };
        (!self.is_met_by(reply)).then(|| format!("{wanted} was expected, but it was {}", shown(reply)))
    }

    /// The promise that is broken if it is not met.
    pub fn code(&self) -> &'static str {
        match self {
            Expected::Alive => "ALIVE",
            Expected::Anything | Expected::Status(_) | Expected::Shows(_) => "STORY",
        }
    }

    fn is_met_by(&self, reply: &Reply) -> bool {
        match (self, reply) {
            (Expected::Anything, _) | (Expected::Alive, Reply::Value(_)) => true,
            (Expected::Alive, _) => false,
            // A delete is answered with 204, everything else that went well with 200.
            (Expected::Status(wanted), reply) => {
                let status = status(reply);
                status == *wanted || status == 200 && *wanted == 204
            }
            (Expected::Shows(found), Reply::Value(version)) => match found {
                Found::Value(value) => {
                    version.as_ref().is_some_and(|version| version.value == value.as_bytes())
                }
                Found::Found => version.is_some(),
                Found::Absent => version.is_none(),
                Found::Siblings(_) => false,
            },
            (Expected::Shows(found), Reply::Siblings { live, .. }) => match found {
                Found::Value(value) => matches!(&live[..], [only] if only.value == value.as_bytes()),
                Found::Found => !live.is_empty(),
                Found::Absent => live.is_empty(),
                Found::Siblings(count) => live.len() == *count,
            },
            (Expected::Shows(Found::Siblings(count)), Reply::Refused(Refusal::Heads { heads })) => {
                heads.len() == *count
            }
            (Expected::Shows(_), _) => false,
        }
    }
}

fn describe(found: &Found) -> String {
    match found {
        Found::Value(value) => format!("`{value}`"),
        Found::Found => "a value".to_owned(),
        Found::Absent => "no value".to_owned(),
        Found::Siblings(count) => format!("{count} siblings"),
    }
}

/// What a reply says, in a few words.
pub fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Value(Some(version)) => format!("`{}`", String::from_utf8_lossy(&version.value)),
        Reply::Value(None) => "no value".to_owned(),
        Reply::Siblings { live, .. } => {
            let values = live.iter().map(|version| format!("`{}`", String::from_utf8_lossy(&version.value)));
            format!("{} siblings: {}", live.len(), values.collect::<Vec<_>>().join(", "))
        }
        Reply::Refused(refusal) => format!("status {}: {refusal}", status(reply)),
        other => format!("status {}", status(other)),
    }
}

#[cfg(test)]
#[path = "asks_tests.rs"]
mod tests;

//! `kv watch`: asks again and again for what is new, from where the last answer ended.
//!
//! A cursor holds at every node, so a node that goes away is replaced by the next endpoint without a gap.

use std::time::Duration;

use reknit::client::{Client, ClientError};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::show::{print, text, time_text};
use crate::{Failure, Output, not_understood};

/// How long one question may wait for something new, unless the timeout is shorter.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Most changes that are asked for at once.
const AT_ONCE_MAX: usize = 500;
/// The time between two attempts while no node answers.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Polled {
    changes: Vec<Json>,
    next: String,
    reset: bool,
}

/// Prints up to `limit` changes after `since`, which is a cursor, `now` or `start`.
pub fn watch(
    client: &Client,
    output: Output,
    prefix: &[u8],
    since: &str,
    limit: usize,
    timeout: Duration,
) -> Result<(), Failure> {
    let wait = WAIT_MAX.min(timeout / 2).max(Duration::from_millis(1));
    let mut cursor = (since != "start").then(|| since.to_owned());
    let (mut left, mut has_answered) = (limit, false);
    while left > 0 {
        let mut parameters =
            vec![("prefix", prefix.to_vec()), ("wait", format!("{}ms", wait.as_millis()).into_bytes())];
        // No more than are shown, so that the cursor is behind the last of them.
        parameters.push(("limit", left.min(AT_ONCE_MAX).to_string().into_bytes()));
        parameters.extend(cursor.iter().map(|cursor| ("since", cursor.clone().into_bytes())));
        let polled: Polled = match client.read("/changes", &parameters) {
            Ok(answer) => serde_json::from_slice(&answer).map_err(not_understood)?,
            Err(error) if has_answered && is_passing(&error) => {
                eprintln!("kv: {error}; trying again");
                pause();
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        has_answered = true;
        if polled.reset {
            eprintln!("kv: the node has not covered what this watch has seen; it begins anew");
        }
        cursor = Some(polled.next.clone());
        left -= polled.changes.len().min(left);
        for (number, change) in polled.changes.iter().enumerate() {
            let is_last = number + 1 == polled.changes.len();
            print(line(output, change, is_last.then_some(polled.next.as_str())).as_bytes())?;
        }
    }
    Ok(())
}

/// Whether the same question may be answered later.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable(_) => true,
        ClientError::Refused(problem) => problem.retryable,
        ClientError::Endpoint(_)
        | ClientError::Authority(_)
        | ClientError::Answer(_)
        | ClientError::Siblings { .. } => false,
    }
}

#[allow(clippy::disallowed_methods, reason = "nothing to do until the node is back")]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// One change; with `-o json` the last one of an answer has the cursor to go on from.
fn line(output: Output, change: &Json, next: Option<&str>) -> String {
    match output {
        Output::Table => {
            let time = time_text(change.get("timestamp"));
            format!(
                "{time:<24} {:<9} {} {}\n",
                text(change, "type"),
                text(change, "key"),
                text(change, "uuid")
            )
        }
        Output::Raw => format!("{change}\n"),
        Output::Json => match next {
            Some(next) => format!("{}\n", json!({ "change": change, "next": next })),
            None => format!("{}\n", json!({ "change": change })),
        },
    }
}

//! `GET /changes`: what is new since a cursor, asked for (long poll) or told as it comes (server-sent events).
//!
//! [`crate::protocol::changes`] decides what a cursor has not been told. Nothing is queued here: a slow reader
//! costs one cursor, and is told the newest state of what it missed. A watch that ends is resumed from the last
//! `id`, here or at another node; what was under way then may be told twice, nothing is left out.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::params::{self, Params};
use super::problem::{Code, Problem, single_header};
use super::shown::{EVENT_STREAM, Shown, accepts};
use super::{Shared, json, list};
use crate::model::{DotSet, Key, Policy, Version};
use crate::protocol::changes::{self, Bounds, Look, Step};
use crate::protocol::{order, resolve};
use crate::storage::rows::Record;

/// Most watches and waiting polls at once.
pub const WATCHES_MAX: usize = 256;
/// Most keys in one answer, or between two ids.
pub const KEYS_MAX: usize = 500;
/// An answer takes no further key once it has this many bytes of values.
const BYTES_MAX: usize = 2 << 20;
/// As [`BYTES_MAX`], of what a watch is told at once: each of them may wait for a client that reads nothing.
const STEP_BYTES_MAX: usize = 256 << 10;
/// Longest time a poll may wait.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The time between two looks of one watch: a busy node's turns are told together.
const PAUSE: Duration = Duration::from_millis(20);
/// Looks are taken at least this often, whether or not a turn was heard of.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long a node that has not covered a cursor may take to catch up, before the watch begins anew.
const BEHIND_PATIENCE: Duration = Duration::from_secs(10);
/// A comment goes out this often when nothing else does, so that both ends notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// `GET /changes`
pub async fn changes(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let params = Params::parse(parts.uri.query(), &["since", "prefix", "wait", "limit"])?;
    let prefix = list::part_of_key(&params, "prefix")?.unwrap_or_default();
    let since = match single_header(&parts.headers, &LAST_EVENT_ID)? {
        Some(id) => Some(id),
        None => params.text("since")?,
    };
    let cursor = shared.cursor(since).await?;
    let place = Arc::clone(&shared.watches).try_acquire_owned().map_err(|_| {
        let detail = format!("{WATCHES_MAX} clients watch already");
        Problem::new(Code::Busy, detail).with_limit(WATCHES_MAX as u64)
    })?;
    let is_stream = accepts(&parts.headers, EVENT_STREAM);
    let bytes_max = if is_stream { STEP_BYTES_MAX } else { BYTES_MAX };
    let bounds = Bounds { keys_max: limit(&params)?, bytes_max };
    let watch = Watch::new(shared, cursor, prefix, bounds, place);
    if is_stream {
        Ok(watch.stream())
    } else {
        watch.poll(params.duration("wait", WAIT_MAX)?.unwrap_or_default()).await
    }
}

fn limit(params: &Params) -> Result<usize, Problem> {
    let Some(text) = params.text("limit")? else { return Ok(KEYS_MAX) };
    text.parse().ok().filter(|limit| (1..=KEYS_MAX).contains(limit)).ok_or_else(|| {
        params::bad(format!("limit={text} is no number from 1 to {KEYS_MAX}")).with_limit(KEYS_MAX as u64)
    })
}

impl Shared {
    /// The cursor that a client begins at: its own, `now`, or the beginning of everything.
    async fn cursor(self: &Arc<Shared>, since: Option<&str>) -> Result<DotSet, Problem> {
        match since {
            None | Some("") => Ok(DotSet::default()),
            Some("now") => self.scan(|shared| shared.app.reader.snapshot(changes::now)).await,
            Some(text) => {
                let bytes = URL_SAFE_NO_PAD.decode(text).ok();
                let cursor = bytes.and_then(|bytes| changes::decode(&bytes));
                cursor.ok_or_else(|| Problem::new(Code::BadCursor, "not a cursor of /changes, nor `now`"))
            }
        }
    }
}

fn text_of(cursor: &DotSet) -> Result<String, Problem> {
    let bytes = changes::encode(cursor).ok_or_else(|| {
        let limit = changes::CURSOR_BYTES_MAX;
        let detail = format!("the cursor has more than {limit} bytes: too many origins have written");
        Problem::new(Code::Internal, detail).with_limit(limit as u64)
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// One client's way through the changes.
struct Watch {
    shared: Arc<Shared>,
    cursor: DotSet,
    prefix: Vec<u8>,
    bounds: Bounds,
    turns: watch::Receiver<u64>,
    /// Whether the client is to forget what it has: told with what comes next.
    is_reset: bool,
    /// Whether it was told that it has everything.
    is_live: bool,
    behind: Duration,
    /// Held until the last events are taken.
    told: Option<OwnedSemaphorePermit>,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    fn new(
        shared: Arc<Shared>,
        cursor: DotSet,
        prefix: Vec<u8>,
        bounds: Bounds,
        place: OwnedSemaphorePermit,
    ) -> Watch {
        let turns = shared.app.pulse.listen();
        let behind = Duration::ZERO;
        Watch {
            shared,
            cursor,
            prefix,
            bounds,
            turns,
            is_reset: false,
            is_live: false,
            behind,
            told: None,
            _place: place,
        }
    }

    /// The next step, or `None` if this node has to catch up with the cursor first.
    async fn look(&mut self) -> Result<Option<Step>, Problem> {
        self.turns.mark_unchanged();
        let (cursor, bounds) = (self.cursor.clone(), self.bounds);
        let look = self
            .shared
            .scan(move |shared| shared.app.reader.snapshot(|store| changes::look(store, &cursor, bounds)));
        match look.await? {
            Look::Step(step) => {
                self.behind = Duration::ZERO;
                self.cursor.clone_from(&step.cursor);
                Ok(Some(step))
            }
            Look::Behind if self.behind < BEHIND_PATIENCE => Ok(None),
            Look::Behind => {
                // What the cursor names may be lost for good; the client begins anew and knows it.
                self.is_reset = true;
                self.cursor = DotSet::default();
                self.behind = Duration::ZERO;
                Ok(None)
            }
        }
    }

    /// Waits for another turn, at most `patience`. False once the node stops.
    async fn wait(&mut self, patience: Duration) -> bool {
        let began = self.shared.app.clock.now().mono;
        let stop = self.shared.app.stop.clone();
        let goes_on = tokio::select! {
            biased;
            () = stop.cancelled() => false,
            _ = tokio::time::timeout(patience.min(LOOK_AGAIN), self.turns.changed()) => true,
        };
        self.behind += self.shared.app.clock.now().mono.since(began);
        goes_on
    }

    fn shown(&self, step: Step) -> Vec<Change> {
        let changes = step.changes.into_iter();
        changes
            .filter(|(key, _)| key.as_bytes().starts_with(&self.prefix))
            .map(|(key, record)| Change::of(self.shared.app.info.policies.of(&key), &key, record))
            .collect()
    }

    /// One answer: what is new, or nothing if nothing came in time.
    async fn poll(mut self, wait: Duration) -> Result<Response, Problem> {
        let began = self.shared.app.clock.now().mono;
        loop {
            let left = wait.saturating_sub(self.shared.app.clock.now().mono.since(began));
            let step = self.look().await?;
            let more = step.as_ref().is_some_and(|step| !step.is_whole);
            let is_caught_up = step.is_some();
            let changes = step.map(|step| self.shown(step)).unwrap_or_default();
            if !changes.is_empty() || more || left.is_zero() || self.is_reset && is_caught_up {
                let next = text_of(&self.cursor)?;
                return Ok(json(&Polled { changes, next, more, reset: self.is_reset }));
            }
            if !self.wait(left).await {
                return Err(Problem::new(Code::Draining, "this node is on its way out"));
            }
        }
    }

    /// Server-sent events until the client or the node goes.
    fn stream(self) -> Response {
        let events = futures_util::stream::unfold(Some(self), |watch| async {
            let mut watch = watch?;
            match watch.events().await {
                Ok(Some(events)) => Some((events, Some(watch))),
                Ok(None) => None,
                Err(problem) => {
                    let event = Event::default().event("error").data(problem.to_string());
                    Some((vec![event], None))
                }
            }
        });
        let events = futures_util::StreamExt::flat_map(events, |events| {
            futures_util::stream::iter(events.into_iter().map(Ok::<_, Infallible>))
        });
        let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
        // A proxy that collects an answer before passing it on would hold a watch for ever.
        ([(BUFFERING, HeaderValue::from_static("no"))], sse).into_response()
    }

    /// The next events, or `None` when the node stops. Asked for once the last ones are on their way.
    async fn events(&mut self) -> Result<Option<Vec<Event>>, Problem> {
        self.told = None;
        loop {
            let before = self.cursor.clone();
            let Some(step) = self.look().await? else {
                if !self.wait(LOOK_AGAIN).await {
                    return Ok(None);
                }
                continue;
            };
            let (is_whole, mut events, mut bytes) = (step.is_whole, Vec::new(), 0);
            if std::mem::take(&mut self.is_reset) {
                self.is_live = false;
                events.push(Event::default().event("reset").data("{}"));
            }
            for change in self.shown(step) {
                let data = serde_json::to_string(&change).expect("our own structs are JSON");
                bytes += data.len();
                events.push(Event::default().event(change.kind).data(data));
            }
            if self.cursor != before {
                // The id of the last event of a step stands for all of it; alone it moves the client's mark.
                let id = text_of(&self.cursor)?;
                let last = events.pop().unwrap_or_default();
                events.push(last.id(id));
            }
            if is_whole && !std::mem::replace(&mut self.is_live, true) {
                events.push(Event::default().event("live").data("{}"));
            }
            if !events.is_empty() {
                // A client that is sent away goes on from its last id, and misses nothing.
                self.told = self.shared.answer_room(bytes as u64)?;
                tokio::time::sleep(if is_whole { PAUSE } else { Duration::ZERO }).await;
                return Ok(Some(events));
            }
            if !self.wait(LOOK_AGAIN).await {
                return Ok(None);
            }
        }
    }
}

/// The answer to a poll.
#[derive(JsonSchema, Serialize)]
pub struct Polled {
    changes: Vec<Change>,
    /// The cursor to go on from.
    next: String,
    /// Whether more is there already.
    more: bool,
    /// Whether the client is to forget what it has: this node could not go on from its cursor.
    reset: bool,
}

/// A key as it is now.
#[derive(JsonSchema, Serialize)]
pub struct Change {
    key: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    version: Option<Shown>,
    /// All of them, where no one version stands for the key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    versions: Vec<Shown>,
}

impl Change {
    fn of(policy: Policy, key: &Key, record: Record) -> Change {
        let key = key.to_string();
        let none = Change { key, kind: "delete", version: None, versions: Vec::new() };
        if record == Record::Rotten {
            return Change { kind: Code::CorruptRecord.name(), ..none };
        }
        let versions = record.versions();
        if let Some(heads) = resolve::conflict(policy, versions) {
            let is_head = |version: &&Version| heads.iter().any(|head| head.dot == version.dot);
            let heads = versions.iter().filter(is_head).map(resolve::bare(policy));
            return Change {
                kind: "conflict",
                versions: heads.map(|head| Shown::of(&head)).collect(),
                ..none
            };
        }
        // What a deadline hides is shown: it was written, and a reader of changes may come late.
        let values: Vec<Version> = match policy {
            Policy::Siblings => resolve::live(versions, 0).collect(),
            Policy::Lww | Policy::History(_) => {
                resolve::shown(policy, versions, 0).map(Cow::into_owned).into_iter().collect()
            }
        };
        match values.as_slice() {
            [] => {
                let last = order::greatest(versions).cloned();
                let gone = last.map(|last| Version { tombstone: true, value: Bytes::new(), ..last });
                Change { version: gone.as_ref().map(Shown::of), ..none }
            }
            [value] => Change { kind: "put", version: Some(Shown::of(value)), ..none },
            values => Change { kind: "conflict", versions: values.iter().map(Shown::of).collect(), ..none },
        }
    }
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;

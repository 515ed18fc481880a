//! `POST /batch`: many operations in one request, one JSON a line, each with an answer of its own.
//!
//! The operations are asked in their order, so those on one key happen in it; they share turns, and so the disk.
//! They are no transaction: each succeeds or fails alone. Under an `Idempotency-Key` a batch is done to its end, whether
//! its client waits or not, and is then answered again and not done again, as long as this node remembers it. Keys of
//! different tokens are different keys.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request as HttpRequest, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::auth::{Grant, Scope};
use super::kv::{ACK_TIMEOUT, ACK_TIMEOUT_MAX, TTL_MAX, Written, ack_of};
use super::params::{self, Params};
use super::problem::{Code, Problem, single_header};
use super::shown::{Exact, NDJSON, Shown};
use super::{Shared, media};
use crate::model::{Ack, Condition, Instant, Key, Request};

/// Most operations of a batch.
const ITEMS_MAX: usize = 1000;
/// Largest batch, in bytes.
const BODY_BYTES_MAX: usize = 16 << 20;
/// Operations of one batch that wait for the node at once.
const AT_ONCE: usize = 128;
/// Most batches that are remembered.
const ANSWERED_MAX: usize = 4096;
/// Most bytes of answers that are remembered; the oldest are forgotten first.
const ANSWERS_BYTES_MAX: usize = 64 << 20;
/// How long an answered batch is remembered.
const ANSWERED_FOR: Duration = Duration::from_secs(600);
/// Longest idempotency key.
const KEY_BYTES_MAX: usize = 128;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// One line of a batch.
#[derive(JsonSchema, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "BatchOperation")]
pub struct Item {
    op: Op,
    key: String,
    /// The value of a put, in one of three forms.
    #[serde(default, deserialize_with = "given")]
    value: Option<Box<RawValue>>,
    text: Option<String>,
    base64: Option<String>,
    content_type: Option<String>,
    ttl: Option<String>,
    if_match: Option<Uuid>,
    if_none_match: Option<String>,
}

#[derive(JsonSchema, Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "BatchOperationName")]
pub enum Op {
    Put,
    Delete,
    Get,
}

/// What one line led to.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "BatchOutcome")]
pub struct Outcome {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    status: u16,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    written: Option<Written>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    found: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
}

/// `null` is a value like any other.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

/// How the writes of a batch are confirmed.
#[derive(Clone, Copy)]
struct Wanted {
    ack: Ack,
    timeout: Duration,
}

/// `POST /batch`
pub async fn batch(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let params = Params::parse(parts.uri.query(), &["ack", "timeout"])?;
    let wanted = Wanted {
        ack: ack_of(&params)?,
        timeout: params.duration("timeout", ACK_TIMEOUT_MAX)?.unwrap_or(ACK_TIMEOUT),
    };
    let name = single_header(&parts.headers, &IDEMPOTENCY_KEY)?.map(str::to_owned);
    if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > KEY_BYTES_MAX) {
        let detail = format!("{IDEMPOTENCY_KEY} has from 1 to {KEY_BYTES_MAX} characters");
        return Err(Problem::new(Code::BadHeader, detail).with_limit(KEY_BYTES_MAX as u64));
    }
    let grant = parts.extensions.get::<Grant>().cloned().unwrap_or_else(Grant::everything);
    // Held until the answer: the operations keep the bytes.
    let (bytes, hold) = shared.body(&parts, body, BODY_BYTES_MAX).await?;
    let items = items(&bytes)?;
    let Some(name) = name else {
        return Ok(answer(shared.run(items, wanted, &grant).await, false));
    };
    let query = parts.uri.query().unwrap_or_default();
    // A grant that changed since is another one: it may not have the answer that the old one had.
    let asked = format!("{grant:?}\n{query}\n");
    let fingerprint = *blake3::hash(&[asked.as_bytes(), &bytes].concat()).as_bytes();
    let name = (grant.name().map(str::to_owned), name);
    let now = shared.app.clock.now().mono;
    if let Some(known) = shared.batches.begin(&name, fingerprint, now)? {
        return Ok(answer(known, true));
    }
    // If the client goes before the answer, the batch is done all the same, for it to ask again.
    let doing = tokio::spawn(async move {
        let claim = Claim { shared: &shared, name: &name, answer: None };
        let answered = shared.run(items, wanted, &grant).await;
        claim.keep(&answered);
        drop(hold);
        answered
    });
    let answered = doing.await.map_err(|_| Problem::new(Code::Internal, "the batch broke off"))?;
    Ok(answer(answered, false))
}

fn answer(lines: Bytes, is_replayed: bool) -> Response {
    let mut response = ([(CONTENT_TYPE, NDJSON)], lines).into_response();
    if is_replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// A line that is no operation refuses the batch before anything is done.
fn items(bytes: &[u8]) -> Result<Vec<Item>, Problem> {
    let mut items = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if items.len() == ITEMS_MAX {
            let detail = format!("more than {ITEMS_MAX} operations");
            return Err(Problem::new(Code::ValueTooLarge, detail).with_limit(ITEMS_MAX as u64));
        }
        let item = serde_json::from_slice(line);
        items
            .push(item.map_err(|error| Problem::new(Code::BadBody, format!("line {}: {error}", index + 1)))?);
    }
    Ok(items)
}

/// Parts that are done one after the other: reads see what is durable, so one of a key that was written before it, in the
/// same batch, begins a part of its own.
fn parts(items: Vec<Item>) -> Vec<Vec<Item>> {
    let mut parts = vec![Vec::new()];
    let mut written = BTreeSet::new();
    for item in items {
        // What is no key is refused in its turn.
        let key = Key::from_path(&item.key).ok();
        if item.op == Op::Get && key.as_ref().is_some_and(|key| written.contains(key)) {
            parts.push(Vec::new());
            written.clear();
        } else if item.op != Op::Get {
            written.extend(key);
        }
        parts.last_mut().expect("there is always one").push(item);
    }
    parts
}

type Doing<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

impl Shared {
    /// Does the operations, several at once but asked in their order, and returns their lines in that order.
    async fn run(&self, items: Vec<Item>, wanted: Wanted, grant: &Grant) -> Bytes {
        let mut lines = Vec::new();
        let mut index = 0;
        for part in parts(items) {
            let doing = part.into_iter().zip(index..);
            let doing =
                doing.map(|(item, index)| -> Doing<'_> { Box::pin(self.item(index, item, wanted, grant)) });
            let mut outcomes = futures_util::stream::iter(doing).buffered(AT_ONCE);
            while let Some(outcome) = outcomes.next().await {
                serde_json::to_writer(&mut lines, &outcome).expect("our own structs are JSON");
                lines.push(b'\n');
                index += 1;
            }
        }
        lines.into()
    }

    async fn item(&self, index: usize, item: Item, wanted: Wanted, grant: &Grant) -> Outcome {
        let none = Outcome {
            index,
            key: Some(item.key.clone()),
            status: 200,
            written: None,
            found: None,
            code: None,
            detail: None,
            retryable: None,
        };
        match self.carry_out(item, wanted, grant).await {
            Ok(Done::Written(written)) => Outcome { written: Some(written), ..none },
            Ok(Done::Deleted(written)) => Outcome { status: 204, written: Some(written), ..none },
            Ok(Done::Found(shown)) => Outcome { found: Some(*shown), ..none },
            Err(problem) => Outcome {
                status: problem.code().status().as_u16(),
                code: Some(problem.code().name()),
                retryable: Some(problem.code().is_retryable()),
                written: problem.written().copied(),
                detail: Some(problem.detail().to_owned()),
                ..none
            },
        }
    }

    async fn carry_out(
        &self,
        item: Item,
        Wanted { ack, timeout }: Wanted,
        grant: &Grant,
    ) -> Result<Done, Problem> {
        let key = Key::from_path(&item.key)?;
        grant.check_keys(key.as_bytes())?;
        match item.op {
            Op::Put => {
                let (value, content_type) = item.value()?;
                let limit = self.app.limits.value_bytes_max;
                if value.len() > limit {
                    let detail = format!("the value has more than {limit} bytes");
                    return Err(Problem::new(Code::ValueTooLarge, detail).with_limit(limit as u64));
                }
                media::check_type(&content_type)?;
                if media::is_json(&content_type) {
                    media::check_json(&value)?;
                }
                let ttl = item.ttl.as_ref().map(|ttl| params::duration_within("ttl", ttl, TTL_MAX));
                let (ttl, condition) = (ttl.transpose()?, item.condition()?);
                let request = Request::Put { key, value, content_type, ttl, condition, ack, timeout };
                let (id, acked) = self.write(request, timeout).await?;
                Ok(Done::Written(Written::of(id).acked(acked, ack)))
            }
            Op::Delete => {
                item.has_no_value()?;
                let condition = item.condition()?;
                let request = Request::Delete { key, condition, ack, timeout };
                let (id, acked) = self.write(request, timeout).await?;
                Ok(Done::Deleted(Written::of(id).acked(acked, ack)))
            }
            Op::Get => {
                grant.check(Scope::Read)?;
                item.has_no_value()?;
                let version = self.version(&key).await?.ok_or_else(|| {
                    Problem::new(Code::NotFound, format!("this node has no value under {key}"))
                })?;
                Ok(Done::Found(Box::new(Shown::of(&version))))
            }
        }
    }
}

enum Done {
    Written(Written),
    Deleted(Written),
    Found(Box<Shown>),
}

impl Item {
    /// A put's bytes, and the media type they go under.
    fn value(&self) -> Result<(Bytes, String), Problem> {
        let bad = |what| Problem::new(Code::BadBody, what);
        let (bytes, guessed) = match (&self.value, &self.text, &self.base64) {
            (Some(json), None, None) => (json.get().as_bytes().to_vec(), media::JSON),
            (None, Some(text), None) => (text.as_bytes().to_vec(), "text/plain; charset=utf-8"),
            (None, None, Some(base64)) => {
                let bytes = Exact::of_base64(base64.clone()).bytes();
                (bytes.ok_or_else(|| bad("base64 is not base64"))?, "application/octet-stream")
            }
            _ => return Err(bad("a put has one of value, text and base64")),
        };
        let content_type = self.content_type.clone().unwrap_or_else(|| guessed.to_owned());
        Ok((bytes.into(), content_type))
    }

    fn has_no_value(&self) -> Result<(), Problem> {
        let is_bare = self.value.is_none()
            && self.text.is_none()
            && self.base64.is_none()
            && self.content_type.is_none()
            && self.ttl.is_none();
        if is_bare { Ok(()) } else { Err(Problem::new(Code::BadBody, "only a put has a value")) }
    }

    fn condition(&self) -> Result<Condition, Problem> {
        match (self.if_match, self.if_none_match.as_deref()) {
            (None, None) => Ok(Condition::None),
            (Some(uuid), None) => Ok(Condition::Matches(vec![uuid])),
            (None, Some("*")) => Ok(Condition::Absent),
            (None, Some(text)) => {
                let uuid = text.parse();
                let uuid = uuid.map_err(|_| Problem::new(Code::BadBody, "if_none_match is * or a uuid"))?;
                Ok(Condition::Differs(vec![uuid]))
            }
            (Some(_), Some(_)) => {
                Err(Problem::new(Code::BadBody, "an operation has if_match or if_none_match, not both"))
            }
        }
    }
}

/// Whose key, and which.
type Name = (Option<String>, String);

/// The batches that this node has answered, by idempotency key.
#[derive(Default)]
pub struct Answered(Mutex<Book>);

#[derive(Default)]
struct Book {
    pages: BTreeMap<Name, Page>,
    /// The names in the order in which they came.
    order: VecDeque<Name>,
    /// Of all answers.
    bytes: usize,
}

struct Page {
    fingerprint: [u8; 32],
    since: Instant,
    /// `None` while it is done.
    answer: Option<Bytes>,
}

impl Answered {
    /// The answer to a batch that is known, or `None` for one that is to be done now.
    fn begin(&self, name: &Name, fingerprint: [u8; 32], now: Instant) -> Result<Option<Bytes>, Problem> {
        let mut book = self.0.lock().expect("nobody panics while holding it");
        book.forget(now);
        if let Some(page) = book.pages.get(name) {
            if page.fingerprint != fingerprint {
                let detail = "another batch was sent under this idempotency key";
                return Err(Problem::new(Code::IdempotencyKeyReused, detail));
            }
            let doing = || Problem::new(Code::Busy, "a batch under this idempotency key is being done");
            return page.answer.clone().map(Some).ok_or_else(doing);
        }
        let page = Page { fingerprint, since: now, answer: None };
        book.pages.insert(name.clone(), page);
        book.order.push_back(name.clone());
        Ok(None)
    }

    fn end(&self, name: &Name, answer: Option<&Bytes>) {
        let mut book = self.0.lock().expect("nobody panics while holding it");
        let book = &mut *book;
        match answer {
            Some(answer) => {
                if let Some(page) = book.pages.get_mut(name) {
                    page.answer = Some(answer.clone());
                    book.bytes += answer.len();
                }
            }
            None => {
                book.pages.remove(name);
                book.order.retain(|known| known != name);
            }
        }
    }
}

impl Book {
    /// Drops what is old, and the oldest beyond the bounds; nothing that is still being done.
    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.order.front() {
            let page = self.pages.get(oldest);
            let is_old = page.is_none_or(|page| now.since(page.since) > ANSWERED_FOR);
            let has_room = self.order.len() < ANSWERED_MAX && self.bytes < ANSWERS_BYTES_MAX;
            if !is_old && has_room {
                break;
            }
            let oldest = self.order.pop_front().expect("just looked");
            match self.pages.get(&oldest).map(|page| &page.answer) {
                Some(None) => {
                    self.order.push_back(oldest);
                    break;
                }
                Some(Some(answer)) => self.bytes -= answer.len(),
                None => {}
            }
            self.pages.remove(&oldest);
        }
    }
}

/// A batch under way; forgotten if it breaks off before the end.
struct Claim<'a> {
    shared: &'a Shared,
    name: &'a Name,
    answer: Option<Bytes>,
}

impl Claim<'_> {
    fn keep(mut self, answer: &Bytes) {
        self.answer = Some(answer.clone());
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.shared.batches.end(self.name, self.answer.as_ref());
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;

//! One key: put, read, delete.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_MATCH,
    IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::context::CONTEXT;
use super::params::{self, Params};
use super::problem::{Code, Problem};
use super::tags::{self, Tags};
use super::{Shared, history, json, media, odd, reads, siblings};
use crate::model::{
    Ack, Condition, Key, Policy, Refusal, Reply, Request, Row, Token, Version, VersionId, row,
};
use crate::protocol::{resolve, siblings as policy};
use crate::storage::rows::{self, Record};

/// How long a write waits for its confirmations unless it says otherwise.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for confirmations.
pub const ACK_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Longest time to live: ten years.
pub const TTL_MAX: Duration = Duration::from_secs(3650 * 86_400);

const TIMESTAMP: HeaderName = HeaderName::from_static("x-reknit-timestamp");
const NODE: HeaderName = HeaderName::from_static("x-reknit-node");
/// On how many nodes a write is known to be durable, the one that answers included.
const ACKED: HeaderName = HeaderName::from_static("x-reknit-acked");

/// A write as its client sees it.
#[derive(JsonSchema, Clone, Copy, Debug, Serialize)]
pub struct Written {
    uuid: Uuid,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    acked: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<u16>,
}

impl Written {
    /// The version that was written.
    pub fn of(id: VersionId) -> Written {
        Written { uuid: id.uuid, timestamp: id.stamp.millis, acked: None, asked: None }
    }

    /// On how many nodes it is known to be: told where more than this one were asked for.
    pub fn acked(self, acked: u16, ack: Ack) -> Written {
        Written { acked: (ack != Ack::Local).then_some(acked), ..self }
    }

    /// On how many nodes it is known to be, of how many that were asked for and did not all answer.
    pub fn confirmed(self, acked: u16, asked: u16) -> Written {
        Written { acked: Some(acked), asked: Some(asked), ..self }
    }
}

/// `PUT /kv/{key}`
pub async fn put(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let wanted = Put::read(&parts)?;
    let limits = &shared.app.limits;
    let (value, _hold) = shared.body(&parts, body, limits.value_bytes_max).await?;
    let Put { key, content_type, ttl, offset, write } = wanted;
    let Write { condition, ack, timeout } = write;
    let condition = shared.with_token(&parts.headers, &key, condition)?;
    let sibling = shared.is_sibling(&key).then(|| key.clone());
    let request = match offset {
        Some(offset) => {
            history::check_end(offset, value.len(), limits.value_bytes_max)?;
            Request::Patch { key, offset, value, content_type, condition, ack, timeout }
        }
        None => {
            if media::is_json(&content_type) {
                media::check_json(&value)?;
            }
            Request::Put { key, value, content_type, ttl, condition, ack, timeout }
        }
    };
    let (id, acked) = shared.write(request, timeout).await?;
    let mut response = json(&Written::of(id).acked(acked, ack));
    response.headers_mut().insert(ETAG, etag(id.uuid));
    response.headers_mut().insert(ACKED, HeaderValue::from(acked));
    shared.tell_context(response.headers_mut(), sibling.as_ref(), id)?;
    Ok(response)
}

/// `DELETE /kv/{key}`
pub async fn delete(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let key = key(&parts)?;
    let params = Params::parse(parts.uri.query(), &["ack", "timeout"])?;
    let Write { condition, ack, timeout } = Write::read(&params, &parts.headers)?;
    let condition = shared.with_token(&parts.headers, &key, condition)?;
    let sibling = shared.is_sibling(&key).then(|| key.clone());
    let (id, acked) = shared.write(Request::Delete { key, condition, ack, timeout }, timeout).await?;
    let told = [(TIMESTAMP, HeaderValue::from(id.stamp.millis)), (ACKED, HeaderValue::from(acked))];
    let mut response = (StatusCode::NO_CONTENT, told).into_response();
    shared.tell_context(response.headers_mut(), sibling.as_ref(), id)?;
    Ok(response)
}

/// What a read can ask: of a history, or how many nodes.
const READ_PARAMETERS: [&str; 7] = {
    let [heads, versions, limit, at] = history::PARAMETERS;
    [heads, versions, limit, at, "explain", "read", "timeout"]
};

/// `GET /kv/{key}`, and `HEAD`
pub async fn read(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let key = key(&parts)?;
    let params = Params::parse(parts.uri.query(), &READ_PARAMETERS)?;
    let question = history::Question::read(&params)?;
    if params.switch("explain")? {
        if question.is_some() {
            return Err(params::bad("explain, heads, versions and at are four questions; ask one".into()));
        }
        return shared.explain(&key).await;
    }
    if let Some(question) = question {
        return shared.answer(&key, question);
    }
    let wanted = super::sync::wanted(&params)?;
    let matches = Tags::read(&parts.headers, &IF_MATCH)?;
    let differs = Tags::read(&parts.headers, &IF_NONE_MATCH)?;

    let Found { mut live, context } = shared.found(&key, wanted).await?;
    let mut response = match row::tag(&live) {
        None if matches.is_some() => {
            let detail = "this node has no live value under the key";
            Problem::new(Code::ConditionFailed, detail).into_response()
        }
        None => Problem::new(Code::NotFound, format!("this node has no value under {key}")).into_response(),
        Some(tag) if matches.is_some_and(|tags| !tags.names_strongly(tag)) => {
            let detail = format!("this node has version \"{tag}\" under the key");
            return Err(Problem::new(Code::ConditionFailed, detail));
        }
        Some(tag) => {
            let is_known = differs.is_some_and(|tags| tags.names(tag));
            match live.pop().expect("what has a tag is there") {
                version if live.is_empty() => shared.show(version, is_known),
                _ if is_known => (StatusCode::NOT_MODIFIED, [(ETAG, etag(tag))]).into_response(),
                last => {
                    live.push(last);
                    siblings::show(&parts.headers, &live, tag, context.as_ref())
                }
            }
        }
    };
    if let Some(context) = context {
        response.headers_mut().insert(CONTEXT, context);
        response.headers_mut().entry(NODE).or_insert_with(|| text(shared.app.info.id.as_str()));
    }
    Ok(response)
}

/// What a read found.
pub(super) struct Found {
    /// All live values; several only under policy `siblings`.
    pub live: Vec<Version>,
    /// The causality token, under policy `siblings`.
    pub context: Option<HeaderValue>,
}

impl Shared {
    /// The version that was written, and on how many nodes it is known to be.
    pub(super) async fn write(
        &self,
        request: Request,
        timeout: Duration,
    ) -> Result<(VersionId, u16), Problem> {
        match self.ask(request, timeout).await? {
            Reply::Written { id, acked } => Ok((id, acked)),
            other => Err(odd(&other)),
        }
    }

    pub(super) fn is_sibling(&self, key: &Key) -> bool {
        self.app.info.policies.of(key) == Policy::Siblings
    }

    /// The condition of a write, or the token that stands in its place.
    fn with_token(&self, headers: &HeaderMap, key: &Key, condition: Condition) -> Result<Condition, Problem> {
        match (self.seal.read(headers, key)?, condition) {
            (None, condition) => Ok(condition),
            (Some(token), Condition::None) => Ok(Condition::Saw(token)),
            (Some(_), _) => {
                let detail = "a write takes a causality token or a condition, not both";
                Err(Problem::new(Code::BadHeader, detail))
            }
        }
    }

    /// Tells the client what it knows after its write, so that its next one replaces this one. Nothing if the write
    /// has been replaced by now: what it replaced itself is no longer known, and half of it would not do.
    fn tell_context(&self, headers: &mut HeaderMap, key: Option<&Key>, id: VersionId) -> Result<(), Problem> {
        let Some(key) = key else { return Ok(()) };
        let record = self.app.reader.snapshot(|store| rows::record(store, key))?;
        let Some(version) = record.versions().iter().find(|version| version.dot == id.dot) else {
            return Ok(());
        };
        let mut context = policy::replaces(version);
        context.insert(id.dot);
        if let Some(header) = self.seal.header(key, &Token { context, stamp: id.stamp }) {
            headers.insert(CONTEXT, header);
        }
        Ok(())
    }

    /// The key's live version.
    pub(super) async fn version(&self, key: &Key) -> Result<Option<Version>, Problem> {
        let mut live = self.found(key, None).await?.live;
        if live.len() > 1 {
            let detail = format!("{} concurrent values lie under {key}", live.len());
            return Err(Problem::new(Code::Siblings, detail));
        }
        Ok(live.pop())
    }

    /// What a read of the key shows, from what is durable.
    pub(super) fn find(&self, key: &Key) -> Result<Found, Problem> {
        let wall = self.app.clock.now().wall;
        let policy = self.app.info.policies.of(key);
        let (record, millis, context) = self.app.reader.snapshot(|store| {
            let record = rows::record(store, key)?;
            // What a reader knows is read in the very state that it is shown.
            let context = match policy {
                Policy::Siblings => Some(reads::context(store, record.versions())?),
                Policy::Lww | Policy::History(_) => None,
            };
            let millis = reads::read_millis_for(store, wall, record.versions())?;
            Ok((record, millis, context))
        })?;
        let row = match record {
            Record::Absent => Row::default(),
            Record::Row(row) => row,
            Record::Rotten => {
                self.metrics.corrupt_record();
                let detail = format!("the record of {key} fails its checksum");
                return Err(Problem::new(Code::CorruptRecord, detail));
            }
        };
        if let Some(heads) = resolve::conflict(policy, &row.versions) {
            return Err(Refusal::Heads { heads }.into());
        }
        let live = match policy {
            Policy::Siblings => resolve::live(&row.versions, millis).collect(),
            Policy::Lww | Policy::History(_) => {
                resolve::shown(policy, &row.versions, millis).map(Cow::into_owned).into_iter().collect()
            }
        };
        let token = |context| Token { context, stamp: row.stamp() };
        let context = context.and_then(|context| self.seal.header(key, &token(context)));
        Ok(Found { live, context })
    }

    /// The value byte for byte, or only its name if the client has it already.
    pub(super) fn show(&self, version: Version, is_known: bool) -> Response {
        let uuid = version.uuid();
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, etag(uuid));
        headers.insert(TIMESTAMP, HeaderValue::from(version.stamp.millis));
        headers.insert(NODE, text(self.app.info.id.as_str()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Values are whatever clients wrote: a browser must neither guess what they are nor run them.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        if is_known {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        headers.insert(CONTENT_TYPE, text(&version.content_type));
        (headers, Body::from(version.value)).into_response()
    }
}

/// What a PUT asks for, besides its body.
struct Put {
    key: Key,
    content_type: String,
    ttl: Option<Duration>,
    /// Where the body goes, if it is a part of a value.
    offset: Option<u64>,
    write: Write,
}

impl Put {
    fn read(parts: &Parts) -> Result<Put, Problem> {
        let key = key(parts)?;
        let params = Params::parse(parts.uri.query(), &["ack", "timeout", "ttl", "offset"])?;
        let ttl = params.duration("ttl", TTL_MAX)?;
        let offset = history::offset(&params)?;
        if offset.is_some() && ttl.is_some() {
            return Err(params::bad("a part of a value takes no ttl".into()));
        }
        let content_type = media::of_request(&parts.headers)?;
        // What is stored is the bytes and their type alone, so neither of these would come back with them.
        let encoding = super::problem::single_header(&parts.headers, &CONTENT_ENCODING)?;
        if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            let detail = "send the bytes as they are, without Content-Encoding";
            return Err(Problem::new(Code::ContentEncoding, detail));
        }
        if parts.headers.contains_key(CONTENT_RANGE) {
            return Err(Problem::new(
                Code::BadHeader,
                "a part of a value is written with ?offset=, not with Content-Range",
            ));
        }
        Ok(Put { key, content_type, ttl, offset, write: Write::read(&params, &parts.headers)? })
    }
}

/// What every write can ask for.
struct Write {
    condition: Condition,
    ack: Ack,
    timeout: Duration,
}

impl Write {
    fn read(params: &Params, headers: &HeaderMap) -> Result<Write, Problem> {
        let ack = ack_of(params)?;
        let timeout = params.duration("timeout", ACK_TIMEOUT_MAX)?.unwrap_or(ACK_TIMEOUT);
        Ok(Write { condition: tags::condition(headers)?, ack, timeout })
    }
}

/// On how many nodes a write is to be durable: the parameter `ack`.
///
/// # Errors
/// It is none of its forms.
pub fn ack_of(params: &Params) -> Result<Ack, Problem> {
    Ok(match params.text("ack")? {
        None | Some("local") => Ack::Local,
        Some("majority") => Ack::Majority,
        Some(count) => {
            let nodes = count.parse().ok().filter(|nodes| *nodes > 0);
            Ack::Nodes(nodes.ok_or_else(|| {
                params::bad(format!("ack={count} is neither local nor majority nor a number of nodes from 1"))
            })?)
        }
    })
}

/// The key is the path as it came, which the router's own decoding would have changed.
fn key(parts: &Parts) -> Result<Key, Problem> {
    let path = parts.uri.path().strip_prefix("/kv/").unwrap_or_default();
    Ok(Key::from_path(path)?)
}

fn etag(uuid: Uuid) -> HeaderValue {
    text(&format!("\"{uuid}\""))
}

/// A header of our own, or one that was a header before.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"))
}

#[cfg(test)]
#[path = "kv_tests.rs"]
mod tests;

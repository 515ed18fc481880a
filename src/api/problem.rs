//! What went wrong, as `application/problem+json` (RFC 9457).
//!
//! One enum of codes and one table of what each means; programs match on `code`, which never changes. A handler
//! returns a [`Problem`]; the body is written by [`render`] once the request's id is known, so that errors of
//! the framework (an unknown method, say) come out in the same form.

use std::fmt;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::kv::Written;
use crate::driver::NoAnswer;
use crate::model::{KeyError, Mode, Refusal};
use crate::storage::StorageError;

/// Everything that can go wrong, by what a client can do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// No value under this key.
    NotFound,
    /// No such path.
    NoRoute,
    /// The path has no such method.
    MethodNotAllowed,
    /// Not a key.
    BadKey,
    /// Longer than a key may be.
    KeyTooLong,
    /// More bytes than a value may have.
    ValueTooLarge,
    /// Said to be JSON, and is not.
    InvalidJson,
    /// A query parameter is unknown, repeated or makes no sense.
    BadParameter,
    /// A header makes no sense.
    BadHeader,
    /// The body cannot be used.
    BadBody,
    /// The body came in an encoding that would not be kept.
    ContentEncoding,
    /// The body did not come in time.
    BodyTimeout,
    /// Not a cursor, or one of another listing.
    BadCursor,
    /// `If-Match` or `If-None-Match` did not hold.
    ConditionFailed,
    /// No token, or an unknown one.
    Unauthorized,
    /// Not from here, not with this token, or not without the secret.
    Forbidden,
    /// This node takes no writes.
    ReadOnly,
    /// The node's disk has no room.
    DiskFull,
    /// This node is on its way out.
    Draining,
    /// The node is new and still takes the data.
    Syncing,
    /// So many runs have written that no further one may begin to.
    TooManyOrigins,
    /// `ack` asks for more nodes than there are.
    AckAboveMembers,
    /// Stored here, but not confirmed in time.
    AckTimeout,
    /// Not enough nodes answered a read in time.
    ReadTimeout,
    /// Too many writes wait for confirmations.
    TooManyPending,
    /// Too many requests wait for the node.
    Busy,
    /// The node stopped before it answered.
    Stopped,
    /// The node did not answer in time.
    NoAnswer,
    /// The stored bytes fail their checksum.
    CorruptRecord,
    /// The disk failed.
    StorageFailed,
    /// Another request came under this idempotency key.
    IdempotencyKeyReused,
    /// The operator's wish about a member cannot be granted.
    MemberRefused,
    /// The framework refused the request.
    BadRequest,
    /// A history forks, and under `fail` somebody has to choose.
    HistoryHeads,
    /// A history is as long as it may be.
    HistoryFull,
    /// The key's policy knows no such thing.
    PolicyRefused,
    /// Several concurrent values lie under the key.
    Siblings,
    /// The write would add one concurrent value too many.
    TooManySiblings,
    /// A causality token that is none of this key's.
    BadContext,
    /// A bug.
    Internal,
}

impl Code {
    /// The table: name, status, whether the same request may succeed later, title.
    fn row(self) -> (&'static str, StatusCode, bool, &'static str) {
        use StatusCode as S;
        match self {
            Code::NotFound => ("not-found", S::NOT_FOUND, false, "No value under this key"),
            Code::NoRoute => ("no-route", S::NOT_FOUND, false, "No such path"),
            Code::MethodNotAllowed => {
                ("method-not-allowed", S::METHOD_NOT_ALLOWED, false, "The path has no such method")
            }
            Code::BadKey => ("bad-key", S::BAD_REQUEST, false, "Not a key"),
            Code::KeyTooLong => ("key-too-long", S::URI_TOO_LONG, false, "The key is too long"),
            Code::ValueTooLarge => ("value-too-large", S::PAYLOAD_TOO_LARGE, false, "The body is too large"),
            Code::InvalidJson => ("invalid-json", S::BAD_REQUEST, false, "The body is not valid JSON"),
            Code::BadParameter => {
                ("bad-parameter", S::BAD_REQUEST, false, "A query parameter makes no sense")
            }
            Code::BadHeader => ("bad-header", S::BAD_REQUEST, false, "A header makes no sense"),
            Code::BadBody => ("bad-body", S::BAD_REQUEST, false, "The body cannot be used"),
            Code::ContentEncoding => {
                ("content-encoding", S::UNSUPPORTED_MEDIA_TYPE, false, "Encoded bodies are not kept as such")
            }
            Code::BodyTimeout => ("body-timeout", S::REQUEST_TIMEOUT, true, "The body did not come in time"),
            Code::BadCursor => ("bad-cursor", S::BAD_REQUEST, false, "Not a cursor of this listing"),
            Code::ConditionFailed => (
                "condition-failed",
                S::PRECONDITION_FAILED,
                false,
                "The condition does not hold on this node",
            ),
            Code::Unauthorized => ("unauthorized", S::UNAUTHORIZED, false, "A token is needed"),
            Code::Forbidden => ("forbidden", S::FORBIDDEN, false, "Not allowed"),
            Code::ReadOnly => ("read-only", S::SERVICE_UNAVAILABLE, true, "This node takes no writes"),
            Code::Syncing => ("syncing", S::SERVICE_UNAVAILABLE, true, "This node is still taking the data"),
            Code::DiskFull => ("disk-full", S::SERVICE_UNAVAILABLE, true, "The node's disk is full"),
            Code::Draining => ("draining", S::SERVICE_UNAVAILABLE, true, "This node is on its way out"),
            Code::TooManyOrigins => {
                ("too-many-origins", S::SERVICE_UNAVAILABLE, false, "Too many runs of nodes have written")
            }
            Code::AckAboveMembers => {
                ("ack-above-members", S::BAD_REQUEST, false, "More nodes asked for than there are")
            }
            Code::AckTimeout => {
                ("ack-timeout", S::GATEWAY_TIMEOUT, true, "Stored here, not confirmed in time")
            }
            Code::ReadTimeout => {
                ("read-timeout", S::GATEWAY_TIMEOUT, true, "Not enough nodes answered in time")
            }
            Code::TooManyPending => {
                ("too-many-pending", S::SERVICE_UNAVAILABLE, true, "Too many writes wait for confirmations")
            }
            Code::Busy => ("busy", S::SERVICE_UNAVAILABLE, true, "Too many requests wait for the node"),
            Code::Stopped => (
                "stopped",
                S::SERVICE_UNAVAILABLE,
                true,
                "The node stopped before it answered; outcome unknown",
            ),
            Code::NoAnswer => {
                ("no-answer", S::GATEWAY_TIMEOUT, true, "The node did not answer in time; outcome unknown")
            }
            Code::CorruptRecord => {
                ("corrupt-record", S::INTERNAL_SERVER_ERROR, false, "The stored record fails its checksum")
            }
            Code::StorageFailed => ("storage-failed", S::INTERNAL_SERVER_ERROR, true, "The disk failed"),
            Code::IdempotencyKeyReused => (
                "idempotency-key-reused",
                S::UNPROCESSABLE_ENTITY,
                false,
                "Another request came under this idempotency key",
            ),
            Code::MemberRefused => ("member-refused", S::CONFLICT, false, "The member table says no"),
            Code::BadRequest => ("bad-request", S::BAD_REQUEST, false, "The request makes no sense"),
            Code::HistoryHeads => ("history-heads", S::CONFLICT, false, "The history has several heads"),
            Code::HistoryFull => ("history-full", S::CONFLICT, false, "The history is as long as it may be"),
            Code::PolicyRefused => {
                ("policy-refused", S::BAD_REQUEST, false, "The key's policy knows no such thing")
            }
            Code::Siblings => ("siblings", S::CONFLICT, false, "Several concurrent values"),
            Code::TooManySiblings => {
                ("too-many-siblings", S::CONFLICT, false, "The key has as many concurrent values as it may")
            }
            Code::BadContext => ("bad-context", S::BAD_REQUEST, false, "Not a causality token of this key"),
            Code::Internal => ("internal", S::INTERNAL_SERVER_ERROR, false, "A bug"),
        }
    }

    /// The code's stable name.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The status it comes with.
    pub fn status(self) -> StatusCode {
        self.row().1
    }

    /// What it means, for people.
    pub fn title(self) -> &'static str {
        self.row().3
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        self.row().2
    }

    /// Seconds after which another attempt makes sense, for those that say so.
    pub fn retry_after(self) -> Option<u32> {
        match self {
            Code::Busy | Code::TooManyPending | Code::Stopped | Code::Syncing => Some(1),
            Code::ReadOnly | Code::Draining | Code::DiskFull => Some(5),
            _ => None,
        }
    }

    /// For an answer of the framework, which knows a status only.
    fn of_status(status: StatusCode) -> Code {
        match status {
            StatusCode::NOT_FOUND => Code::NoRoute,
            StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Code::ValueTooLarge,
            status if status.is_client_error() => Code::BadRequest,
            _ => Code::Internal,
        }
    }
}

/// One thing that went wrong with one request.
#[derive(Clone, Debug)]
pub struct Problem {
    code: Code,
    detail: String,
    limit: Option<u64>,
    written: Option<Box<Written>>,
    heads: Vec<Written>,
    foreign: Option<Box<Foreign>>,
}

/// Another layer's own status and code, with the headers that belong to them.
#[derive(Clone, Debug)]
struct Foreign {
    status: StatusCode,
    code: &'static str,
    headers: HeaderMap,
}

impl Problem {
    /// A problem and its facts, in words.
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into(), limit: None, written: None, heads: Vec::new(), foreign: None }
    }

    /// Names the limit that was passed.
    pub fn with_limit(mut self, limit: u64) -> Problem {
        self.limit = Some(limit);
        self
    }

    /// Another layer's refusal, which has a code of its own.
    pub fn foreign(status: StatusCode, code: &'static str, detail: String, headers: HeaderMap) -> Problem {
        let foreign = Some(Box::new(Foreign { status, code, headers }));
        Problem { foreign, ..Problem::new(Code::of_status(status), detail) }
    }

    /// What is wrong in this case.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What was stored all the same.
    pub fn written(&self) -> Option<&Written> {
        self.written.as_deref()
    }

    /// What it is.
    pub fn code(&self) -> Code {
        self.code
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            self.foreign.as_ref().map_or_else(|| self.code.status(), |foreign| foreign.status);
        if let Some(seconds) = self.code.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if self.code == Code::Unauthorized {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(foreign) = &self.foreign {
            response.headers_mut().extend(foreign.headers.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Problem")]
pub struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    retryable: bool,
    request_id: &'a str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    written: Option<&'a Written>,
    /// What an `If-Match` that resolves the fork has to list.
    #[serde(skip_serializing_if = "<[Written]>::is_empty")]
    heads: &'a [Written],
}

/// Marks an answer with an error's status whose body is what it shall be already.
#[derive(Clone, Copy, Debug)]
pub struct Complete;

/// Writes the body of an error response, whoever made the response. Other responses pass unchanged.
pub fn render(mut response: Response, request_id: &str, is_head: bool) -> Response {
    let status = response.status();
    let is_complete = response.extensions().get::<Complete>().is_some();
    if is_complete || !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let problem = response
        .extensions_mut()
        .remove::<Problem>()
        .unwrap_or_else(|| Problem::new(Code::of_status(status), status.to_string()));
    let bytes = text(&problem, status, request_id);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CONTENT_LENGTH, bytes.len().into());
    *response.body_mut() = if is_head { Body::empty() } else { Body::from(bytes) };
    response
}

/// The body of a problem that an own handler found.
pub fn document(problem: &Problem, request_id: &str) -> Vec<u8> {
    text(problem, problem.code.row().1, request_id)
}

fn text(problem: &Problem, status: StatusCode, request_id: &str) -> Vec<u8> {
    let (name, _, retryable, title) = problem.code.row();
    let code = problem.foreign.as_ref().map_or(name, |foreign| foreign.code);
    let document = Document {
        r#type: format!("urn:reknit:problem:{code}"),
        title,
        status: status.as_u16(),
        code,
        detail: &problem.detail,
        limit: problem.limit,
        retryable: retryable || status == StatusCode::SERVICE_UNAVAILABLE,
        request_id,
        written: problem.written.as_deref(),
        heads: &problem.heads,
    };
    serde_json::to_vec(&document).expect("a flat struct of text and numbers is JSON")
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Problem {
        match error {
            KeyError::TooLong { .. } => Problem::new(Code::KeyTooLong, error.to_string())
                .with_limit(crate::model::Key::BYTES_MAX as u64),
            KeyError::Empty
            | KeyError::Nul
            | KeyError::EmptySegment
            | KeyError::DotSegment(_)
            | KeyError::BadEscape => Problem::new(Code::BadKey, error.to_string()),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let detail = refusal.to_string();
        match refusal {
            Refusal::DiskFull => {
                Problem::new(Code::DiskFull, "there is no room on this node's disk; write at another one")
            }
            Refusal::Mode(Mode::ReadOnly) => {
                Problem::new(Code::ReadOnly, "this node serves reads only; write at another one")
            }
            Refusal::Mode(Mode::Draining) => {
                Problem::new(Code::Draining, "this node is on its way out; write at another one")
            }
            Refusal::Mode(Mode::Syncing) => Problem::new(
                Code::Syncing,
                "this node is new and still taking what the others have; try again soon",
            ),
            Refusal::Mode(Mode::Normal) => Problem::new(Code::Internal, detail),
            Refusal::TooManyOrigins { limit } => {
                Problem::new(Code::TooManyOrigins, detail).with_limit(limit as u64)
            }
            Refusal::Condition { found: None } => {
                Problem::new(Code::ConditionFailed, "this node has no live value under the key")
            }
            Refusal::Condition { found: Some(id) } => {
                let detail = format!("this node has version \"{}\" under the key", id.uuid);
                Problem::new(Code::ConditionFailed, detail)
            }
            Refusal::AckAboveMembers { members, .. } => {
                Problem::new(Code::AckAboveMembers, detail).with_limit(u64::from(members))
            }
            Refusal::AckTimeout { id, acked, asked } => {
                let detail = format!("stored here, {acked} of {asked} nodes confirmed it in time");
                let written = Written::of(id).confirmed(acked, asked);
                Problem { written: Some(Box::new(written)), ..Problem::new(Code::AckTimeout, detail) }
            }
            Refusal::ReadTimeout { .. } => Problem::new(Code::ReadTimeout, detail),
            Refusal::Corrupt => Problem::new(Code::CorruptRecord, detail),
            Refusal::TooManyPending { limit } => {
                Problem::new(Code::TooManyPending, detail).with_limit(limit as u64)
            }
            Refusal::Heads { heads } => {
                let heads = heads.into_iter().map(Written::of).collect();
                Problem { heads, ..Problem::new(Code::HistoryHeads, detail) }
            }
            Refusal::HistoryFull { limit, .. } => {
                Problem::new(Code::HistoryFull, detail).with_limit(limit as u64)
            }
            Refusal::TooManySiblings { limit } => {
                Problem::new(Code::TooManySiblings, detail).with_limit(limit as u64)
            }
            Refusal::Policy(what) => Problem::new(Code::PolicyRefused, what),
            Refusal::Member(reason) => Problem::new(Code::MemberRefused, reason),
        }
    }
}

impl From<NoAnswer> for Problem {
    fn from(error: NoAnswer) -> Problem {
        match error {
            NoAnswer::Busy => {
                let limit = crate::driver::MAILBOX_MAX as u64;
                let detail = format!("{limit} requests wait already; nothing was done");
                Problem::new(Code::Busy, detail).with_limit(limit)
            }
            NoAnswer::Stopped => Problem::new(Code::Stopped, error.to_string()),
        }
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Problem {
        Problem::new(Code::StorageFailed, error.to_string())
    }
}

/// A header's value as text.
///
/// # Errors
/// It comes twice, or is not plain text.
pub fn single_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let bad = |what: &str| Problem::new(Code::BadHeader, format!("the header {name} {what}"));
    if values.next().is_some() {
        return Err(bad("comes more than once"));
    }
    value.to_str().map(Some).map_err(|_| bad("holds other than visible ASCII"))
}

//! A key of policy `siblings` as clients see it: one value as it is, or 409 with all of them.

use axum::body::Body;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::media;
use super::problem::{Code, Complete};
use crate::model::Version;

/// How many values a 409 shows.
pub const SIBLINGS: HeaderName = HeaderName::from_static("x-reknit-siblings");
/// When a value was written, in a part as on an answer of one value.
const TIMESTAMP: &str = "X-Reknit-Timestamp";

/// Several concurrent values, `tag` over the set: `multipart/mixed`, or JSON where the client asks for it.
pub fn show(headers: &HeaderMap, live: &[Version], tag: Uuid, context: Option<&HeaderValue>) -> Response {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let (content_type, body) = if prefers_json(accepts) {
        let context = context.and_then(|context| context.to_str().ok());
        (media::JSON.to_owned(), Body::from(json(live, tag, context)))
    } else {
        let boundary = boundary(live, tag);
        (format!("multipart/mixed; boundary={boundary}"), Body::from(multipart(live, &boundary).freeze()))
    };
    let mut response = (StatusCode::CONFLICT, body).into_response();
    let own = |text: &str| HeaderValue::from_str(text).expect("made of plain text");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, own(&content_type));
    headers.insert(ETAG, own(&format!("\"{tag}\"")));
    headers.insert(SIBLINGS, HeaderValue::from(live.len()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.extensions_mut().insert(Complete);
    response
}

/// Whether JSON is named in an `Accept` header, and `multipart/mixed` is not.
fn prefers_json<'a>(accepts: impl Iterator<Item = &'a str>) -> bool {
    let types: Vec<&str> = accepts
        .flat_map(|accept| accept.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .collect();
    let names = |what: &str| types.iter().any(|range| range.eq_ignore_ascii_case(what));
    (names(media::JSON) || names("application/problem+json")) && !names("multipart/mixed")
}

/// A line that none of the values holds.
fn boundary(live: &[Version], tag: Uuid) -> String {
    let is_in = |boundary: &str| {
        let holds = |value: &[u8]| value.windows(boundary.len()).any(|part| part == boundary.as_bytes());
        live.iter().any(|version| holds(&version.value))
    };
    let mut names = (0_u32..).map(|attempt| format!("reknit-{}-{attempt}", tag.simple()));
    names.find(|boundary| !is_in(boundary)).expect("values are finite")
}

fn multipart(live: &[Version], boundary: &str) -> BytesMut {
    let mut out = BytesMut::new();
    for version in live {
        let head = format!(
            "--{boundary}\r\nContent-Type: {}\r\nContent-Length: {}\r\nETag: \"{}\"\r\n{TIMESTAMP}: {}\r\n\r\n",
            media::header(version),
            version.value.len(),
            version.uuid(),
            version.stamp.millis
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&version.value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    out
}

/// All concurrent values of a key.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Siblings")]
pub struct Conflict<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: String,
    retryable: bool,
    etag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a str>,
    siblings: Vec<Sibling<'a>>,
}

/// One value, as listings show theirs.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Sibling")]
pub struct Sibling<'a> {
    uuid: Uuid,
    timestamp: u64,
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl Sibling<'_> {
    fn of(version: &Version) -> Sibling<'_> {
        let value = media::raw_json(version);
        Sibling {
            uuid: version.uuid(),
            timestamp: version.stamp.millis,
            content_type: &version.content_type,
            value_base64: value.is_none().then(|| STANDARD.encode(&version.value)),
            value,
        }
    }
}

fn json(live: &[Version], tag: Uuid, context: Option<&str>) -> Vec<u8> {
    let code = Code::Siblings;
    let document = Conflict {
        r#type: format!("urn:reknit:problem:{}", code.name()),
        title: code.title(),
        status: code.status().as_u16(),
        code: code.name(),
        detail: format!("{} concurrent values; write one with this context to replace them", live.len()),
        retryable: false,
        etag: format!("\"{tag}\""),
        context,
        siblings: live.iter().map(Sibling::of).collect(),
    };
    serde_json::to_vec(&document).expect("our own structs are JSON")
}

#[cfg(test)]
#[path = "siblings_tests.rs"]
mod tests;

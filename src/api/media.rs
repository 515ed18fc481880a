//! Media types: what a value's bytes are said to be.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::problem::{Code, Problem, single_header};
use crate::model::Version;

/// What a value without a media type is.
pub const JSON: &str = "application/json";
/// What `curl -d` sends unless told otherwise. Nobody stores forms, so it counts as no media type.
const FORM: &str = "application/x-www-form-urlencoded";

/// The media type that a request's body is stored under.
///
/// # Errors
/// The header is no media type, or longer than can be stored.
pub fn of_request(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(given) = single_header(headers, &CONTENT_TYPE)? else { return Ok(JSON.to_owned()) };
    check_type(given)?;
    Ok(if essence(given).eq_ignore_ascii_case(FORM) { JSON.to_owned() } else { given.to_owned() })
}

/// Checks that a text is a media type that can be stored.
///
/// # Errors
/// It is none, or too long.
pub fn check_type(given: &str) -> Result<(), Problem> {
    if given.len() > Version::CONTENT_TYPE_BYTES_MAX {
        let limit = Version::CONTENT_TYPE_BYTES_MAX;
        let detail = format!("the media type has {} bytes; the limit is {limit}", given.len());
        return Err(Problem::new(Code::BadHeader, detail).with_limit(limit as u64));
    }
    let is_token = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic());
    // It is sent as a header again, and must not become two.
    let is_header = HeaderValue::from_str(given).is_ok();
    let is_type = is_header
        && essence(given).split_once('/').is_some_and(|(kind, sub)| is_token(kind) && is_token(sub));
    if !is_type {
        return Err(Problem::new(Code::BadHeader, format!("{given:?} is no media type such as {JSON}")));
    }
    Ok(())
}

/// Whether a media type promises JSON: `application/json` or `…+json`, with any parameters.
pub fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    let ends_with = |suffix: &str| {
        let start = essence.len().checked_sub(suffix.len());
        start.and_then(|start| essence.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    };
    essence.eq_ignore_ascii_case(JSON) || ends_with("+json")
}

/// Checks that the bytes are one JSON text.
///
/// # Errors
/// They are not, and where.
pub fn check_json(value: &[u8]) -> Result<(), Problem> {
    let bad = |detail: String| Problem::new(Code::InvalidJson, detail);
    let text = std::str::from_utf8(value).map_err(|error| bad(format!("not UTF-8: {error}")))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| bad(error.to_string()))?;
    Ok(())
}

/// A JSON value as it stands; the door checked it, but a peer's door may be another one.
pub fn raw_json(version: &Version) -> Option<Box<RawValue>> {
    if !is_json(&version.content_type) {
        return None;
    }
    let text = std::str::from_utf8(&version.value).ok()?;
    serde_json::from_str::<Box<RawValue>>(text).ok()
}

/// Whether a text can be sent as a header, and does not become two.
pub fn is_header(text: &str) -> bool {
    HeaderValue::from_str(text).is_ok()
}

/// The media type as a header. The door checked it, but a peer's door may be another one.
pub fn header(version: &Version) -> &str {
    if is_header(&version.content_type) && !version.content_type.is_empty() {
        &version.content_type
    } else {
        "application/octet-stream"
    }
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

//! Versions as lines of JSON: how `/changes`, `/export` and listings in NDJSON show them.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::media;
use crate::model::Version;

/// One JSON text a line.
pub const NDJSON: &str = "application/x-ndjson";
/// Server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Whether the client names this media type among those it takes.
pub fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let given = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    given.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(media_type));
        // A weight of zero says that it is not taken.
        let is_refused =
            |part: &str| part.strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0_f32));
        is_named && !parts.any(is_refused)
    })
}

/// A version as a reader sees it.
#[derive(JsonSchema, Debug, Serialize)]
#[schemars(rename = "VersionShown")]
pub struct Shown {
    /// Its name.
    pub uuid: Uuid,
    /// When, in milliseconds.
    pub timestamp: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl Shown {
    /// Shows a version, its value as JSON on one line where it is JSON.
    pub fn of(version: &Version) -> Shown {
        let value = if version.tombstone { None } else { one_line(version) };
        let is_other = !version.tombstone && value.is_none();
        Shown {
            uuid: version.uuid(),
            timestamp: version.stamp.millis,
            deleted: version.tombstone,
            content_type: (!version.tombstone).then(|| version.content_type.clone()),
            expires_at: version.expires_at.map(|at| at.0),
            value_base64: is_other.then(|| STANDARD.encode(&version.value)),
            value,
        }
    }
}

/// A JSON value without its blanks between tokens; the numbers and texts stay as they were written.
pub fn one_line(version: &Version) -> Option<Box<RawValue>> {
    if !media::is_json(&version.content_type) {
        return None;
    }
    let text = std::str::from_utf8(&version.value).ok()?;
    serde_json::from_str::<&RawValue>(text).ok()?;
    let mut line = String::with_capacity(text.len());
    let (mut is_text, mut is_escaped) = (false, false);
    for c in text.chars() {
        if is_text {
            is_text = c != '"' || is_escaped;
            is_escaped = c == '\\' && !is_escaped;
        } else if c == '"' {
            is_text = true;
        } else if matches!(c, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        line.push(c);
    }
    RawValue::from_string(line).ok()
}

/// Bytes that are text stand as text, which JSON can hold exactly; others in base64.
#[derive(JsonSchema, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exact {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl Exact {
    /// Shows bytes so that they come back exactly.
    pub fn of(bytes: &[u8]) -> Exact {
        match std::str::from_utf8(bytes) {
            Ok("") => Exact::default(),
            Ok(text) => Exact { text: Some(text.to_owned()), base64: None },
            Err(_) => Exact { text: None, base64: Some(STANDARD.encode(bytes)) },
        }
    }

    /// Bytes that stand in base64.
    pub fn of_base64(base64: String) -> Exact {
        Exact { text: None, base64: Some(base64) }
    }

    /// The bytes; `None` if both forms are given, or what is given is no base64.
    pub fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Exact { text: None, base64: None } => Some(Vec::new()),
            Exact { text: Some(text), base64: None } => Some(text.into_bytes()),
            Exact { text: None, base64: Some(base64) } => STANDARD.decode(base64).ok(),
            Exact { text: Some(_), base64: Some(_) } => None,
        }
    }
}

#[cfg(test)]
#[path = "shown_tests.rs"]
mod tests;

//! `kv get`: a value byte for byte, or with what the node says about it.

use reknit::client::{Client, ClientError, Value};
use reknit::model::Key;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::show::{print, print_json};
use crate::{Failure, Output, not_understood};

/// Prints what lies under a key. Concurrent values are a failure, which `-o json` shows all of.
pub fn get(client: &Client, output: Output, key: &Key) -> Result<(), Failure> {
    let found = client.get(key);
    if let (Output::Json, Err(ClientError::Siblings { document, .. })) = (output, &found) {
        print_json(&serde_json::from_slice::<Siblings>(document).map_err(not_understood)?)?;
    }
    let value = found?.ok_or_else(|| Failure::NoSuchKey(key.clone()))?;
    match output {
        Output::Json => print_json(&Shown::of(key, &value)?),
        Output::Table | Output::Raw => print(&value.bytes),
    }
}

/// A value with what the node says about it.
#[derive(Serialize)]
struct Shown<'a> {
    content_type: &'a str,
    key: String,
    timestamp: u64,
    uuid: &'a str,
    value: Box<RawValue>,
}

impl Shown<'_> {
    /// JSON stands as it was written: what is read as a number and written again may be another one.
    fn of<'a>(key: &Key, value: &'a Value) -> Result<Shown<'a>, Failure> {
        let is_json = value.content_type.starts_with("application/json");
        let exact = serde_json::from_slice::<&RawValue>(&value.bytes).ok().filter(|_| is_json);
        let shown = match (exact, std::str::from_utf8(&value.bytes)) {
            (Some(json), _) => json.to_owned(),
            (None, Ok(text)) => to_raw_value(text).expect("a text is JSON"),
            (None, Err(_)) => return Err(Failure::Output("the value is no text; -o raw writes its bytes")),
        };
        Ok(Shown {
            content_type: &value.content_type,
            key: key.to_string(),
            timestamp: value.timestamp,
            uuid: &value.uuid,
            value: shown,
        })
    }
}

/// A node's list of concurrent values; they stand as they were written.
#[derive(Serialize, Deserialize)]
struct Siblings {
    etag: String,
    siblings: Vec<Sibling>,
}

#[derive(Serialize, Deserialize)]
struct Sibling {
    uuid: String,
    timestamp: u64,
    content_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

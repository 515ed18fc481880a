//! `GET /export` and `POST /import`: versions as they were written, tombstones too, one key a line.
//!
//! With `?aside=true` an export holds what was set aside instead: what came back too old to be told from deleted data.
//! Nothing offers that again by itself; an import of such lines is how an operator says that it was no deleted data.
//!
//! An import takes what this node has not covered yet and leaves the rest, so repeating one changes nothing and an
//! old one undoes nothing. Who wants old values back writes them anew. What was set aside, because it came back too
//! old to be told from deleted data, is exported apart, with `?aside`.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::params::Params;
use super::problem::{Code, Problem};
use super::shown::{Exact, NDJSON};
use super::{Shared, body, json, list, media, odd};
use crate::model::{Dot, Entry, Imported, Key, Origin, Reply, Request, Stamp, Version, WallTime};
use crate::storage::rows::{self, Record};

/// Most rows read from one snapshot.
const ROWS_MAX: usize = 256;
/// Rows read at a time: each holds up to 1 MiB a version.
const BATCH: usize = 4;
/// A snapshot is read on until it gave this many bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// Longest line of an import: a value of the greatest size, every byte of it escaped.
const LINE_BYTES_MAX: usize = 8 << 20;
/// An import is handed to the node in parts of at most this many versions.
const PART_MAX: usize = 256;
/// A part takes no further version once it has this many bytes.
const PART_BYTES_MAX: usize = 2 << 20;
/// How long an import may send nothing.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A key's versions, as a line of an export.
#[derive(JsonSchema, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ExportedKey")]
pub struct Line {
    key: String,
    versions: Vec<Exported>,
}

/// A version with all that it is.
#[derive(JsonSchema, Debug, Serialize, Deserialize)]
#[schemars(rename = "ExportedVersion")]
pub struct Exported {
    millis: u64,
    counter: u16,
    origin: String,
    seq: u64,
    author_joined: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    ruling: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirms: Option<(String, u64)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    content_type: String,
    #[serde(flatten)]
    value: Exact,
}

fn is_zero(number: &u16) -> bool {
    *number == 0
}

impl Exported {
    fn of(version: &Version) -> Exported {
        Exported {
            millis: version.stamp.millis,
            counter: version.stamp.counter,
            origin: version.dot.origin.to_string(),
            seq: version.dot.seq,
            author_joined: version.author_joined.0,
            ruling: version.ruling,
            confirms: version.confirms.map(|dot| (dot.origin.to_string(), dot.seq)),
            deleted: version.tombstone,
            expires_at: version.expires_at.map(|at| at.0),
            content_type: version.content_type.clone(),
            value: Exact::of(&version.value),
        }
    }

    fn version(self) -> Result<Version, String> {
        let confirms = self.confirms.map(|(origin, seq)| dot(&origin, seq)).transpose()?;
        if !media::is_header(&self.content_type) {
            return Err(format!("{:?} is no media type", self.content_type));
        }
        Ok(Version {
            stamp: Stamp { millis: self.millis, counter: self.counter },
            dot: dot(&self.origin, self.seq)?,
            author_joined: WallTime(self.author_joined),
            ruling: self.ruling,
            confirms,
            tombstone: self.deleted,
            expires_at: self.expires_at.map(WallTime),
            content_type: self.content_type,
            value: self.value.bytes().ok_or("a value is text or base64, one of them")?.into(),
        })
    }
}

fn dot(origin: &str, seq: u64) -> Result<Dot, String> {
    let origin = u64::from_str_radix(origin, 16).map_err(|_| format!("{origin:?} is no origin"))?;
    Ok(Dot { origin: Origin(origin), seq })
}

/// `GET /export?prefix=&aside`: each line is a durable state; all of them together are not one.
pub async fn export(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let params = Params::parse(request.uri().query(), &["prefix", "aside"])?;
    let prefix = list::part_of_key(&params, "prefix")?.unwrap_or_default();
    let after = match params.switch("aside")? {
        true => Place::Aside(None),
        false => Place::Records(None),
    };
    let place = shared.transfer()?;
    let exporting = Exporting { shared, after, prefix };
    let lines = futures_util::stream::unfold(Some(exporting), |exporting| async {
        let mut exporting = exporting?;
        let chunk = exporting.chunk().await;
        match chunk {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(exporting))),
            Ok(None) => None,
            // The answer has begun; all that is left is to break it off, which the client notices.
            Err(problem) => Some((Err(std::io::Error::other(problem.to_string())), None)),
        }
    });
    Ok(([(CONTENT_TYPE, NDJSON)], body::Held::body(Body::from_stream(lines), place)).into_response())
}

struct Exporting {
    shared: Arc<Shared>,
    after: Place,
    prefix: Vec<u8>,
}

/// What is exported, and behind which of it to go on.
#[derive(Clone)]
enum Place {
    Records(Option<Key>),
    Aside(Option<Dot>),
}

impl Exporting {
    /// The next lines, from one durable state; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        match self.after.clone() {
            Place::Records(after) => self.records(after).await,
            Place::Aside(after) => self.aside(after).await,
        }
    }

    /// What was set aside behind `after`. What fails its checksum is no more than a row less: nothing repairs it.
    async fn aside(&mut self, mut after: Option<Dot>) -> Result<Option<Bytes>, Problem> {
        loop {
            let prefix = self.prefix.clone();
            let read = self.shared.scan(move |shared| {
                let (mut lines, mut rows, mut after) = (Vec::new(), 0, after);
                shared.app.reader.snapshot(|store| {
                    while lines.len() < CHUNK_BYTES && rows < ROWS_MAX {
                        let batch = rows::aside(store, after, BATCH)?;
                        let Some((last, _)) = batch.last() else { break };
                        after = Some(*last);
                        rows += batch.len();
                        let entries = batch.into_iter().filter_map(|(_, entry)| entry);
                        for Entry { key, version } in
                            entries.filter(|entry| entry.key.as_bytes().starts_with(&prefix))
                        {
                            write_line(&mut lines, &key, &[version]);
                        }
                    }
                    Ok(())
                })?;
                Ok((lines, after, rows == 0))
            });
            let (lines, last, is_end) = read.await?;
            after = last;
            self.after = Place::Aside(last);
            // A chunk without a line would be taken for the end, so rows of other prefixes are passed over here.
            if !lines.is_empty() || is_end {
                return Ok((!lines.is_empty()).then(|| lines.into()));
            }
        }
    }

    /// The records of the keys behind `after`.
    async fn records(&mut self, after: Option<Key>) -> Result<Option<Bytes>, Problem> {
        let prefix = self.prefix.clone();
        let read = self.shared.scan(move |shared| {
            let (mut lines, mut rows, mut after) = (Vec::new(), 0, after);
            let rotten = shared.app.reader.snapshot(|store| {
                while lines.len() < CHUNK_BYTES && rows < ROWS_MAX {
                    let from = match &after {
                        Some(key) => Bound::Excluded(key.as_bytes()),
                        None => Bound::Included(prefix.as_slice()),
                    };
                    let mut batch = rows::records(store, (from, Bound::Unbounded), BATCH, false)?;
                    batch.retain(|(key, _)| key.as_bytes().starts_with(&prefix));
                    if batch.is_empty() {
                        break;
                    }
                    for (key, record) in batch {
                        if record == Record::Rotten {
                            return Ok(Some(key));
                        }
                        write_line(&mut lines, &key, record.versions());
                        rows += 1;
                        after = Some(key);
                    }
                }
                Ok(None)
            })?;
            Ok((lines, after, rotten))
        });
        let (lines, after, rotten) = read.await?;
        if let Some(key) = rotten {
            self.shared.metrics.corrupt_record();
            return Err(Problem::new(Code::CorruptRecord, format!("{key} fails its checksum")));
        }
        self.after = Place::Records(after);
        Ok((!lines.is_empty()).then(|| lines.into()))
    }
}

fn write_line(lines: &mut Vec<u8>, key: &Key, versions: &[Version]) {
    let versions = versions.iter().map(Exported::of).collect();
    let line = Line { key: key.to_string(), versions };
    serde_json::to_writer(&mut *lines, &line).expect("our own structs are JSON");
    lines.push(b'\n');
}

/// What became of an import.
#[derive(JsonSchema, Debug, Default, Serialize)]
#[schemars(rename = "Imported")]
pub struct Summary {
    lines: u64,
    taken: u64,
    beaten: u64,
    known: u64,
    malformed: u64,
}

/// `POST /import`: lines of an export, taken part by part as they come. An error names the line; what stood before
/// it may be taken, and sending all of it again is safe.
pub async fn import(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    Params::parse(parts.uri.query(), &[])?;
    let _place = shared.transfer()?;
    let mut lines = Lines { body, bytes: BytesMut::new(), whole: VecDeque::new(), is_over: false };
    let mut summary = Summary::default();
    let mut part = Part::default();
    while let Some(line) = lines.next().await? {
        summary.lines += 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let bad = |what: String| Problem::new(Code::BadBody, format!("line {}: {what}", summary.lines));
        let line: Line = serde_json::from_slice(&line).map_err(|error| bad(error.to_string()))?;
        let key = Key::from_path(&line.key).map_err(|error| bad(error.to_string()))?;
        for exported in line.versions {
            let version = exported.version().map_err(bad)?;
            if version.value.len() > shared.app.limits.value_bytes_max {
                let limit = shared.app.limits.value_bytes_max;
                return Err(bad(format!("the value has more than {limit} bytes")).with_limit(limit as u64));
            }
            part.bytes += version.value.len();
            part.entries.push(Entry { key: key.clone(), version });
        }
        if part.entries.len() >= PART_MAX || part.bytes >= PART_BYTES_MAX {
            shared.take(&mut part, &mut summary).await?;
        }
    }
    shared.take(&mut part, &mut summary).await?;
    Ok(json(&summary))
}

#[derive(Default)]
struct Part {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Shared {
    async fn take(&self, part: &mut Part, summary: &mut Summary) -> Result<(), Problem> {
        let entries = std::mem::take(part).entries;
        if entries.is_empty() {
            return Ok(());
        }
        match self.ask(Request::Import { entries }, Duration::ZERO).await? {
            Reply::Imported(Imported { taken, beaten, known, malformed }) => {
                summary.taken += taken;
                summary.beaten += beaten;
                summary.known += known;
                summary.malformed += malformed;
                Ok(())
            }
            other => Err(odd(&other)),
        }
    }
}

/// The lines of a body, as they come.
struct Lines {
    body: Body,
    bytes: BytesMut,
    whole: VecDeque<Bytes>,
    is_over: bool,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        while self.whole.is_empty() && !self.is_over {
            let frame = tokio::time::timeout(SILENCE_MAX, self.body.frame()).await;
            let frame = frame.map_err(|_| {
                let detail = format!("nothing came for {} s", SILENCE_MAX.as_secs());
                Problem::new(Code::BodyTimeout, detail)
            })?;
            match frame {
                None => {
                    self.is_over = true;
                    if !self.bytes.is_empty() {
                        self.whole.push_back(self.bytes.split().freeze());
                    }
                }
                Some(Ok(frame)) => self.take(&frame.into_data().unwrap_or_default())?,
                Some(Err(error)) => {
                    return Err(Problem::new(Code::BadBody, format!("the body broke off: {error}")));
                }
            }
        }
        Ok(self.whole.pop_front())
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Problem> {
        let mut rest = data;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            self.bytes.extend_from_slice(&rest[..at]);
            self.whole.push_back(self.bytes.split().freeze());
            rest = &rest[at + 1..];
        }
        self.bytes.extend_from_slice(rest);
        if self.bytes.len() > LINE_BYTES_MAX {
            let detail = format!("a line has more than {LINE_BYTES_MAX} bytes");
            return Err(Problem::new(Code::ValueTooLarge, detail).with_limit(LINE_BYTES_MAX as u64));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;

//! Listings: keys in order, in pages that together are the whole, each page bounded in every direction. As one JSON
//! text, or a line for each key where the client takes that.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request as HttpRequest, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::params::{self, Params};
use super::problem::{Code, Problem};
use super::shown::{NDJSON, accepts, one_line};
use super::{Shared, json, media, reads};
use crate::model::{Key, KeyError, Policies, Policy, Version, key, row};
use crate::protocol::resolve;
use crate::storage::rows::{self, Record};
use crate::storage::{Read, StorageError, Table};

/// Items and prefixes of a page, unless the client says otherwise.
const LIMIT: usize = 100;
/// Most items and prefixes of a page.
pub const LIMIT_MAX: usize = 1000;
/// A page takes no further item once it has this many bytes of keys and values.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// A page ends, however little it holds, after reading this many rows: deleted and expired ones count too.
const SCAN_ROWS_MAX: usize = 10_000;
/// A page ends after reading this many bytes.
const SCAN_BYTES_MAX: usize = 64 << 20;
/// A page ends after this time: a snapshot held longer keeps the engine from reusing its pages.
const SCAN_TIME_MAX: Duration = Duration::from_secs(1);
/// Rows read at a time: a row holds up to 1 MiB.
const BATCH: usize = 16;
/// Rows read at a time where one row of a group is enough to step over all of it.
const BATCH_IN_GROUPS: usize = 2;
/// Longest delimiter, in bytes.
const DELIMITER_BYTES_MAX: usize = 16;

/// `GET /kv`
pub async fn list(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let known = ["prefix", "delimiter", "start", "end", "limit", "reverse", "keys_only", "cursor"];
    let params = Params::parse(request.uri().query(), &known)?;
    let query = Query::read(&params)?;
    let in_lines = accepts(request.headers(), NDJSON);
    let response = shared.scan(move |shared| {
        let began = shared.app.clock.now();
        let mut has_time = || shared.app.clock.now().mono.since(began.mono) < SCAN_TIME_MAX;
        let page = shared.app.reader.snapshot(|store| {
            let millis = reads::read_millis(store, began.wall)?;
            query.page(store, &shared.app.info.policies, millis, &mut has_time)
        })?;
        for item in &page.items {
            if matches!(item, Item::Broken(_, Code::CorruptRecord)) {
                shared.metrics.corrupt_record();
            }
        }
        Ok(if in_lines { lines(page.lines(&query)) } else { json(&page.listing(&query)) })
    });
    response.await
}

fn lines(lines: Vec<Line>) -> Response {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, &line).expect("our own structs are JSON");
        bytes.push(b'\n');
    }
    bytes.shrink_to_fit();
    ([(CONTENT_TYPE, NDJSON)], bytes).into_response()
}

/// Which keys, and how they are shown.
#[derive(Clone, Debug, Default)]
pub struct Query {
    prefix: Vec<u8>,
    /// Empty for none.
    delimiter: Vec<u8>,
    /// The first key that may be listed.
    start: Option<Vec<u8>>,
    /// The first key after the listing, in key order.
    end: Option<Vec<u8>>,
    limit: usize,
    reverse: bool,
    keys_only: bool,
    after: Option<Position>,
}

/// The last thing that a page went past. The next page goes on after it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Position {
    Key(Vec<u8>),
    /// All keys with this prefix.
    Group(Vec<u8>),
}

/// One key of a page.
enum Item {
    Live(Key, Version),
    /// A key that shows no value, and why: listed, so that nobody takes it for deleted. Its record fails its
    /// checksum, or somebody has to choose between the heads of its history.
    Broken(Key, Code),
    /// A key of policy `siblings` with several live values.
    Siblings(Key, Vec<Version>),
}

/// A bounded share of a listing.
#[derive(Default)]
struct Page {
    items: Vec<Item>,
    prefixes: Vec<Vec<u8>>,
    /// The last thing it went past; `None` when nothing is left.
    next: Option<Position>,
}

/// A range of bytes: from the first included to the first excluded.
#[derive(Clone)]
struct Span {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl Query {
    fn read(params: &Params) -> Result<Query, Problem> {
        let limit = match params.text("limit")? {
            None => LIMIT,
            Some(text) => {
                text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
                    params::bad(format!("limit={text} is no number from 1 to {LIMIT_MAX}"))
                        .with_limit(LIMIT_MAX as u64)
                })?
            }
        };
        let delimiter = params.bytes("delimiter").unwrap_or_default().to_vec();
        if delimiter.len() > DELIMITER_BYTES_MAX {
            let detail = format!("the delimiter has more than {DELIMITER_BYTES_MAX} bytes");
            return Err(params::bad(detail).with_limit(DELIMITER_BYTES_MAX as u64));
        }
        let mut query = Query {
            prefix: part_of_key(params, "prefix")?.unwrap_or_default(),
            delimiter,
            start: part_of_key(params, "start")?,
            end: part_of_key(params, "end")?,
            limit,
            reverse: params.switch("reverse")?,
            keys_only: params.switch("keys_only")?,
            after: None,
        };
        if let Some(cursor) = params.bytes("cursor") {
            query.after = Some(query.position(cursor)?);
        }
        Ok(query)
    }

    /// Walks the rows until the page is full, a bound is met or nothing is left.
    fn page(
        &self,
        store: &dyn Read,
        policies: &Policies,
        millis: u64,
        has_time: &mut dyn FnMut() -> bool,
    ) -> Result<Page, StorageError> {
        let Some(span) = self.span() else { return Ok(Page::default()) };
        let mut walk =
            Walk { query: self, policies, millis, span, page: Page::default(), rows: 0, bytes: 0, shown: 0 };
        let batch = if self.delimiter.is_empty() { BATCH } else { BATCH_IN_GROUPS };
        loop {
            let rows = rows::records(store, walk.span.range(), batch, self.reverse)?;
            if rows.is_empty() {
                return Ok(walk.page.whole());
            }
            for (key, record) in rows {
                match walk.take(key, record) {
                    Step::End => return Ok(walk.page.whole()),
                    Step::Next | Step::Over if walk.is_full() => return walk.stop(store),
                    Step::Next => {}
                    // What was read of the group beyond its first row is stepped over.
                    Step::Over => break,
                }
            }
            if walk.is_long() || !has_time() {
                return walk.stop(store);
            }
        }
    }

    /// What the listing covers from where the last page ended; `None` when that is nothing.
    fn span(&self) -> Option<Span> {
        let from = self.start.as_ref().map_or(&self.prefix, |start| start.max(&self.prefix)).clone();
        let to = match (successor(&self.prefix), &self.end) {
            (Some(after), Some(end)) => Some(after.min(end.clone())),
            (after, end) => after.or_else(|| end.clone()),
        };
        let mut span = Span { from, to };
        let is_left = self.after.as_ref().is_none_or(|position| span.go_past(position, self.reverse));
        is_left.then_some(span)
    }

    /// The common prefix that a key is shown as, if the delimiter follows the listing's prefix in it.
    fn group(&self, key: &[u8]) -> Option<Vec<u8>> {
        if self.delimiter.is_empty() {
            return None;
        }
        let rest = key.strip_prefix(self.prefix.as_slice())?;
        let at = rest.windows(self.delimiter.len()).position(|window| window == self.delimiter)?;
        Some(key[..self.prefix.len() + at + self.delimiter.len()].to_vec())
    }

    fn item(&self, key: Key, shown: Result<Vec<Version>, Code>) -> Item {
        let shown = shown.map(|mut versions| match versions.len() {
            1 => Ok(versions.remove(0)),
            _ => Err(versions),
        });
        match shown {
            Err(code) => Item::Broken(key, code),
            Ok(Ok(version)) if self.keys_only => {
                Item::Live(key, Version { value: bytes::Bytes::new(), ..version })
            }
            Ok(Ok(version)) => Item::Live(key, version),
            Ok(Err(siblings)) => Item::Siblings(key, siblings),
        }
    }

    /// Tells listings apart: a cursor goes on with the one it came from.
    fn fingerprint(&self) -> [u8; 8] {
        let mut text = vec![u8::from(self.reverse)];
        let none = Vec::new();
        let parts = [
            (true, &self.prefix),
            (true, &self.delimiter),
            (self.start.is_some(), self.start.as_ref().unwrap_or(&none)),
            (self.end.is_some(), self.end.as_ref().unwrap_or(&none)),
        ];
        for (is_there, part) in parts {
            text.push(u8::from(is_there));
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        }
        xxh3_64(&text).to_be_bytes()
    }

    /// A position as the opaque text that clients send back.
    fn cursor(&self, position: &Position) -> String {
        let (kind, bytes) = match position {
            Position::Key(key) => (0, key),
            Position::Group(prefix) => (1, prefix),
        };
        let mut cursor = vec![kind];
        cursor.extend_from_slice(&self.fingerprint());
        cursor.extend_from_slice(bytes);
        URL_SAFE_NO_PAD.encode(cursor)
    }

    fn position(&self, cursor: &[u8]) -> Result<Position, Problem> {
        let bad = |what: &str| Problem::new(Code::BadCursor, what);
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad("the cursor is not one of ours"))?;
        let (head, rest) = bytes.split_at_checked(9).ok_or_else(|| bad("the cursor is cut short"))?;
        if head[1..] != self.fingerprint() {
            return Err(bad("the cursor belongs to a listing with another prefix, range or order"));
        }
        match head[0] {
            0 => Ok(Position::Key(rest.to_vec())),
            1 => Ok(Position::Group(rest.to_vec())),
            _ => Err(bad("the cursor is not one of ours")),
        }
    }
}

/// A listing under way.
struct Walk<'a> {
    query: &'a Query,
    policies: &'a Policies,
    millis: u64,
    /// What is left.
    span: Span,
    page: Page,
    rows: usize,
    bytes: usize,
    shown: usize,
}

/// What a row leads to.
enum Step {
    /// The next row.
    Next,
    /// The first row after the group that this one stands for.
    Over,
    /// Nothing: it was the last.
    End,
}

impl Walk<'_> {
    fn take(&mut self, key: Key, record: Record) -> Step {
        self.rows += 1;
        let shown = self.shown(&key, &record);
        let group = self.query.group(key.as_bytes()).filter(|_| shown.is_some());
        let (position, step) = match group {
            Some(group) => {
                self.shown += group.len();
                self.page.prefixes.push(group.clone());
                (Position::Group(group), Step::Over)
            }
            None => {
                let position = Position::Key(key.as_bytes().to_vec());
                if let Some(shown) = shown {
                    let item = self.query.item(key, shown);
                    self.shown += item.bytes();
                    self.page.items.push(item);
                }
                (position, Step::Next)
            }
        };
        let is_left = self.span.go_past(&position, self.query.reverse);
        self.page.next = Some(position);
        if is_left { step } else { Step::End }
    }

    /// What a key is listed with, if it is listed.
    fn shown(&mut self, key: &Key, record: &Record) -> Option<Result<Vec<Version>, Code>> {
        let row = match record {
            Record::Row(row) => row,
            Record::Rotten => return Some(Err(Code::CorruptRecord)),
            Record::Absent => return None,
        };
        self.bytes += row.value_bytes();
        let policy = self.policies.of(key);
        if resolve::conflict(policy, &row.versions).is_some() {
            return Some(Err(Code::HistoryHeads));
        }
        if policy == Policy::Siblings {
            let live: Vec<Version> = resolve::live(&row.versions, self.millis).collect();
            return (!live.is_empty()).then_some(Ok(live));
        }
        resolve::shown(policy, &row.versions, self.millis).map(|version| Ok(vec![version.into_owned()]))
    }

    /// Whether the page holds all that a page may.
    fn is_full(&self) -> bool {
        let count = self.page.items.len() + self.page.prefixes.len();
        count >= self.query.limit || self.shown >= PAGE_BYTES_MAX
    }

    /// Whether the page has read all that a page may.
    fn is_long(&self) -> bool {
        self.rows >= SCAN_ROWS_MAX || self.bytes >= SCAN_BYTES_MAX
    }

    /// Ends the page early. If no row follows it is whole after all, and the client is spared a request.
    fn stop(self, store: &dyn Read) -> Result<Page, StorageError> {
        let follows = store.scan(Table::Records, self.span.range(), 1, self.query.reverse)?;
        Ok(if follows.is_empty() { self.page.whole() } else { self.page })
    }
}

impl Page {
    /// The page after which nothing is left.
    fn whole(self) -> Page {
        Page { next: None, ..self }
    }

    fn listing(self, query: &Query) -> Listing {
        Listing {
            next: self.cursor(query),
            items: self.items.into_iter().map(|item| item.shown(query.keys_only, media::raw_json)).collect(),
            prefixes: self.prefixes.iter().map(|prefix| key::encode(prefix)).collect(),
        }
    }

    /// The same in one order, the cursor last: who has that line has all of them.
    fn lines(self, query: &Query) -> Vec<Line> {
        let next = Line::Next { next: self.cursor(query) };
        let prefixes =
            self.prefixes.into_iter().map(|prefix| (Line::Prefix { prefix: key::encode(&prefix) }, prefix));
        let items = self.items.into_iter().map(|item| {
            let key = item.key().as_bytes().to_vec();
            (Line::Item(item.shown(query.keys_only, one_line)), key)
        });
        let mut lines: Vec<_> = items.chain(prefixes).collect();
        lines.sort_by(|(_, one), (_, other)| one.cmp(other));
        if query.reverse {
            lines.reverse();
        }
        lines.into_iter().map(|(line, _)| line).chain([next]).collect()
    }

    fn cursor(&self, query: &Query) -> Option<String> {
        self.next.as_ref().map(|position| query.cursor(position))
    }
}

impl Span {
    /// Leaves out everything up to `position` in the direction of the listing; says whether anything can be left.
    fn go_past(&mut self, position: &Position, reverse: bool) -> bool {
        match (position, reverse) {
            // No key holds a NUL, so this is the least that a later key can be.
            (Position::Key(key), false) => self.from = self.from.clone().max([key, &[0][..]].concat()),
            (Position::Group(prefix), false) => match successor(prefix) {
                Some(after) => self.from = self.from.clone().max(after),
                None => return false,
            },
            (Position::Key(first) | Position::Group(first), true) => {
                let first = first.clone();
                self.to = Some(self.to.take().map_or(first.clone(), |to| to.min(first)));
            }
        }
        self.to.as_ref().is_none_or(|to| self.from < *to)
    }

    fn range(&self) -> crate::storage::Range<'_> {
        let to = self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(self.from.as_slice()), to)
    }
}

/// The least bytes after everything that starts with `prefix`.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

/// A parameter that stands where a key stands, or the beginning of one.
pub fn part_of_key(params: &Params, name: &str) -> Result<Option<Vec<u8>>, Problem> {
    let Some(bytes) = params.bytes(name) else { return Ok(None) };
    let bytes = bytes.strip_prefix(b"/").unwrap_or(bytes);
    if bytes.len() > Key::BYTES_MAX {
        return Err(KeyError::TooLong { bytes: bytes.len() }.into());
    }
    Ok(Some(bytes.to_vec()))
}

#[derive(JsonSchema, Serialize)]
pub struct Listing {
    items: Vec<Shown>,
    prefixes: Vec<String>,
    next: Option<String>,
}

/// A listing's line.
#[derive(JsonSchema, Serialize)]
#[serde(untagged)]
#[schemars(rename = "ListingLine")]
pub enum Line {
    Item(Shown),
    Prefix { prefix: String },
    Next { next: Option<String> },
}

/// An item as clients see it.
#[derive(JsonSchema, Serialize)]
#[serde(untagged)]
#[schemars(rename = "Listed")]
pub enum Shown {
    Broken {
        key: String,
        error: &'static str,
    },
    Siblings {
        key: String,
        uuid: Uuid,
        timestamp: u64,
        siblings: usize,
    },
    Live {
        key: String,
        uuid: Uuid,
        timestamp: u64,
        content_type: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<Box<RawValue>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        value_base64: Option<String>,
    },
}

impl Item {
    fn key(&self) -> &Key {
        match self {
            Item::Live(key, _) | Item::Broken(key, _) | Item::Siblings(key, _) => key,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Item::Live(key, version) => key.as_bytes().len() + version.value.len(),
            Item::Broken(key, _) | Item::Siblings(key, _) => key.as_bytes().len(),
        }
    }

    /// `json` shows a value that is JSON.
    fn shown(self, keys_only: bool, json: fn(&Version) -> Option<Box<RawValue>>) -> Shown {
        let (key, version) = match self {
            Item::Live(key, version) => (key, version),
            Item::Siblings(key, versions) => {
                let timestamp = versions.iter().map(|version| version.stamp.millis).max();
                return Shown::Siblings {
                    key: key.to_string(),
                    uuid: row::tag(&versions).expect("there are several"),
                    timestamp: timestamp.expect("there are several"),
                    siblings: versions.len(),
                };
            }
            Item::Broken(key, code) => {
                return Shown::Broken { key: key.to_string(), error: code.name() };
            }
        };
        let value = if keys_only { None } else { json(&version) };
        let is_other = !keys_only && value.is_none();
        Shown::Live {
            key: key.to_string(),
            uuid: version.uuid(),
            timestamp: version.stamp.millis,
            expires_at: version.expires_at.map(|at| at.0),
            value_base64: is_other.then(|| STANDARD.encode(&version.value)),
            value,
            content_type: version.content_type,
        }
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;

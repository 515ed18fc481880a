//! `GET /openapi.json`: the API described for programs, as OpenAPI 3.1.
//!
//! Made from the structs that are sent, the table of problems and one row per operation. Tests hold the rows to the
//! router: no route without a row, no parameter unknown to either, and no answer, whatever is asked, that the
//! document does not have. `docs/openapi.json` is this document.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value as Json, json};

use super::auth::{self, Scope};
use super::problem::{Code, Document};
use super::shown::{EVENT_STREAM, NDJSON};
use super::{
    batch, changes, cluster, conflicts, events, explain, health, history, kv, list, media, merkle, metrics,
    siblings, sync, transfer,
};
use crate::model::Key;

/// Where the schemas stand in the document.
const SCHEMAS: &str = "/components/schemas";
const HTML: &str = "text/html";

/// `GET /openapi.json`
pub async fn openapi() -> Response {
    static TEXT: OnceLock<String> = OnceLock::new();
    let headers = [(CONTENT_TYPE, media::JSON), (CACHE_CONTROL, "no-cache")];
    (headers, TEXT.get_or_init(text).as_str()).into_response()
}

/// The document as it is kept in `docs/`.
pub fn text() -> String {
    let mut text = serde_json::to_string_pretty(&document()).expect("a value is JSON");
    text.push('\n');
    text
}

/// What one method of one path does.
struct Operation {
    method: &'static str,
    /// As the router has it.
    path: &'static str,
    /// Its name for programs.
    id: &'static str,
    about: &'static str,
    parameters: &'static [&'static Parameter],
    sent: Option<Sent>,
    answers: &'static [Answer],
    problems: &'static [&'static [Code]],
}

/// Something a request may say beside its path and body.
struct Parameter {
    name: &'static str,
    place: &'static str,
    about: &'static str,
    shape: fn() -> Json,
}

/// What a request's body may be.
struct Sent {
    media_type: &'static str,
    about: &'static str,
    shape: Shape,
    is_required: bool,
}

/// One good answer.
struct Answer {
    status: u16,
    about: &'static str,
    content: &'static [(&'static str, Shape)],
    headers: &'static [(&'static str, &'static str)],
}

/// What bytes look like.
#[derive(Clone, Copy)]
enum Shape {
    /// One JSON text.
    One(fn(&mut SchemaGenerator) -> Schema),
    /// JSON texts, one a line or an event each.
    Each(fn(&mut SchemaGenerator) -> Schema),
    /// Anything.
    Bytes,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const fn parameter(name: &'static str, about: &'static str, shape: fn() -> Json) -> Parameter {
    Parameter { name, place: "query", about, shape }
}

const fn header(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, place: "header", about, shape: text_shape }
}

fn text_shape() -> Json {
    json!({ "type": "string" })
}

fn switch() -> Json {
    json!({ "type": "string", "enum": ["", "true", "false", "1", "0"] })
}

fn duration() -> Json {
    json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "examples": ["20ms", "5s"] })
}

fn nodes() -> Json {
    json!({ "type": "string", "pattern": "^(local|majority|[1-9][0-9]*)$", "examples": ["local", "majority", "2"] })
}

fn up_to<const MAX: usize>() -> Json {
    json!({ "type": "integer", "minimum": 1, "maximum": MAX })
}

fn offset() -> Json {
    json!({ "type": "integer", "minimum": 0 })
}

static ACK: Parameter =
    parameter("ack", "On how many nodes the write is to be durable before the answer", nodes);
static READ: Parameter = parameter("read", "From how many nodes; the newest value is the answer", nodes);
static TIMEOUT: Parameter = parameter("timeout", "How long to wait for the other nodes", duration);
static TTL: Parameter = parameter("ttl", "After this time reads find nothing", duration);
static OFFSET: Parameter =
    parameter("offset", "Under policy history: write the body from this byte on", offset);
static HEADS: Parameter =
    parameter("heads", "Under policy history: what nothing was written on top of", switch);
static VERSIONS: Parameter =
    parameter("versions", "Under policy history: its transactions, the latest first", switch);
static EXPLAIN: Parameter =
    parameter("explain", "What lies under the key, and which rule decided between what met there", switch);
static IN_CONFLICT: Parameter = parameter("limit", "Most keys of a page", up_to::<{ conflicts::LIMIT_MAX }>);
static AT: Parameter = parameter(
    "at",
    "Under policy history: the value right after this transaction",
    || json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
);
static LISTED: Parameter = parameter("limit", "Most items and prefixes", up_to::<{ list::LIMIT_MAX }>);
static TOLD: Parameter = parameter("limit", "Most keys", up_to::<{ changes::KEYS_MAX }>);
static SHOWN: Parameter = parameter("limit", "Most transactions", up_to::<{ history::LIMIT_MAX }>);
static PREFIX: Parameter = parameter("prefix", "Keys that begin with these bytes", text_shape);
static DELIMITER: Parameter = parameter(
    "delimiter",
    "Show keys that hold this after the prefix as one entry",
    || json!({ "type": "string", "maxLength": 16 }),
);
static START: Parameter = parameter("start", "The first key that may be listed", text_shape);
static END: Parameter = parameter("end", "The first key after the listing", text_shape);
static REVERSE: Parameter = parameter("reverse", "From the last to the first", switch);
static KEYS_ONLY: Parameter = parameter("keys_only", "Leave the values out", switch);
static CURSOR: Parameter =
    parameter("cursor", "`next` of the page before, with the same other parameters", text_shape);
static SINCE: Parameter =
    parameter("since", "`next` of the last answer, an event's id, or `now`", text_shape);
static WAIT: Parameter = parameter("wait", "How long the answer may wait for a change", duration);
static PEER: Parameter = parameter("peer", "The member to compare with", text_shape);
static ASIDE: Parameter =
    parameter("aside", "What was set aside instead: too old to be told from deleted data", switch);
static DRY_RUN: Parameter = parameter("dry_run", "Count only", switch);
static EVENTS_SINCE: Parameter =
    parameter("since", "The `id` of the last event that is known, or `now`", text_shape);
static EVENT: Parameter = parameter("event", "Only events of this name", text_shape);
static IF_MATCH: Parameter =
    header("If-Match", "Only if the value's ETag is one of these; `*` for any value");
static IF_NONE_MATCH: Parameter =
    header("If-None-Match", "Only if the value's ETag is none of these; `*` for no value");
static CONTEXT: Parameter = header(
    "X-Reknit-Context",
    "Under policy siblings: the token of the last read; the write replaces what it saw",
);
static IDEMPOTENCY_KEY: Parameter = header("Idempotency-Key", "Do this batch once, however often it is sent");
static LAST_EVENT_ID: Parameter = header("Last-Event-ID", "As `since`; browsers send it by themselves");
static CLUSTER_SECRET: Parameter =
    header("X-Cluster-Secret", "The cluster's secret, for callers on other hosts");

/// A member as `/status` shows this node's own.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it only describes another struct")]
pub struct MemberRecord {
    id: String,
    address: String,
    life: u64,
    incarnation: u32,
    state: String,
    joined: u64,
    mode: String,
    origin: Option<u64>,
    policies: u64,
    protocol: ProtocolVersions,
}

/// The versions of the peer protocol that a node speaks, both ends included.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it only describes another struct")]
pub struct ProtocolVersions {
    min: u16,
    max: u16,
}

/// The hybrid-logical time of a version.
#[derive(JsonSchema)]
#[schemars(rename = "Stamp")]
#[allow(dead_code, reason = "it only describes another struct")]
pub struct StampShape {
    millis: u64,
    counter: u16,
}

/// Every request that takes parameters may name one wrongly.
const PARAMETERS: &[Code] = &[Code::BadParameter];
const HEADERS: &[Code] = &[Code::BadHeader];
const KEYS: &[Code] = &[Code::BadKey, Code::KeyTooLong];
const CONDITIONS: &[Code] = &[Code::ConditionFailed];
const BODIES: &[Code] = &[Code::ValueTooLarge, Code::BodyTimeout, Code::BadBody];
/// Whatever is asked of the node's loop.
const LOOP: &[Code] = &[Code::Busy, Code::Stopped, Code::NoAnswer, Code::Internal];
/// Whatever is read from snapshots.
const DISK: &[Code] = &[Code::Stopped, Code::StorageFailed, Code::CorruptRecord, Code::Internal];
const WRITES: &[Code] = &[
    Code::ReadOnly,
    Code::DiskFull,
    Code::Draining,
    Code::Syncing,
    Code::AckAboveMembers,
    Code::AckTimeout,
    Code::TooManyPending,
    Code::CorruptRecord,
    Code::HistoryHeads,
    Code::HistoryFull,
    Code::PolicyRefused,
    Code::TooManyOrigins,
    Code::Siblings,
    Code::TooManySiblings,
    Code::BadContext,
];
const WISHES: &[Code] =
    &[Code::BadBody, Code::InvalidJson, Code::ValueTooLarge, Code::BodyTimeout, Code::MemberRefused];

const VALUE_HEADERS: &[(&str, &str)] = &[
    ("ETag", "The version's uuid in quotes"),
    ("X-Reknit-Timestamp", "When it was written, in milliseconds since 1970"),
    ("X-Reknit-Node", "The node that answers"),
    ("X-Reknit-Context", "Under policy siblings: the token to send with the next write"),
];

/// What a read tells where it has no value to show, too.
const READER_HEADERS: &[(&str, &str)] = &[VALUE_HEADERS[2], VALUE_HEADERS[3]];
const WRITTEN: &[(&str, &str)] = &[
    ("ETag", "The version's uuid in quotes"),
    ("X-Reknit-Acked", "On how many nodes the write is known to be durable"),
    ("X-Reknit-Context", "Under policy siblings: the token to send with the next write"),
];
const DELETED: &[(&str, &str)] =
    &[("X-Reknit-Timestamp", "When, in milliseconds since 1970"), WRITTEN[1], WRITTEN[2]];
const REQUEST_ID: (&str, &str) = ("X-Request-Id", "The request's own, or one that was made for it");
const RETRY_AFTER: (&str, &str) = ("Retry-After", "Seconds after which the same request may succeed");

const READ_PARAMETERS: &[&Parameter] =
    &[&READ, &TIMEOUT, &HEADS, &VERSIONS, &SHOWN, &AT, &EXPLAIN, &IF_MATCH, &IF_NONE_MATCH];
const READ_PROBLEMS: &[&[Code]] = &[
    KEYS,
    PARAMETERS,
    HEADERS,
    CONDITIONS,
    LOOP,
    DISK,
    &[
        Code::NotFound,
        Code::AckAboveMembers,
        Code::ReadTimeout,
        Code::TooManyPending,
        Code::HistoryHeads,
        Code::PolicyRefused,
    ],
];
const KNOWN: Answer =
    Answer { status: 304, about: "The client has it already", content: &[], headers: VALUE_HEADERS };
const NO_VALUE: Answer =
    Answer { status: 404, about: "There is no value here", content: &[], headers: READER_HEADERS };
const OTHER_VALUE: Answer =
    Answer { status: 412, about: "The value is another one", content: &[], headers: READER_HEADERS };
const SIBLINGS: &[(&str, &str)] = &[
    ("X-Reknit-Siblings", "How many values there are"),
    ("ETag", "The name of the set, in quotes"),
    VALUE_HEADERS[2],
    VALUE_HEADERS[3],
];

const fn good(status: u16, about: &'static str, content: &'static [(&'static str, Shape)]) -> Answer {
    Answer { status, about, content, headers: &[] }
}

/// One row per operation, in the order of the documentation.
static OPERATIONS: &[Operation] = &[
    Operation {
        method: "put",
        path: "/kv/{*key}",
        id: "put",
        about: "Stores the body and its Content-Type under a key",
        parameters: &[&ACK, &TIMEOUT, &TTL, &OFFSET, &IF_MATCH, &IF_NONE_MATCH, &CONTEXT],
        sent: Some(Sent {
            media_type: "*/*",
            about: "The value; under a JSON type, or without a type, it must be valid JSON",
            shape: Shape::Bytes,
            is_required: true,
        }),
        answers: &[Answer {
            status: 200,
            about: "Stored",
            content: &[(media::JSON, Shape::One(of::<kv::Written>))],
            headers: WRITTEN,
        }],
        problems: &[
            KEYS,
            PARAMETERS,
            HEADERS,
            CONDITIONS,
            BODIES,
            LOOP,
            WRITES,
            &[Code::InvalidJson, Code::ContentEncoding],
        ],
    },
    Operation {
        method: "get",
        path: "/kv/{*key}",
        id: "get",
        about: "The value under a key, byte for byte; or an answer about its history",
        parameters: READ_PARAMETERS,
        sent: None,
        answers: &[
            Answer {
                status: 200,
                about: "The value",
                content: &[("*/*", Shape::Bytes), (media::JSON, Shape::One(history_or_value))],
                headers: VALUE_HEADERS,
            },
            KNOWN,
            NO_VALUE,
            OTHER_VALUE,
            Answer {
                status: 409,
                about: "Under policy siblings: all concurrent values; as JSON where the client accepts it",
                content: &[
                    ("multipart/mixed", Shape::Bytes),
                    (media::JSON, Shape::One(of::<siblings::Conflict<'_>>)),
                ],
                headers: SIBLINGS,
            },
        ],
        problems: READ_PROBLEMS,
    },
    Operation {
        method: "head",
        path: "/kv/{*key}",
        id: "head",
        about: "What a read would say, without the value",
        parameters: READ_PARAMETERS,
        sent: None,
        answers: &[
            Answer { status: 200, about: "There is a value", content: &[], headers: VALUE_HEADERS },
            KNOWN,
            NO_VALUE,
            OTHER_VALUE,
            Answer {
                status: 409,
                about: "Under policy siblings: there are concurrent values",
                content: &[],
                headers: SIBLINGS,
            },
        ],
        problems: READ_PROBLEMS,
    },
    Operation {
        method: "delete",
        path: "/kv/{*key}",
        id: "delete",
        about: "Writes a tombstone, whether or not there is a value",
        parameters: &[&ACK, &TIMEOUT, &IF_MATCH, &IF_NONE_MATCH, &CONTEXT],
        sent: None,
        answers: &[Answer { status: 204, about: "Deleted", content: &[], headers: DELETED }],
        problems: &[KEYS, PARAMETERS, HEADERS, CONDITIONS, LOOP, WRITES],
    },
    Operation {
        method: "get",
        path: "/kv",
        id: "list",
        about: "Keys in order, page by page",
        parameters: &[&PREFIX, &DELIMITER, &START, &END, &LISTED, &REVERSE, &KEYS_ONLY, &CURSOR],
        sent: None,
        answers: &[good(
            200,
            "A page; in lines where the client accepts them, in key order, the cursor last",
            &[(media::JSON, Shape::One(of::<list::Listing>)), (NDJSON, Shape::Each(of::<list::Line>))],
        )],
        problems: &[PARAMETERS, DISK, &[Code::KeyTooLong, Code::BadCursor]],
    },
    Operation {
        method: "get",
        path: "/conflicts",
        id: "conflicts",
        about: "Keys that somebody may want to look at: siblings, heads, what was left out or set aside",
        parameters: &[&PREFIX, &START, &IN_CONFLICT],
        sent: None,
        answers: &[good(200, "A page", &[(media::JSON, Shape::One(of::<conflicts::Page>))])],
        problems: &[PARAMETERS, DISK, &[Code::KeyTooLong]],
    },
    Operation {
        method: "post",
        path: "/batch",
        id: "batch",
        about: "Up to 1000 operations, each with an answer of its own; no transaction",
        parameters: &[&ACK, &TIMEOUT, &IDEMPOTENCY_KEY],
        sent: Some(Sent {
            media_type: NDJSON,
            about: "One operation a line",
            shape: Shape::Each(of::<batch::Item>),
            is_required: true,
        }),
        answers: &[Answer {
            status: 200,
            about: "One outcome a line, in the order of the operations",
            content: &[(NDJSON, Shape::Each(of::<batch::Outcome>))],
            headers: &[("Idempotency-Replayed", "`true` if this batch was answered before")],
        }],
        problems: &[PARAMETERS, HEADERS, BODIES, &[Code::IdempotencyKeyReused, Code::Internal]],
    },
    Operation {
        method: "get",
        path: "/changes",
        id: "changes",
        about: "What is new since a cursor, asked for or told as it comes",
        parameters: &[&SINCE, &PREFIX, &WAIT, &TOLD, &LAST_EVENT_ID],
        sent: None,
        answers: &[good(
            200,
            "Changes; as server-sent events where the client accepts them",
            &[
                (media::JSON, Shape::One(of::<changes::Polled>)),
                (EVENT_STREAM, Shape::Each(of::<changes::Change>)),
            ],
        )],
        problems: &[
            PARAMETERS,
            HEADERS,
            DISK,
            &[Code::BadCursor, Code::KeyTooLong, Code::Busy, Code::Draining],
        ],
    },
    Operation {
        method: "get",
        path: "/export",
        id: "export",
        about: "All versions as they were written, tombstones too, a key a line; or what was set aside",
        parameters: &[&PREFIX, &ASIDE],
        sent: None,
        answers: &[good(200, "Lines for /import", &[(NDJSON, Shape::Each(of::<transfer::Line>))])],
        problems: &[PARAMETERS, DISK, &[Code::KeyTooLong, Code::Busy]],
    },
    Operation {
        method: "post",
        path: "/import",
        id: "import",
        about: "Takes the versions of an export that this node has not covered",
        parameters: &[],
        sent: Some(Sent {
            media_type: NDJSON,
            about: "Lines of an export",
            shape: Shape::Each(of::<transfer::Line>),
            is_required: true,
        }),
        answers: &[good(200, "What became of them", &[(media::JSON, Shape::One(of::<transfer::Summary>))])],
        problems: &[
            PARAMETERS,
            BODIES,
            LOOP,
            &[Code::ReadOnly, Code::DiskFull, Code::Draining, Code::Syncing],
        ],
    },
    Operation {
        method: "get",
        path: "/backup",
        id: "backup",
        about: "One durable state of the whole disk, for `node --restore FILE`",
        parameters: &[],
        sent: None,
        answers: &[Answer {
            status: 200,
            about: "The backup, closed by a checksum",
            content: &[("application/vnd.reknit.backup", Shape::Bytes)],
            headers: &[("X-Reknit-Rows", "How many rows are in it")],
        }],
        problems: &[PARAMETERS, DISK],
    },
    Operation {
        method: "get",
        path: "/members/",
        id: "members",
        about: "The members as this node sees them, itself included",
        parameters: &[],
        sent: None,
        answers: &[good(200, "One entry a member", &[(media::JSON, Shape::One(of::<Vec<cluster::Shown>>))])],
        problems: &[PARAMETERS, LOOP],
    },
    Operation {
        method: "post",
        path: "/members/join",
        id: "join",
        about: "Lets this node join through the node at an address",
        parameters: &[&CLUSTER_SECRET],
        sent: Some(Sent {
            media_type: media::JSON,
            about: "Any member's address",
            shape: Shape::One(of::<cluster::Join>),
            is_required: true,
        }),
        answers: &[good(
            202,
            "Begun; the member table shows when it has worked",
            &[(media::JSON, Shape::One(of::<cluster::Done>))],
        )],
        problems: &[PARAMETERS, WISHES, LOOP],
    },
    Operation {
        method: "post",
        path: "/members/leave",
        id: "leave",
        about: "Lets this node say goodbye and stop",
        parameters: &[&CLUSTER_SECRET],
        sent: Some(Sent {
            media_type: media::JSON,
            about: "`{}`",
            shape: Shape::One(of::<cluster::Leave>),
            is_required: false,
        }),
        answers: &[good(200, "Gone", &[(media::JSON, Shape::One(of::<cluster::Done>))])],
        problems: &[PARAMETERS, WISHES, LOOP],
    },
    Operation {
        method: "post",
        path: "/members/remove",
        id: "remove",
        about: "Removes a member that is down and will not come back",
        parameters: &[&CLUSTER_SECRET],
        sent: Some(Sent {
            media_type: media::JSON,
            about: "The member's id",
            shape: Shape::One(of::<cluster::Remove>),
            is_required: true,
        }),
        answers: &[good(200, "Removed", &[(media::JSON, Shape::One(of::<cluster::Done>))])],
        problems: &[PARAMETERS, WISHES, LOOP],
    },
    Operation {
        method: "post",
        path: "/members/mode",
        id: "mode",
        about: "Makes this node read-only, or normal again, until its next start",
        parameters: &[&CLUSTER_SECRET],
        sent: Some(Sent {
            media_type: media::JSON,
            about: "The mode",
            shape: Shape::One(of::<cluster::Switch>),
            is_required: true,
        }),
        answers: &[good(200, "Switched", &[(media::JSON, Shape::One(of::<cluster::Done>))])],
        problems: &[PARAMETERS, WISHES, LOOP],
    },
    Operation {
        method: "get",
        path: "/events",
        id: "events",
        about: "What the node noticed, as a list or told as it comes",
        parameters: &[&EVENTS_SINCE, &EVENT, &LAST_EVENT_ID],
        sent: None,
        answers: &[good(
            200,
            "Events; as server-sent events where the client accepts them",
            &[
                (media::JSON, Shape::One(of::<events::Listed>)),
                (EVENT_STREAM, Shape::Each(of::<events::Shown>)),
            ],
        )],
        problems: &[PARAMETERS, HEADERS, &[Code::Busy, Code::Draining]],
    },
    Operation {
        method: "post",
        path: "/sync",
        id: "sync",
        about: "Compares with a peer now and repairs what differs",
        parameters: &[&PEER, &PREFIX, &DRY_RUN],
        sent: None,
        answers: &[good(200, "What the session did", &[(media::JSON, Shape::One(of::<sync::Report>))])],
        problems: &[PARAMETERS, LOOP, &[Code::MemberRefused]],
    },
    Operation {
        method: "get",
        path: "/merkle_tree/root",
        id: "root",
        about: "A hash that two nodes share if they hold the same live versions",
        parameters: &[],
        sent: None,
        answers: &[good(200, "The root", &[(media::JSON, Shape::One(of::<merkle::Root>))])],
        problems: &[PARAMETERS, DISK],
    },
    Operation {
        method: "get",
        path: "/health",
        id: "health",
        about: "How the node stands, in short",
        parameters: &[],
        sent: None,
        answers: &[good(200, "It answers", &[(media::JSON, Shape::One(of::<health::Health>))])],
        problems: &[LOOP],
    },
    Operation {
        method: "get",
        path: "/livez",
        id: "livez",
        about: "Fails only when a restart would help",
        parameters: &[],
        sent: None,
        answers: &[good(200, "It lives", &[(media::JSON, Shape::One(of::<health::Ok200>))])],
        problems: &[&[Code::Stopped]],
    },
    Operation {
        method: "get",
        path: "/readyz",
        id: "readyz",
        about: "Whether clients should be sent here",
        parameters: &[],
        sent: None,
        answers: &[good(200, "They should", &[(media::JSON, Shape::One(of::<health::Ok200>))])],
        problems: &[LOOP, &[Code::Draining, Code::Syncing, Code::DiskFull]],
    },
    Operation {
        method: "get",
        path: "/version",
        id: "version",
        about: "What runs here, and what it serves",
        parameters: &[],
        sent: None,
        answers: &[good(200, "The version", &[(media::JSON, Shape::One(of::<health::Version>))])],
        problems: &[],
    },
    Operation {
        method: "get",
        path: "/status",
        id: "status",
        about: "The node about itself: what it has covered, its peers, its counters",
        parameters: &[],
        sent: None,
        answers: &[good(200, "The status", &[(media::JSON, Shape::One(of::<health::Standing>))])],
        problems: &[LOOP],
    },
    Operation {
        method: "get",
        path: "/metrics",
        id: "metrics",
        about: "Figures for Prometheus",
        parameters: &[],
        sent: None,
        answers: &[good(
            200,
            "OpenMetrics text where it is accepted, else the older form",
            &[(metrics::OPEN_METRICS, Shape::Bytes), (metrics::PLAIN, Shape::Bytes)],
        )],
        problems: &[],
    },
    Operation {
        method: "get",
        path: "/ui",
        id: "ui",
        about: "A page that shows the node",
        parameters: &[],
        sent: None,
        answers: &[good(200, "The page", &[(HTML, Shape::Bytes)])],
        problems: &[],
    },
    Operation {
        method: "get",
        path: "/openapi.json",
        id: "openapi",
        about: "This document",
        parameters: &[],
        sent: None,
        answers: &[good(200, "The document", &[(media::JSON, Shape::Bytes)])],
        problems: &[],
    },
];

/// Under `heads` and `versions` the answer is about the history; else the value is JSON of any kind.
fn history_or_value(generator: &mut SchemaGenerator) -> Schema {
    let (heads, versions) = (of::<history::Heads>(generator), of::<history::Versions>(generator));
    let explained = of::<explain::Explained>(generator);
    json!({ "anyOf": [heads, versions, explained, true] }).try_into().expect("an object is a schema")
}

fn document() -> Json {
    let mut generators = Generators {
        sent: SchemaSettings::draft2020_12().with(plainly).for_deserialize().into_generator(),
        answered: SchemaSettings::draft2020_12().with(plainly).for_serialize().into_generator(),
    };
    let mut paths: BTreeMap<String, Map<String, Json>> = BTreeMap::new();
    for operation in OPERATIONS {
        let described = operation.describe(&mut generators);
        let path = paths.entry(operation.path.replace("{*", "{")).or_default();
        path.insert(operation.method.to_owned(), described);
    }
    let problem = generators.answered.subschema_for::<Document<'static>>();
    let mut schemas = generators.sent.take_definitions(true);
    schemas.extend(generators.answered.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Reknit",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            "description": "A leaderless, eventually consistent key-value store. Any node answers any request.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": {
                (REQUEST_ID.0): header_of(REQUEST_ID.1),
                (RETRY_AFTER.0): header_of(RETRY_AFTER.1),
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Needed once the node has tokens. Scopes: read, write, admin.",
                },
            },
            "responses": {
                "Problem": {
                    "description": "What went wrong",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
        },
    })
}

fn plainly(settings: &mut SchemaSettings) {
    settings.definitions_path = SCHEMAS.into();
    settings.meta_schema = None;
}

struct Generators {
    sent: SchemaGenerator,
    answered: SchemaGenerator,
}

impl Operation {
    fn describe(&self, generators: &mut Generators) -> Json {
        let scope = auth::needs(&self.method.to_uppercase().parse().expect("a method"), self.path);
        let mut described = json!({
            "operationId": self.id,
            "summary": self.about,
            "parameters": self.parameters(),
            "responses": self.responses(generators, scope),
        });
        if let Some(scope) = scope {
            described["security"] = json!([{ "token": [scope.to_string()] }]);
        } else {
            described["security"] = json!([]);
        }
        if let Some(sent) = &self.sent {
            described["requestBody"] = json!({
                "description": sent.about,
                "required": sent.is_required,
                "content": { (sent.media_type): content_of(sent.shape, &mut generators.sent) },
            });
        }
        described
    }

    fn parameters(&self) -> Vec<Json> {
        let key = self.path.contains("{*key}").then(|| {
            json!({
                "name": "key",
                "in": "path",
                "required": true,
                "description": format!("1 to {} bytes, percent-encoded; `/` stands for itself", Key::BYTES_MAX),
                "schema": { "type": "string" },
            })
        });
        let others = self.parameters.iter().map(|parameter| {
            let Parameter { name, place, about, shape } = parameter;
            json!({ "name": name, "in": place, "description": about, "schema": shape() })
        });
        key.into_iter().chain(others).collect()
    }

    fn responses(&self, generators: &mut Generators, scope: Option<Scope>) -> Json {
        let mut responses = Map::new();
        for answer in self.answers {
            responses.insert(answer.status.to_string(), answer.describe(&mut generators.answered));
        }
        for (status, codes) in self.codes(scope) {
            let names: Vec<_> = codes.keys().copied().collect();
            let titles: Vec<_> =
                codes.iter().map(|(name, code)| format!("`{name}`: {}", code.title())).collect();
            let problem = generators.answered.subschema_for::<Document<'static>>();
            let schema = json!({ "allOf": [problem, { "properties": { "code": { "enum": names } } }] });
            let text = titles.join("; ");
            // A status may have a good answer as well.
            let response =
                responses.entry(status.to_string()).or_insert_with(|| json!({ "description": text }));
            if self.method != "head" {
                response["content"]["application/problem+json"] = json!({ "schema": schema });
            }
            response["headers"][REQUEST_ID.0] = shared_header(REQUEST_ID);
            if codes.values().any(|code| code.retry_after().is_some()) {
                response["headers"][RETRY_AFTER.0] = shared_header(RETRY_AFTER);
            }
        }
        Json::Object(responses)
    }

    /// The problems by status, then by name.
    fn codes(&self, scope: Option<Scope>) -> BTreeMap<u16, BTreeMap<&'static str, Code>> {
        // What is decided before the handler.
        let guarded: &[Code] = match scope {
            Some(_) => &[Code::Unauthorized, Code::Forbidden, Code::Busy],
            None => &[],
        };
        let mut all: BTreeMap<u16, BTreeMap<_, _>> = BTreeMap::new();
        // A panic, and heads that two readers could take apart differently.
        let always: &[Code] = &[Code::Internal, Code::BadHeader];
        for code in self.problems.iter().copied().flatten().chain(guarded).chain(always) {
            all.entry(code.status().as_u16()).or_default().insert(code.name(), *code);
        }
        all
    }
}

impl Answer {
    fn describe(&self, generator: &mut SchemaGenerator) -> Json {
        let mut described = json!({ "description": self.about });
        let content = self.content.iter();
        let content: Map<_, _> =
            content.map(|(name, shape)| ((*name).to_owned(), content_of(*shape, generator))).collect();
        if !content.is_empty() {
            described["content"] = Json::Object(content);
        }
        described["headers"] = json!({ (REQUEST_ID.0): shared_header(REQUEST_ID) });
        for (name, about) in self.headers {
            described["headers"][*name] = header_of(about);
        }
        described
    }
}

/// A header that nearly every answer has, described once.
fn shared_header((name, _): (&str, &str)) -> Json {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

fn header_of(about: &str) -> Json {
    json!({ "description": about, "schema": { "type": "string" } })
}

/// Lines are described by the name that OpenAPI 3.2 gives them, which 3.1 lets stand.
fn content_of(shape: Shape, generator: &mut SchemaGenerator) -> Json {
    match shape {
        Shape::One(schema) => json!({ "schema": schema(generator) }),
        Shape::Each(schema) => json!({ "schema": { "type": "string" }, "x-itemSchema": schema(generator) }),
        Shape::Bytes => json!({}),
    }
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;

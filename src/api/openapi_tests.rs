use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderName, Request as HttpRequest};
use bytes::Bytes;
use expect_test::expect_file;
use http_body_util::BodyExt;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tower::ServiceExt;

use super::*;
use crate::api::testbed::{Bed, Setup};
use crate::model::{MemberState, Policies, Policy, Strategy};

/// Routes that are another's name, or not for clients.
const UNDESCRIBED: [&str; 4] = ["/", "/kv/", "/members", "/peer"];

#[test]
fn the_document_in_docs_is_this_one() {
    expect_file!["../../docs/openapi.json"].assert_eq(&text());
}

#[test]
fn every_route_is_described_and_no_other() {
    let described: BTreeSet<_> = OPERATIONS.iter().map(|operation| operation.path).collect();
    let routes = metrics::ROUTES.into_iter().filter(|route| !UNDESCRIBED.contains(route));

    assert_eq!(described, routes.collect());
    let ids: BTreeSet<_> = OPERATIONS.iter().map(|operation| operation.id).collect();
    assert_eq!(ids.len(), OPERATIONS.len(), "an id names one operation");
}

#[tokio::test]
async fn every_parameter_is_known_to_its_route_and_no_other() {
    for operation in OPERATIONS {
        let takes_some = operation.problems.iter().copied().flatten().any(|code| *code == Code::BadParameter);
        // HEAD has no body to list them in; it is served as GET is.
        if !takes_some || operation.method == "head" {
            continue;
        }
        let path = operation.path.replace("{*key}", "k");
        let method = operation.method.to_uppercase();

        let answer = Bed::new().send(&format!("{method} {path}?nonsense=1"), &[], "1").await;

        assert_eq!(answer.problem(), (400, "bad-parameter".into()), "{}", operation.id);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        let known = detail.split_once("known: ").expect("the refusal lists what is known").1;
        let known: BTreeSet<_> = known.split(", ").filter(|name| *name != "none").collect();
        let described = operation.parameters.iter().filter(|parameter| parameter.place == "query");
        assert_eq!(
            described.map(|parameter| parameter.name).collect::<BTreeSet<_>>(),
            known,
            "{}",
            operation.id
        );
    }
}

#[tokio::test]
async fn a_method_that_is_not_described_is_refused() {
    let bed = Bed::new();
    for path in OPERATIONS.iter().map(|operation| operation.path) {
        for method in ["get", "put", "post", "delete", "patch"] {
            if OPERATIONS.iter().any(|operation| operation.path == path && operation.method == method) {
                continue;
            }
            let line = format!("{} {}", method.to_uppercase(), path.replace("{*key}", "k"));

            assert_eq!(bed.ask(&line).await.problem(), (405, "method-not-allowed".into()), "{line}");
        }
    }
}

#[test]
fn the_check_notices_what_the_document_does_not_have() {
    let document = document();
    let put = OPERATIONS.iter().find(|operation| operation.id == "put").unwrap();
    let good = json!({ "uuid": "00000000-0000-8000-8000-000000000000", "timestamp": 1 }).to_string();
    let problem = |code| {
        json!({ "type": "urn:x", "title": "x", "status": 400, "code": code, "detail": "x", "retryable": false, "request_id": "x" }).to_string()
    };

    assert_eq!(check(&document, put, 200, media::JSON, good.as_bytes()), Ok(()));
    assert_eq!(check(&document, put, 400, PROBLEM, problem("bad-key").as_bytes()), Ok(()));
    for (status, media_type, body) in [
        (201, media::JSON, good.as_str()),
        (200, "text/html", good.as_str()),
        (200, media::JSON, r#"{"uuid": 1, "timestamp": 1}"#),
        (200, media::JSON, r#"{"timestamp": 1}"#),
        (400, PROBLEM, problem("no-such-code").as_str()),
        (400, PROBLEM, "{}"),
    ] {
        check(&document, put, status, media_type, body.as_bytes()).unwrap_err();
    }
    let headers =
        |name: &'static str| HeaderMap::from_iter([(HeaderName::from_static(name), "x".parse().unwrap())]);
    assert_eq!(check_headers(&document, put, 200, &headers("x-reknit-acked")), Ok(()));
    assert_eq!(check_headers(&document, put, 503, &headers("retry-after")), Ok(()));
    check_headers(&document, put, 200, &headers("retry-after")).unwrap_err();
    check_headers(&document, put, 200, &headers("x-reknit-siblings")).unwrap_err();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_answer_is_outside_the_document(seeds in prop::collection::vec(any::<u64>(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let document = document();
            let bed = bed();
            bed.put("a", "1").await;
            bed.put("log/x", "[1,2]").await;
            bed.put("cart/x", "1").await;
            bed.put("cart/x", "2").await;
            let other = Bed::new();
            other.put("other", "1").await;
            let exported = other.ask("GET /export").await.text().to_owned();
            for seed in seeds {
                let mut draw = Draw { rng: ChaCha8Rng::seed_from_u64(seed), exported: exported.clone() };
                let operation = draw.of(OPERATIONS);
                let request = draw.request(operation, &document);
                let told = format!("{request:?}");
                let response = bed.router.clone().oneshot(request).await.unwrap();
                let media_type = response.headers().get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap()).to_owned();
                let status = response.status().as_u16();
                if let Err(why) = check_headers(&document, operation, status, response.headers()) {
                    panic!("{told}\nwas answered {status} with {:?}\n{why}", response.headers());
                }
                // A stream of events has no end.
                let body = if media_type.starts_with(EVENT_STREAM) { Bytes::new() } else {
                    let whole = tokio::time::timeout(Duration::from_secs(30), response.into_body().collect());
                    match whole.await.expect("it ends") {
                        Ok(whole) => whole.to_bytes(),
                        // An export that meets a rotten record breaks off, and the client sees that.
                        Err(_) => continue,
                    }
                };
                if let Err(why) = check(&document, operation, status, &media_type, &body) {
                    panic!("{told}\nwas answered {status} {media_type} {}\n{why}", String::from_utf8_lossy(&body));
                }
            }
        });
    }
}

const PROBLEM: &str = "application/problem+json";

/// A node with a member that never answers, one that is down, a rotten record and a history.
fn bed() -> Bed {
    let setup = Setup::new()
        .with_member("node2", MemberState::Down)
        .with_member("node3", MemberState::Alive)
        .with_rotten("rotten");
    let mut setup = setup;
    setup.settings.policies = Policies::new([
        (b"log/".to_vec(), Policy::History(Strategy::Fail)),
        (b"cart/".to_vec(), Policy::Siblings),
    ])
    .unwrap();
    setup.start()
}

/// Whether the document has these headers; only ours, and those that not every answer may have.
fn check_headers(
    document: &Json,
    operation: &Operation,
    status: u16,
    headers: &HeaderMap,
) -> Result<(), String> {
    let path = operation.path.replace("{*", "{");
    let response = &document["paths"][&path][operation.method]["responses"][status.to_string()];
    let described = response["headers"].as_object();
    let described: BTreeSet<_> =
        described.into_iter().flatten().map(|(name, _)| name.to_lowercase()).collect();
    let ours = ["x-reknit-", "x-request-id", "etag", "retry-after", "idempotency-replayed"];
    let mut names =
        headers.keys().map(HeaderName::as_str).filter(|name| ours.iter().any(|own| name.starts_with(own)));
    names
        .find(|name| !described.contains(*name))
        .map_or(Ok(()), |name| Err(format!("{name} is not described")))
}

/// Whether the document has this answer.
fn check(
    document: &Json,
    operation: &Operation,
    status: u16,
    media_type: &str,
    body: &[u8],
) -> Result<(), String> {
    let path = operation.path.replace("{*", "{");
    let responses = &document["paths"][&path][operation.method]["responses"];
    let response = responses.get(status.to_string()).ok_or("no such status")?;
    let Some(content) = response.get("content") else {
        return if body.is_empty() { Ok(()) } else { Err("a body where none is described".into()) };
    };
    let essence = |text: &str| text.split(';').next().unwrap_or_default().trim().to_owned();
    let named = content.as_object().unwrap().iter().find(|(name, _)| essence(name) == essence(media_type));
    let described = named.map(|(_, described)| described).or_else(|| content.get("*/*"));
    let described = described.ok_or("no such media type")?;
    if let Some(schema) = described.get("x-itemSchema") {
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            is_valid(document, schema, line)?;
        }
        return Ok(());
    }
    described.get("schema").map_or(Ok(()), |schema| is_valid(document, schema, body))
}

fn is_valid(document: &Json, schema: &Json, text: &[u8]) -> Result<(), String> {
    let json: Json = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    valid(document, schema, &json)
}

/// Whether a value is what a schema says: the part of JSON Schema that the document uses, and nothing unknown in it.
fn valid(document: &Json, schema: &Json, value: &Json) -> Result<(), String> {
    let rules = match schema {
        Json::Bool(true) => return Ok(()),
        Json::Object(rules) => rules,
        other => return Err(format!("{other} is no schema")),
    };
    let wrong = |what: &str| Err(format!("{value} is not {what}"));
    for (rule, wanted) in rules {
        let list = || wanted.as_array().expect("a list").iter();
        match rule.as_str() {
            "title" | "description" | "format" | "examples" | "default" => {}
            "$ref" => {
                let path = wanted.as_str().expect("a path").trim_start_matches('#');
                let meant = document.pointer(path).ok_or_else(|| format!("{path} leads nowhere"))?;
                valid(document, meant, value)?;
            }
            "type" => {
                let types: Vec<_> =
                    wanted.as_array().map_or_else(|| vec![wanted], |list| list.iter().collect());
                if !types.into_iter().any(|name| is_of_type(value, name.as_str().expect("a name"))) {
                    return wrong(&wanted.to_string());
                }
            }
            "enum" if !list().any(|allowed| allowed == value) => return wrong(&format!("one of {wanted}")),
            "const" if wanted != value => return wrong(&wanted.to_string()),
            "minimum" if value.as_f64() < wanted.as_f64() => return wrong(&format!("at least {wanted}")),
            "maximum" if value.as_f64() > wanted.as_f64() => return wrong(&format!("at most {wanted}")),
            "required" => {
                if let Some(missing) = list().find(|name| value.get(name.as_str().expect("a name")).is_none())
                {
                    return wrong(&format!("complete: {missing} is missing"));
                }
            }
            "properties" => {
                for (name, schema) in wanted.as_object().expect("names") {
                    value.get(name).map_or(Ok(()), |value| valid(document, schema, value))?;
                }
            }
            "additionalProperties" => {
                let known =
                    |name: &String| rules.get("properties").is_some_and(|known| known.get(name).is_some());
                for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| !known(name))
                {
                    if *wanted == Json::Bool(false) {
                        return Err(format!("{name} is not described"));
                    }
                    valid(document, wanted, value)?;
                }
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    valid(document, wanted, item)?;
                }
            }
            "allOf" => list().try_for_each(|schema| valid(document, schema, value))?,
            "anyOf" | "oneOf" => {
                if !list().any(|schema| valid(document, schema, value).is_ok()) {
                    return wrong(&format!("any of {wanted}"));
                }
            }
            "prefixItems" | "minItems" | "maxItems" | "enum" | "const" | "minimum" | "maximum" => {}
            unknown => return Err(format!("the check knows no rule {unknown}")),
        }
    }
    Ok(())
}

fn is_of_type(value: &Json, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("no type {other}"),
    }
}

/// Requests as clients would make them, and as they would not.
struct Draw {
    rng: ChaCha8Rng,
    exported: String,
}

impl Draw {
    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.rng.random_range(0..all.len())]
    }

    fn happens(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn request(&mut self, operation: &Operation, document: &Json) -> HttpRequest<Body> {
        let long = "x".repeat(Key::BYTES_MAX + 10);
        let keys = [
            "a",
            "a",
            "b",
            "log/x",
            "log/y",
            "cart/x",
            "cart/x",
            "cart/y",
            "k%20%25",
            "rotten",
            "a//b",
            "",
            "%ZZ",
            "%00",
            long.as_str(),
        ];
        let path = operation.path.replace("{*key}", self.of::<&str>(&keys));
        let mut query = Vec::new();
        let mut request = HttpRequest::builder().method(operation.method.to_uppercase().as_str());
        let described = &document["paths"][&operation.path.replace("{*", "{")][operation.method];
        for parameter in described["parameters"].as_array().unwrap() {
            if parameter["in"] == "path" || !self.happens(30) {
                continue;
            }
            let name = parameter["name"].as_str().unwrap();
            if parameter["in"] == "header" {
                let texts =
                    ["*", "\"00000000-0000-8000-8000-000000000000\"", "W/\"x\"", "nonsense", "", "now"];
                request = request.header(name, *self.of(&texts));
            } else {
                let value = if self.happens(75) { self.value(&parameter["schema"]) } else { self.nonsense() };
                query.push(format!("{name}={value}"));
            }
        }
        if self.happens(3) {
            query.push("nonsense=1".into());
        }
        for host in self
            .of::<&[&str]>(&[&["node1"], &["node1"], &["node1"], &[], &["a b"], &["node1", "node1"]])
            .iter()
        {
            request = request.header("host", *host);
        }
        if self.happens(5) {
            request = request.header("transfer-encoding", "gzip");
        }
        let body =
            if operation.sent.is_some() || self.happens(5) { self.body(operation.id) } else { Vec::new() };
        if self.happens(50) {
            let types = ["application/json", "text/plain", "application/octet-stream", "nonsense", ""];
            request = request.header("content-type", *self.of(&types));
        }
        if self.happens(3) {
            request = request.header("content-encoding", "gzip");
        }
        if self.happens(20) {
            request = request.header("accept", *self.of(&[EVENT_STREAM, media::JSON, NDJSON, "*/*"]));
        }
        if self.happens(3) {
            request = request.header("origin", "http://elsewhere");
        }
        let uri = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
        let mut request = request.uri(uri).body(Body::from(body)).expect("what is drawn can be sent");
        let from = *self.of(&["127.0.0.1:4000", "127.0.0.1:4000", "10.0.0.1:4000"]);
        request.extensions_mut().insert(ConnectInfo(from.parse::<std::net::SocketAddr>().unwrap()));
        request
    }

    /// What a parameter's schema allows.
    fn value(&mut self, schema: &Json) -> String {
        let texts = |list: &Json| -> Vec<String> {
            list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        if schema.get("enum").is_some() {
            self.of(&texts(&schema["enum"])).clone()
        } else if schema.get("examples").is_some() {
            // Nobody answers here, so every wait is waited out.
            let quick: Vec<_> = texts(&schema["examples"]).into_iter().filter(|text| text != "5s").collect();
            self.of(&quick).clone()
        } else if schema["type"] == "integer" {
            (*self.of(&["0", "1", "2", "10"])).to_owned()
        } else {
            (*self.of(&[
                "a",
                "log/",
                "now",
                "node2",
                "node3",
                "/",
                "b%20",
                "0123456789abcdef0123456789abcdef",
                "",
            ]))
            .to_owned()
        }
    }

    fn nonsense(&mut self) -> String {
        (*self.of(&["", "x", "-1", "0", "99999999999999999999", "%", "%ff", "1e9s", "61d", "2", "%00"]))
            .to_owned()
    }

    fn body(&mut self, id: &str) -> Vec<u8> {
        if self.happens(15) {
            return self.of(&[&b"nonsense"[..], b"{", b"\xff\xfe", b"", b"[]\n[]"]).to_vec();
        }
        match id {
            "batch" => {
                let lines = [
                    r#"{"op":"put","key":"a","value":{"b":[1]}}"#,
                    r#"{"op":"put","key":"log/y","text":"x","ttl":"1h"}"#,
                    r#"{"op":"put","key":"c","base64":"/w==","content_type":"image/png"}"#,
                    r#"{"op":"delete","key":"a","if_match":"00000000-0000-8000-8000-000000000000"}"#,
                    r#"{"op":"get","key":"a"}"#,
                    r#"{"op":"get","key":"a//b"}"#,
                    r#"{"op":"get","key":"rotten"}"#,
                ];
                let count = self.rng.random_range(1..5);
                (0..count).map(|_| *self.of(&lines)).collect::<Vec<_>>().join("\n").into_bytes()
            }
            "import" => self.exported.clone().into_bytes(),
            "join" => br#"{"address":"127.0.0.1:1"}"#.to_vec(),
            "remove" => {
                self.of(&[&br#"{"id":"node2"}"#[..], br#"{"id":"node3"}"#, br#"{"id":"node9"}"#]).to_vec()
            }
            "leave" => b"{}".to_vec(),
            _ => self.of(&[&b"1"[..], br#"{"a":[null]}"#, b"text"]).to_vec(),
        }
    }
}

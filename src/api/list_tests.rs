use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::testbed::{Bed, Setup, problem};
use crate::model::{Dot, Origin, Row, Stamp, WallTime};
use crate::storage::memory::Memory;
use crate::storage::{Batch, Storage};

fn keys(listing: &serde_json::Value) -> Vec<&str> {
    listing["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_listing_shows_json_as_json_and_anything_else_as_base64() {
    let bed = Bed::new();
    let put = bed.put("a/json", "{\"n\": 1e999}").await;
    bed.send("PUT /kv/a/t%20xt", &[("content-type", "text/plain")], "hi").await;
    bed.send("PUT /kv/a/ttl?ttl=1h", &[], "2").await;
    bed.put("b", "3").await;
    bed.put("a/gone", "4").await;
    bed.ask("DELETE /kv/a/gone").await;

    let answer = bed.ask("GET /kv?prefix=a/").await;

    assert_eq!(answer.header("content-type"), "application/json");
    assert!(answer.text().contains("{\"n\": 1e999}"), "{}", answer.text());
    let listing: serde_json::Value = serde_json::from_str(&answer.text().replace("1e999", "1")).unwrap();
    assert_eq!(keys(&listing), ["a/json", "a/t%20xt", "a/ttl"]);
    let first = &listing["items"][0];
    assert_eq!(first["uuid"], put.json()["uuid"]);
    assert_eq!(first["timestamp"], put.json()["timestamp"]);
    assert_eq!(first["content_type"], "application/json");
    assert_eq!(listing["items"][1]["value_base64"], "aGk=");
    assert_eq!(listing["items"][2]["value"], 2);
    assert!(listing["items"][2]["expires_at"].is_u64());
    assert_eq!((&listing["prefixes"], &listing["next"]), (&json!([]), &json!(null)));

    let bare = bed.ask("GET /kv/?prefix=a/t&keys_only").await.json();
    assert_eq!(keys(&bare), ["a/t%20xt", "a/ttl"]);
    for item in bare["items"].as_array().unwrap() {
        assert!(item.get("value").is_none() && item.get("value_base64").is_none(), "{item}");
    }
}

#[tokio::test]
async fn a_listing_in_lines_has_one_order_and_its_cursor_last() {
    let bed = Bed::new();
    for key in ["a/b", "a/d/x", "a/d/y", "a/e"] {
        bed.put(key, "{\"n\":\n 1e999}").await;
    }
    let take = [("accept", NDJSON)];

    let answer = bed.send("GET /kv?prefix=a/&delimiter=/&limit=2&reverse", &take, "").await;

    assert_eq!(answer.header("content-type"), NDJSON);
    let lines: Vec<&str> = answer.text().lines().collect();
    assert_eq!(lines.len(), 3, "{}", answer.text());
    assert!(
        lines[0].starts_with("{\"key\":\"a/e\",") && lines[0].contains("\"value\":{\"n\":1e999}"),
        "{}",
        lines[0]
    );
    assert_eq!(lines[1], "{\"prefix\":\"a/d/\"}");
    let last: serde_json::Value = serde_json::from_str(lines[2]).unwrap();
    let cursor = last["next"].as_str().unwrap();
    let rest = bed
        .send(&format!("GET /kv?prefix=a/&delimiter=/&limit=2&reverse&keys_only&cursor={cursor}"), &take, "")
        .await;
    let lines: Vec<&str> = rest.text().lines().collect();
    assert!(lines[0].starts_with("{\"key\":\"a/b\",") && !lines[0].contains("value"), "{}", lines[0]);
    assert_eq!(lines[1..], ["{\"next\":null}"]);
}

#[tokio::test]
async fn a_listing_goes_on_where_its_cursor_stands() {
    let bed = Bed::new();
    for number in 0..7 {
        bed.put(&format!("k/{number}"), "1").await;
    }

    let first = bed.ask("GET /kv?prefix=k/&limit=3&keys_only=true").await.json();
    let cursor = first["next"].as_str().unwrap();
    let second = bed.ask(&format!("GET /kv?prefix=k/&limit=2&cursor={cursor}")).await.json();

    assert_eq!(keys(&first), ["k/0", "k/1", "k/2"]);
    assert_eq!(keys(&second), ["k/3", "k/4"]);
    let other = bed.ask(&format!("GET /kv?prefix=k&cursor={cursor}")).await;
    assert_eq!(other.problem(), problem(400, "bad-cursor"));
    for bad in ["", "x", "!!", &cursor[..8]] {
        let answer = bed.ask(&format!("GET /kv?prefix=k/&cursor={bad}")).await;
        assert_eq!(answer.problem(), problem(400, "bad-cursor"), "{bad}");
    }
    let backwards = bed.ask("GET /kv?reverse&limit=2&end=k/5&start=k/1").await.json();
    assert_eq!(keys(&backwards), ["k/4", "k/3"]);
}

#[tokio::test]
async fn a_delimiter_folds_keys_into_prefixes() {
    let bed = Bed::new();
    for key in ["a", "d/1", "d/2/3", "d/2/4", "e/1", "f/", "f%20"] {
        bed.put(key, "1").await;
    }

    let top = bed.ask("GET /kv?delimiter=/").await.json();
    assert_eq!(keys(&top), ["a", "f%20"]);
    assert_eq!(top["prefixes"], json!(["d/", "e/", "f/"]));

    let inside = bed.ask("GET /kv?delimiter=/&prefix=/d/").await.json();
    assert_eq!(keys(&inside), ["d/1"]);
    assert_eq!(inside["prefixes"], json!(["d/2/"]));

    bed.ask("DELETE /kv/e/1").await;
    let rest = bed.ask("GET /kv?delimiter=/&prefix=e").await.json();
    assert_eq!((&rest["items"], &rest["prefixes"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn listing_parameters_that_make_no_sense_are_refused() {
    let bed = Bed::new();
    for query in
        ["limit=0", "limit=1001", "limit=x", "reverse=maybe", "delimiter=12345678901234567", "limt=1"]
    {
        let answer = bed.ask(&format!("GET /kv?{query}")).await;
        assert_eq!(answer.problem(), problem(400, "bad-parameter"), "{query}");
    }
    assert_eq!(bed.ask("GET /kv?limit=1001").await.json()["limit"], LIMIT_MAX);
    let long = bed.ask(&format!("GET /kv?prefix={}", "x".repeat(1025))).await;
    assert_eq!(long.problem(), problem(414, "key-too-long"));
}

#[tokio::test]
async fn a_corrupt_record_is_shown_as_such_and_hides_no_other() {
    let bed = Setup::new().with_rotten("b").start();
    bed.put("a", "1").await;
    bed.put("c", "1").await;

    let listing = bed.ask("GET /kv").await.json();

    assert_eq!(keys(&listing), ["a", "b", "c"]);
    assert_eq!(listing["items"][1]["error"], "corrupt-record");
}

fn version(seq: u64, tombstone: bool, expires_at: Option<u64>, value: usize) -> Version {
    Version {
        stamp: Stamp { millis: 1000, counter: 0 },
        dot: Dot { origin: Origin(1), seq },
        author_joined: WallTime(1),
        ruling: 0,
        confirms: None,
        tombstone,
        expires_at: expires_at.map(WallTime),
        content_type: "text/plain".into(),
        value: vec![7; value].into(),
    }
}

fn store(rows: impl IntoIterator<Item = (Key, Version)>) -> Memory {
    let mut store = Memory::default();
    let mut batch = Batch::default();
    for (key, version) in rows {
        rows::put_row(&mut batch, &key, &Row::one(version), &[]);
    }
    store.apply(batch).unwrap();
    store
}

/// Page after page until nothing is left: keys and prefixes in the order shown.
fn walk(
    query: &Query,
    store: &Memory,
    has_time: &mut dyn FnMut() -> bool,
) -> (Vec<String>, Vec<String>, usize) {
    let (mut items, mut prefixes, mut pages) = (Vec::new(), Vec::new(), 0);
    let mut query = query.clone();
    loop {
        let page = query.page(store, &Policies::default(), 1500, has_time).unwrap();
        pages += 1;
        assert!(page.items.len() + page.prefixes.len() <= query.limit);
        for item in &page.items {
            let Item::Live(key, _) = item else { panic!("nothing is rotten") };
            items.push(key.to_string());
        }
        prefixes.extend(page.prefixes.iter().map(|prefix| key::encode(prefix)));
        let Some(position) = page.next else { return (items, prefixes, pages) };
        // Through the text and back, as a client would send it.
        query.after = Some(query.position(query.cursor(&position).as_bytes()).unwrap());
    }
}

/// The same listing the plain way.
fn expected(query: &Query, keys: &[Key]) -> (Vec<String>, Vec<String>) {
    let mut keys = keys.to_vec();
    keys.sort();
    keys.retain(|key| {
        let key = key.as_bytes();
        key.starts_with(&query.prefix)
            && query.start.as_ref().is_none_or(|start| key >= start.as_slice())
            && query.end.as_ref().is_none_or(|end| key < end.as_slice())
    });
    if query.reverse {
        keys.reverse();
    }
    let (mut items, mut prefixes) = (Vec::new(), Vec::<String>::new());
    for key in keys {
        match query.group(key.as_bytes()).map(|group| key::encode(&group)) {
            Some(group) if prefixes.last() == Some(&group) => {}
            Some(group) => prefixes.push(group),
            None => items.push(key.to_string()),
        }
    }
    (items, prefixes)
}

fn any_part() -> impl Strategy<Value = Vec<u8>> {
    vec(prop::sample::select(b"ab/\xff".to_vec()), 0..4)
}

fn any_key() -> impl Strategy<Value = Key> {
    vec(prop::sample::select(b"ab/\xff".to_vec()), 1..7)
        .prop_filter_map("not a key", |bytes| Key::try_from(bytes::Bytes::from(bytes)).ok())
}

fn any_query() -> impl Strategy<Value = Query> {
    let delimiter = prop::sample::select(vec![&b""[..], b"/", b"ab", b"\xff"]);
    let edges = (prop::option::of(any_part()), prop::option::of(any_part()));
    (any_part(), delimiter, edges, 1..8usize, any::<bool>(), any::<bool>()).prop_map(
        |(prefix, delimiter, (start, end), limit, reverse, keys_only)| Query {
            prefix,
            delimiter: delimiter.to_vec(),
            start,
            end,
            limit,
            reverse,
            keys_only,
            after: None,
        },
    )
}

proptest! {
    #[test]
    fn pages_together_are_the_whole_listing(
        rows in btree_map(any_key(), 0..4u8, 0..60),
        query in any_query(),
        hurry in any::<bool>(),
    ) {
        // Of four rows one is deleted and one expired.
        let versions = rows.iter().enumerate().map(|(at, (key, kind))| {
            let expires = (*kind == 1).then_some(1200).or((*kind == 2).then_some(2000));
            (key.clone(), version(at as u64 + 1, *kind == 0, expires, 3))
        });
        let live: Vec<Key> = rows.iter().filter(|(_, kind)| **kind >= 2).map(|(key, _)| key.clone()).collect();

        let (items, prefixes, pages) = walk(&query, &store(versions), &mut || !hurry);

        let (all_items, all_prefixes) = expected(&query, &live);
        prop_assert_eq!(items, all_items);
        prop_assert_eq!(prefixes, all_prefixes);
        prop_assert!(pages <= rows.len() + 1, "every page but the last gets somewhere");
    }

    #[test]
    fn no_text_is_a_cursor_that_panics(bytes in vec(any::<u8>(), 0..40), query in any_query()) {
        let _ = query.position(&bytes);
        let _ = query.position(URL_SAFE_NO_PAD.encode(bytes).as_bytes());
    }
}

#[test]
fn a_page_ends_at_its_bytes_whatever_its_limit() {
    let large = 1 << 20;
    let rows =
        (0..9).map(|n| (Key::from_path(&format!("k{n}")).unwrap(), version(n + 1, false, None, large)));
    let store = store(rows);
    let query = Query { limit: 1000, ..Query::default() };

    let page = query.page(&store, &Policies::default(), 0, &mut || true).unwrap();

    assert_eq!(page.items.len(), 4);
    let (items, _, pages) = walk(&query, &store, &mut || true);
    assert_eq!((items.len(), pages), (9, 3));
}

#[test]
fn a_desert_of_tombstones_is_crossed_in_bounded_steps() {
    let count = SCAN_ROWS_MAX as u64 + 100;
    let rows =
        (0..count).map(|n| (Key::from_path(&format!("k{n:06}")).unwrap(), version(n + 1, true, None, 0)));
    let last = (Key::from_path("z").unwrap(), version(count + 1, false, None, 0));
    let store = store(rows.chain([last]));
    let query = Query { limit: 10, ..Query::default() };

    let page = query.page(&store, &Policies::default(), 0, &mut || true).unwrap();

    assert!(page.items.is_empty() && page.next.is_some());
    let (items, _, pages) = walk(&query, &store, &mut || true);
    assert_eq!((items, pages), (vec!["z".to_owned()], 2));
}

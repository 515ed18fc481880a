use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::api::testbed::{Bed, Setup, problem};

async fn poll(bed: &Bed, query: &str) -> Value {
    let answer = bed.ask(&format!("GET /changes?{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn keys(polled: &Value) -> Vec<String> {
    let changes = polled["changes"].as_array().unwrap().iter();
    changes
        .map(|change| format!("{} {}", change["type"].as_str().unwrap(), change["key"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_poll_goes_on_where_the_last_one_ended() {
    let bed = Bed::new();
    bed.put("a", "1").await;
    bed.put("b", "[ 1,\n 2 ]").await;

    let first = poll(&bed, "").await;
    assert_eq!(keys(&first), ["put a", "put b"]);
    assert_eq!(first["changes"][1]["value"], serde_json::json!([1, 2]));
    assert_eq!((&first["more"], &first["reset"]), (&false.into(), &false.into()));

    bed.ask("DELETE /kv/a").await;
    let second = poll(&bed, &format!("since={}", first["next"].as_str().unwrap())).await;
    assert_eq!(keys(&second), ["delete a"]);
    let third = poll(&bed, &format!("since={}", second["next"].as_str().unwrap())).await;
    assert_eq!(keys(&third), Vec::<String>::new());
    assert_eq!(third["next"], second["next"]);
}

#[tokio::test]
async fn a_poll_that_waits_is_woken_by_a_write_under_its_prefix() {
    let bed = Bed::new();
    let since = poll(&bed, "since=now").await["next"].as_str().unwrap().to_owned();
    let query = format!("since={since}&prefix=cart/&wait=20s");

    let (polled, ()) = tokio::join!(poll(&bed, &query), async {
        bed.put("other", "1").await;
        bed.put("cart/1", "2").await;
    });

    assert_eq!(keys(&polled), ["put cart/1"]);
}

#[tokio::test]
async fn what_is_no_cursor_is_refused() {
    let bed = Bed::new();
    assert_eq!(bed.ask("GET /changes?since=%21").await.problem(), problem(400, "bad-cursor"));
    assert_eq!(bed.ask("GET /changes?since=AAAA").await.problem(), problem(400, "bad-cursor"));
    assert_eq!(bed.ask("GET /changes?limit=0").await.problem(), problem(400, "bad-parameter"));
}

#[tokio::test]
async fn a_cursor_from_elsewhere_that_is_never_covered_begins_anew_and_says_so() {
    let bed = Bed::new();
    bed.put("a", "1").await;
    let stranger: DotSet =
        [crate::model::Dot { origin: crate::model::Origin(9), seq: 1 }].into_iter().collect();
    let cursor = text_of(&stranger).unwrap();

    let at_once = poll(&bed, &format!("since={cursor}")).await;
    assert_eq!((keys(&at_once).len(), at_once["next"].as_str().unwrap()), (0, cursor.as_str()));
    tokio::time::pause();
    let polled = poll(&bed, &format!("since={cursor}&wait=30s")).await;

    assert_eq!(polled["reset"], true);
    assert_eq!(keys(&polled), ["put a"]);
}

/// Reads a stream until it holds `what`.
async fn read_until(body: &mut axum::body::Body, text: &mut String, what: &str) {
    let read = async {
        while !text.contains(what) {
            let Some(frame) = body.frame().await else { panic!("no {what} to the end of {text}") };
            let frame = frame.unwrap();
            text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .unwrap_or_else(|_| panic!("no {what} in {text}"));
}

async fn watch(bed: &Bed, last_id: &str) -> axum::body::Body {
    let request = HttpRequest::builder().uri("/changes").header("accept", EVENT_STREAM);
    let request = request.header("last-event-id", last_id).body(axum::body::Body::empty()).unwrap();
    let response = bed.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], EVENT_STREAM);
    response.into_body()
}

#[tokio::test]
async fn a_stream_tells_what_is_there_then_what_comes_and_goes_on_from_its_last_id() {
    let bed = Bed::new();
    bed.put("a", "1").await;
    let (mut body, mut text) = (watch(&bed, "").await, String::new());

    read_until(&mut body, &mut text, "event: live").await;
    bed.put("b", "2").await;
    read_until(&mut body, &mut text, "\"key\":\"b\"").await;
    drop(body);
    bed.put("c", "3").await;
    let last_id = text.lines().rev().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    let (mut body, mut rest) = (watch(&bed, &last_id).await, String::new());
    read_until(&mut body, &mut rest, "event: live").await;

    assert!(rest.contains("\"key\":\"c\"") && !rest.contains("\"key\":\"a\""), "{rest}");
}

#[tokio::test]
async fn a_node_that_stops_ends_its_streams() {
    let bed = Bed::new();
    let (mut body, mut text) = (watch(&bed, "").await, String::new());
    read_until(&mut body, &mut text, "event: live").await;

    bed.shared.app.stop.cancel();

    let rest = tokio::time::timeout(Duration::from_secs(20), body.collect()).await;
    rest.expect("it ends").unwrap();
}

#[tokio::test]
async fn watches_have_a_bound() {
    let bed = Bed::new();
    let mut held = Vec::new();
    for _ in 0..WATCHES_MAX {
        held.push(watch(&bed, "").await);
    }

    let answer = bed.ask("GET /changes").await;

    assert_eq!(answer.problem(), problem(503, "busy"));
    assert_eq!(answer.header("retry-after"), "1");
    drop(held);
    assert_eq!(bed.ask("GET /changes").await.status, 200);
}

#[tokio::test]
async fn what_watches_are_told_and_do_not_read_is_bounded() {
    let mut setup = Setup::new();
    setup.limits.answers_bytes_max = 600 << 10;
    let bed = setup.start();
    for number in 0..4 {
        bed.put(&format!("k{number}"), &format!("\"{}\"", "x".repeat(200 << 10))).await;
    }
    let watch = || async {
        let request = axum::http::Request::get("/changes").header("accept", EVENT_STREAM);
        bed.router
            .clone()
            .oneshot(request.body(axum::body::Body::empty()).unwrap())
            .await
            .unwrap()
            .into_body()
    };
    let (mut first, mut second, mut text) = (watch().await, watch().await, String::new());
    read_until(&mut first, &mut text, "k1").await;

    let mut told = String::new();
    read_until(&mut second, &mut told, "event: error").await;
    assert!(told.contains("wait for their clients"), "{told}");
    // Whoever takes what it is told is told the rest, and with it goes what it held.
    read_until(&mut first, &mut text, "event: live").await;
    assert_eq!(text.matches("event: put").count(), 4);
    drop(first);
    let (mut third, mut text) = (watch().await, String::new());
    read_until(&mut third, &mut text, "event: live").await;
    assert_eq!(text.matches("event: put").count(), 4);
}

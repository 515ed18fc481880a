use serde_json::Value;

use super::*;
use crate::api::testbed::{Answer, Bed, problem};

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn send(bed: &Bed, name: &str, body: &str) -> Answer {
    bed.send("POST /batch", &[("idempotency-key", name)], body.to_owned()).await
}

#[tokio::test]
async fn each_operation_has_an_answer_of_its_own_in_its_order() {
    let bed = Bed::new();
    let body = r#"
        {"op":"put","key":"a","value":{"x":1}}
        {"op":"put","key":"a","text":"second","content_type":"text/plain"}
        {"op":"put","key":"a","value":3,"if_none_match":"*"}
        {"op":"get","key":"a"}
        {"op":"get","key":"missing"}
        {"op":"put","key":"a//b","value":1}
        {"op":"delete","key":"a"}
    "#;

    let outcomes = lines(&bed.send("POST /batch", &[], body).await);

    let status: Vec<_> = outcomes.iter().map(|outcome| outcome["status"].as_u64().unwrap()).collect();
    assert_eq!(status[..3], [200, 200, 412]);
    assert_eq!(status[4..], [404, 400, 204]);
    assert_eq!(outcomes[2]["code"], "condition-failed");
    assert_eq!(outcomes[5]["code"], "bad-key");
    assert!(outcomes[0]["uuid"].is_string() && outcomes[6]["timestamp"].is_u64(), "{outcomes:?}");
    assert_eq!(bed.ask("GET /kv/a").await.status, 404);
}

#[tokio::test]
async fn a_batch_with_a_broken_line_does_nothing() {
    let bed = Bed::new();
    let answer =
        bed.send("POST /batch", &[], "{\"op\":\"put\",\"key\":\"a\",\"value\":1}\n{\"op\":\"fly\"}").await;

    assert_eq!(answer.problem(), problem(400, "bad-body"));
    assert!(answer.text().contains("line 2"), "{}", answer.text());
    assert_eq!(bed.ask("GET /kv/a").await.status, 404);
}

#[tokio::test]
async fn a_batch_under_a_known_idempotency_key_is_answered_again_and_not_done_again() {
    let bed = Bed::new();
    let body = r#"{"op":"put","key":"a","value":1}"#;
    let first = send(&bed, "one", body).await;
    bed.put("a", "2").await;

    let again = send(&bed, "one", body).await;

    assert_eq!((&again.body, again.header("idempotency-replayed")), (&first.body, "true"));
    assert_eq!(bed.ask("GET /kv/a").await.text(), "2");
    let other = send(&bed, "one", r#"{"op":"put","key":"a","value":3}"#).await;
    assert_eq!(other.problem(), problem(422, "idempotency-key-reused"));
    assert_eq!(lines(&send(&bed, "two", body).await)[0]["status"], 200);
    assert_eq!(bed.ask("GET /kv/a").await.text(), "1");
}

#[tokio::test]
async fn a_batch_has_bounds() {
    let bed = Bed::new();
    let line = "{\"op\":\"get\",\"key\":\"a\"}\n";

    let most = bed.send("POST /batch", &[], line.repeat(ITEMS_MAX)).await;
    assert_eq!(lines(&most).len(), ITEMS_MAX);
    let more = bed.send("POST /batch", &[], line.repeat(ITEMS_MAX + 1)).await;
    assert_eq!(more.problem(), problem(413, "value-too-large"));
    let long = send(&bed, &"n".repeat(KEY_BYTES_MAX + 1), line).await;
    assert_eq!(long.problem(), problem(400, "bad-header"));
}

#[test]
fn what_is_remembered_is_bounded_in_number_and_time() {
    let answered = Answered::default();
    let at = |seconds| Instant(Duration::from_secs(seconds));
    for number in 0..ANSWERED_MAX + 10 {
        let name = number.to_string();
        assert_eq!(answered.begin(&name, [0; 32], at(1)).unwrap(), None);
        answered.end(&name, Some(&Bytes::from_static(b"done")));
    }

    assert_eq!(answered.0.lock().unwrap().pages.len(), ANSWERED_MAX);
    assert!(answered.begin("500", [0; 32], at(2)).unwrap().is_some());
    assert_eq!(answered.begin("500", [0; 32], at(700)).unwrap(), None);
    assert_eq!(answered.0.lock().unwrap().pages.len(), 1);
}

use serde_json::Value;

use super::*;
use crate::api::auth::Tokens;
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

#[tokio::test]
async fn a_batch_under_an_idempotency_key_is_done_to_its_end_though_its_client_goes() {
    let bed = Bed::new();
    let lines: Vec<_> = (0..ITEMS_MAX)
        .map(|number| format!(r#"{{"op":"put","key":"k/{number}","value":1,"if_none_match":"*"}}"#))
        .collect();
    let body = lines.join("\n");
    {
        let mut asked = Box::pin(send(&bed, "one", &body));
        let left = tokio::time::timeout(Duration::from_millis(5), &mut asked).await;
        assert!(left.is_err(), "it takes longer than that");
    }

    let again = loop {
        let again = send(&bed, "one", &body).await;
        if again.status != 503 {
            break again;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };

    assert_eq!(again.header("idempotency-replayed"), "true");
    assert!(self::lines(&again).iter().all(|outcome| outcome["status"] == 200), "each was done once");
}

#[tokio::test]
async fn idempotency_keys_of_different_tokens_are_different_and_only_readers_read() {
    let line = |name: &str, scopes: &str, prefix: &str| {
        crate::api::auth::new_token(name, scopes, prefix, [name.as_bytes()[0]; 32]).unwrap()
    };
    let (alice, alice_line) = line("alice", "read,write", "cart/");
    let (bob, bob_line) = line("bob", "read,write", "bob/");
    let (writer, writer_line) = line("writer", "write", "/cart/");
    let tokens = Tokens::parse(&[alice_line, bob_line, writer_line].join("\n")).unwrap();
    let bed = Bed::guarded(tokens);
    let get = r#"{"op":"get","key":"cart/s"}"#;
    let ask = async |token: &str, body: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", "1")];
        lines(&bed.send("POST /batch", &headers, body.to_owned()).await)[0].clone()
    };
    let put = ask(&writer, r#"{"op":"put","key":"cart/s","value":"secret"}"#).await;
    assert_eq!(put["status"], 200, "a prefix may begin with a slash, as a path does: {put}");

    assert_eq!(ask(&alice, get).await["value"], "secret");
    assert_eq!(ask(&bob, get).await["status"], 403);
    let bearer = format!("Bearer {writer}");
    let read = bed.send("POST /batch", &[("authorization", bearer.as_str())], get.to_owned()).await;
    assert_eq!(lines(&read)[0]["status"], 403, "who may only write reads nothing");
}

#[tokio::test]
async fn null_is_a_value_and_a_media_type_must_be_a_header() {
    let bed = Bed::new();
    let body = r#"
        {"op":"put","key":"n","value":null}
        {"op":"put","key":"t","text":"x","content_type":"text/plain; a\r\nX-Evil: 1"}
        {"op":"get","key":"n","value":null}
    "#;

    let outcomes = lines(&bed.send("POST /batch", &[], body).await);

    let status: Vec<_> = outcomes.iter().map(|outcome| outcome["status"].as_u64().unwrap()).collect();
    assert_eq!(status, [200, 400, 400], "{outcomes:?}");
    assert_eq!(bed.ask("GET /kv/n").await.text(), "null");
}

#[test]
fn what_is_remembered_is_bounded_in_number_and_time() {
    let answered = Answered::default();
    let at = |seconds| Instant(Duration::from_secs(seconds));
    let name = |number: usize| (None, number.to_string());
    assert_eq!(answered.begin(&name(0), [0; 32], at(0)).unwrap(), None);
    for number in 1..ANSWERED_MAX + 10 {
        assert_eq!(answered.begin(&name(number), [0; 32], at(1)).unwrap(), None);
        answered.end(&name(number), Some(&Bytes::from_static(b"done")));
    }

    assert!(answered.0.lock().unwrap().pages.len() <= ANSWERED_MAX + 1);
    assert!(answered.begin(&name(0), [0; 32], at(2)).is_err(), "what is being done is not forgotten");
    assert!(answered.begin(&name(500), [0; 32], at(2)).unwrap().is_some());
    answered.end(&name(0), Some(&Bytes::from_static(b"done")));
    assert_eq!(answered.begin(&name(500), [0; 32], at(700)).unwrap(), None);
    assert_eq!(answered.0.lock().unwrap().pages.len(), 1);
    assert_eq!(answered.0.lock().unwrap().bytes, 0);
}

#[test]
fn what_is_remembered_is_bounded_in_bytes() {
    let answered = Answered::default();
    let large = Bytes::from(vec![b'x'; ANSWERS_BYTES_MAX / 4]);
    for number in 0..9 {
        let name = (None, number.to_string());
        assert_eq!(answered.begin(&name, [0; 32], Instant::default()).unwrap(), None);
        answered.end(&name, Some(&large));
    }

    let book = answered.0.lock().unwrap();
    assert_eq!((book.pages.len(), book.bytes), (4, ANSWERS_BYTES_MAX));
}

#[tokio::test]
async fn a_get_sees_the_writes_before_it_in_the_batch_and_none_behind_it() {
    let bed = Bed::new();
    bed.put("a/b", "\"old\"").await;
    let lines = [
        r#"{"op":"get","key":"a/b"}"#,
        r#"{"op":"put","key":"a/b","value":"new"}"#,
        r#"{"op":"get","key":"a%2Fb"}"#,
        r#"{"op":"get","key":"/a/b"}"#,
        r#"{"op":"delete","key":"a/b"}"#,
        r#"{"op":"get","key":"a/b"}"#,
        r#"{"op":"put","key":"a/b","value":"again"}"#,
    ];

    let answer = bed.send("POST /batch", &[], lines.join("\n")).await;

    let told: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        told.iter().map(|one| (one["index"].as_u64(), one["status"].as_u64(), &one["value"])).collect();
    let value = |text: &str| Value::from(text);
    assert_eq!(
        told.iter().map(|(_, status, value)| (status.unwrap(), (*value).clone())).collect::<Vec<_>>(),
        [
            (200, value("old")),
            (200, Value::Null),
            (200, value("new")),
            (200, value("new")),
            (204, Value::Null),
            (404, Value::Null),
            (200, Value::Null),
        ]
    );
    assert!(told.iter().enumerate().all(|(at, (index, ..))| *index == Some(at as u64)), "{told:?}");
}

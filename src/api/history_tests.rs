use serde_json::{Value, json};

use crate::api::testbed::{Answer, Bed, Setup, problem};
use crate::model::{Policies, Policy, Strategy};

const TEXT: [(&str, &str); 1] = [("content-type", "text/plain")];

fn bed() -> Bed {
    let mut setup = Setup::new();
    let rules = [(b"log/".to_vec(), Policy::History(Strategy::Fail))];
    setup.settings.policies = Policies::new(rules).unwrap();
    setup.start()
}

async fn write(bed: &Bed, line: &str, body: &str) -> Answer {
    let answer = bed.send(line, &TEXT, body.to_owned()).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    answer
}

fn column<'a>(listing: &'a Value, name: &str) -> Vec<&'a Value> {
    listing["versions"].as_array().unwrap().iter().map(|version| &version[name]).collect()
}

#[tokio::test]
async fn a_patch_writes_from_its_offset_on_and_the_past_can_be_read() {
    let bed = bed();
    write(&bed, "PUT /kv/log/k", "red....").await;
    let patched = write(&bed, "PUT /kv/log/k?offset=4", "blue").await;

    let get = bed.ask("GET /kv/log/k").await;
    let listing = bed.ask("GET /kv/log/k?versions").await.json();

    assert_eq!((get.text(), get.header("content-type")), ("red.blue", "text/plain"));
    assert_eq!(get.header("etag"), patched.header("etag"));
    assert_eq!(column(&listing, "kind"), [&json!("patch"), &json!("full")]);
    assert_eq!(column(&listing, "offset"), [&json!(4), &Value::Null]);
    assert_eq!(column(&listing, "size"), [&json!(4), &json!(7)]);
    assert_eq!(column(&listing, "fate"), [&json!("kept"), &json!("kept")]);
    assert_eq!(listing["versions"][0]["parents"][0], listing["versions"][1]["id"]);
    assert_eq!((&listing["count"], &listing["discarded"]), (&json!(2), &json!(0)));

    let first = listing["versions"][1]["id"].as_str().unwrap();
    assert_eq!(bed.ask(&format!("GET /kv/log/k?at={first}")).await.text(), "red....");
}

#[tokio::test]
async fn a_delete_is_a_transaction_and_what_follows_begins_anew() {
    let bed = bed();
    write(&bed, "PUT /kv/log/k", "red").await;
    write(&bed, "DELETE /kv/log/k", "").await;

    assert_eq!(bed.ask("GET /kv/log/k").await.problem(), problem(404, "not-found"));
    write(&bed, "PUT /kv/log/k?offset=1", "x").await;
    assert_eq!(bed.ask("GET /kv/log/k").await.text(), "\0x");
    let listing = bed.ask("GET /kv/log/k?versions&limit=2").await.json();
    assert_eq!(column(&listing, "kind"), [&json!("patch"), &json!("delete")]);
    assert_eq!(listing["count"], 3);
}

#[tokio::test]
async fn the_heads_of_a_key_are_what_the_next_write_is_made_on() {
    let bed = bed();
    write(&bed, "PUT /kv/log/k", "red").await;
    let last = write(&bed, "PUT /kv/log/k", "blue").await;

    let heads = bed.ask("GET /kv/log/k?heads").await.json();

    assert_eq!((&heads["strategy"], &heads["conflict"]), (&json!("fail"), &json!(false)));
    assert_eq!(heads["heads"].as_array().unwrap().len(), 1);
    assert_eq!(heads["heads"][0]["uuid"], last.json()["uuid"]);
}

#[tokio::test]
async fn a_condition_holds_for_the_head_and_no_other() {
    let bed = bed();
    let old = write(&bed, "PUT /kv/log/k", "red").await.header("etag").to_owned();
    let new = write(&bed, "PUT /kv/log/k", "blue").await.header("etag").to_owned();

    let stale = bed.send("PUT /kv/log/k", &[TEXT[0], ("if-match", &old)], "x").await;
    let fresh = bed.send("PUT /kv/log/k", &[TEXT[0], ("if-match", &new)], "x").await;

    assert_eq!(stale.problem(), problem(412, "condition-failed"));
    assert_eq!(fresh.status, 200);
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused_with_the_reason() {
    let bed = bed();
    write(&bed, "PUT /kv/log/k", "red").await;
    write(&bed, "PUT /kv/plain", "red").await;

    for line in [
        "GET /kv/log/k?heads&versions",
        "GET /kv/log/k?limit=3",
        "GET /kv/log/k?versions&limit=0",
        "GET /kv/log/k?versions&limit=10001",
        "GET /kv/log/k?at=12",
        "PUT /kv/log/k?offset=-1",
        "PUT /kv/log/k?offset=+1",
        "PUT /kv/log/k?offset=1&ttl=5s",
    ] {
        assert_eq!(bed.send(line, &TEXT, "x").await.problem(), problem(400, "bad-parameter"), "{line}");
    }
    for line in ["GET /kv/plain?heads", "PUT /kv/plain?offset=1", "PUT /kv/log/k?ttl=5s"] {
        assert_eq!(bed.send(line, &TEXT, "x").await.problem(), problem(400, "policy-refused"), "{line}");
    }
    let far = bed.send("PUT /kv/log/k?offset=18446744073709551615", &TEXT, "x").await;
    assert_eq!(far.problem(), problem(413, "value-too-large"));
    assert_eq!(bed.ask("GET /kv/log/none?versions").await.problem(), problem(404, "not-found"));
    let unknown = format!("GET /kv/log/k?at={:032x}", 7);
    assert_eq!(bed.ask(&unknown).await.problem(), problem(404, "not-found"));
    assert_eq!(bed.ask("GET /kv/log/k").await.text(), "red");
}

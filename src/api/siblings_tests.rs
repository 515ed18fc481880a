//! Policy `siblings` over HTTP, as a client meets it.

use crate::api::testbed::{Answer, Bed, Setup, problem};
use crate::model::{Policies, Policy};
use crate::protocol::siblings::SIBLINGS_MAX;

const TEXT: (&str, &str) = ("content-type", "text/plain");

fn bed() -> Bed {
    let mut setup = Setup::new();
    setup.settings.policies = Policies::new([(b"cart/".to_vec(), Policy::Siblings)]).unwrap();
    setup.start()
}

async fn put(bed: &Bed, key: &str, value: &str, context: &str) -> Answer {
    let headers = [TEXT, ("x-reknit-context", context)];
    let headers = if context.is_empty() { &headers[..1] } else { &headers[..] };
    bed.send(&format!("PUT /kv/{key}"), headers, value.to_owned()).await
}

async fn get(bed: &Bed, key: &str) -> Answer {
    bed.ask(&format!("GET /kv/{key}")).await
}

#[tokio::test]
async fn one_value_is_shown_as_ever_with_a_token() {
    let bed = bed();
    let before = get(&bed, "cart/1").await;
    put(&bed, "cart/1", "red", "").await;

    let read = get(&bed, "cart/1").await;

    assert_eq!(before.problem(), problem(404, "not-found"));
    assert!(!before.header("x-reknit-context").is_empty(), "nothing is something to have seen");
    assert_eq!((read.status.as_u16(), read.text()), (200, "red"));
    assert!(!read.header("x-reknit-context").is_empty());
    assert_eq!(get(&bed, "other").await.header("x-reknit-context"), "", "only siblings have tokens");
}

#[tokio::test]
async fn writes_that_did_not_see_each_other_are_all_shown() {
    let bed = bed();
    put(&bed, "cart/1", "red", "").await;
    put(&bed, "cart/1", "a\r\n--blue", "").await;

    let read = get(&bed, "cart/1").await;

    assert_eq!(read.status, 409);
    assert_eq!(read.header("x-reknit-siblings"), "2");
    let boundary = read.header("content-type").strip_prefix("multipart/mixed; boundary=").unwrap();
    let parts: Vec<&str> = read.text().split(&format!("--{boundary}")).collect();
    assert_eq!((parts.len(), parts[0], parts[3]), (4, "", "--\r\n"));
    assert!(
        parts[1].starts_with("\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nETag: \""),
        "{}",
        parts[1]
    );
    assert!(parts[1].ends_with("\r\n\r\nred\r\n"), "{}", parts[1]);
    assert!(parts[2].ends_with("\r\n\r\na\r\n--blue\r\n"), "{}", parts[2]);
    let head = bed.ask("HEAD /kv/cart/1").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (409, 0));
}

#[tokio::test]
async fn who_accepts_json_gets_the_values_as_json() {
    let bed = bed();
    put(&bed, "cart/1", "red", "").await;
    bed.put("cart/1", r#"{"n":  1}"#).await;

    let read = bed.send("GET /kv/cart/1", &[("accept", "application/json")], "").await;

    let document = read.json();
    assert_eq!((read.status.as_u16(), read.header("content-type")), (409, "application/json"));
    assert_eq!(document["code"], "siblings");
    assert_eq!(document["etag"], read.header("etag"));
    assert_eq!(document["context"], read.header("x-reknit-context"));
    let siblings = document["siblings"].as_array().unwrap();
    assert_eq!(siblings.len(), 2);
    assert_eq!(siblings[0]["value_base64"], "cmVk");
    assert!(read.text().contains(r#""value":{"n":  1}"#), "JSON stands as it was written");
}

#[tokio::test]
async fn a_write_with_the_token_replaces_what_was_seen_and_nothing_else() {
    let bed = bed();
    put(&bed, "cart/1", "red", "").await;
    put(&bed, "cart/1", "blue", "").await;
    let read = get(&bed, "cart/1").await;
    put(&bed, "cart/1", "late", "").await;

    let merged = put(&bed, "cart/1", "purple", read.header("x-reknit-context")).await;

    assert_eq!(merged.status, 200);
    let left = get(&bed, "cart/1").await;
    assert_eq!((left.status.as_u16(), left.header("x-reknit-siblings")), (409, "2"));
    assert!(left.text().contains("late") && left.text().contains("purple"), "{}", left.text());

    let deleted = [("x-reknit-context", left.header("x-reknit-context"))];
    assert_eq!(bed.send("DELETE /kv/cart/1", &deleted, "").await.status, 204);
    assert_eq!(get(&bed, "cart/1").await.status, 404);
}

#[tokio::test]
async fn a_client_goes_on_from_its_own_write_without_reading() {
    let bed = bed();
    let first = put(&bed, "cart/1", "red", "").await;

    put(&bed, "cart/1", "blue", first.header("x-reknit-context")).await;

    assert_eq!(get(&bed, "cart/1").await.text(), "blue");
}

#[tokio::test]
async fn a_delete_without_a_token_deletes_what_this_node_has() {
    let bed = bed();
    put(&bed, "cart/1", "red", "").await;
    put(&bed, "cart/1", "blue", "").await;

    bed.ask("DELETE /kv/cart/1").await;

    assert_eq!(get(&bed, "cart/1").await.problem(), problem(404, "not-found"));
    put(&bed, "cart/1", "green", "").await;
    assert_eq!(get(&bed, "cart/1").await.text(), "green", "the tombstone is not shown beside it");
}

#[tokio::test]
async fn the_tag_of_the_set_is_a_condition_and_as_good_as_a_token() {
    let bed = bed();
    put(&bed, "cart/1", "red", "").await;
    let single = get(&bed, "cart/1").await;
    put(&bed, "cart/1", "blue", "").await;
    let both = get(&bed, "cart/1").await;
    let with =
        |tag: &Answer| [TEXT, ("if-match", tag.header("etag"))].map(|(name, value)| (name, value.to_owned()));
    let stale = with(&single);
    let stale: Vec<(&str, &str)> = stale.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let fresh = with(&both);
    let fresh: Vec<(&str, &str)> = fresh.iter().map(|(name, value)| (*name, value.as_str())).collect();

    let refused = bed.send("PUT /kv/cart/1", &stale, "no").await;
    let known = bed.send("GET /kv/cart/1", &[("if-none-match", both.header("etag"))], "").await;
    let taken = bed.send("PUT /kv/cart/1", &fresh, "purple").await;

    assert_eq!(refused.problem(), problem(412, "condition-failed"));
    assert_eq!(known.status, 304);
    assert_eq!(taken.status, 200);
    assert_eq!(get(&bed, "cart/1").await.text(), "purple");
}

#[tokio::test]
async fn one_sibling_too_many_is_refused_until_somebody_reads() {
    let bed = bed();
    for number in 0..SIBLINGS_MAX {
        assert_eq!(put(&bed, "cart/1", &number.to_string(), "").await.status, 200);
    }

    let refused = put(&bed, "cart/1", "more", "").await;

    assert_eq!(refused.problem(), problem(409, "too-many-siblings"));
    assert_eq!(refused.json()["limit"], 32);
    let read = get(&bed, "cart/1").await;
    assert_eq!(put(&bed, "cart/1", "one", read.header("x-reknit-context")).await.status, 200);
    assert_eq!(get(&bed, "cart/1").await.text(), "one");
}

#[tokio::test]
async fn a_token_of_another_key_or_none_at_all_or_beside_a_condition_is_refused() {
    let bed = bed();
    put(&bed, "cart/1", "red", "").await;
    let read = get(&bed, "cart/1").await;
    let token = read.header("x-reknit-context");
    let long = "A".repeat(5000);

    assert_eq!(put(&bed, "cart/2", "x", token).await.problem(), problem(400, "bad-context"));
    assert_eq!(put(&bed, "cart/1", "x", "AAAA").await.problem(), problem(400, "bad-context"));
    let refused = put(&bed, "cart/1", "x", &long).await;
    assert_eq!((refused.problem(), &refused.json()["limit"]), (problem(400, "bad-context"), &4096.into()));
    let both = [TEXT, ("x-reknit-context", token), ("if-match", "*")];
    assert_eq!(bed.send("PUT /kv/cart/1", &both, "x").await.problem(), problem(400, "bad-header"));
    assert_eq!(get(&bed, "cart/1").await.text(), "red", "nothing was done");
}

#[tokio::test]
async fn a_listing_counts_siblings_and_shows_none_of_them() {
    let bed = bed();
    put(&bed, "cart/1", "red", "").await;
    put(&bed, "cart/2", "red", "").await;
    put(&bed, "cart/2", "blue", "").await;

    let listing = bed.ask("GET /kv?prefix=cart/").await.json();

    let items = listing["items"].as_array().unwrap();
    assert_eq!((items[0]["key"].as_str(), items[0]["value_base64"].as_str()), (Some("cart/1"), Some("cmVk")));
    assert_eq!((items[1]["key"].as_str(), items[1]["siblings"].as_u64()), (Some("cart/2"), Some(2)));
    assert_eq!(items[1]["uuid"], get(&bed, "cart/2").await.header("etag").trim_matches('"'));
}

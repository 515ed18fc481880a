use crate::api::testbed::Bed;

#[tokio::test]
async fn a_read_may_ask_as_many_nodes_as_there_are_and_no_more() {
    let bed = Bed::new();
    bed.send("PUT /kv/a", &[("content-type", "text/plain")], "1").await;

    assert_eq!(bed.ask("GET /kv/a?read=1").await.body, "1");
    assert_eq!(bed.ask("GET /kv/a?read=majority").await.body, "1");
    assert_eq!(bed.ask("GET /kv/a?read=2").await.status, 400);
    assert_eq!(bed.ask("GET /kv/a?read=none").await.status, 400);
    assert_eq!(bed.ask("GET /kv/a?read=0").await.status, 400);
}

#[tokio::test]
async fn a_comparison_needs_a_peer_that_is_there() {
    let bed = Bed::new();

    assert_eq!(bed.ask("POST /sync").await.status, 400);
    let absent = bed.ask("POST /sync?peer=node9&dry_run=1").await;

    assert_eq!(absent.status, 409, "{}", absent.text());
    assert!(bed.ask("GET /status").await.json()["quarantined"].as_array().unwrap().is_empty());
}

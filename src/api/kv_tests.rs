use crate::api::testbed::{Answer, Bed, Setup, problem};
use crate::model::{Key, MemberState, Mode, Version};
use std::time::Duration;

use serde_json::json;

const JSON: &str = "application/json";

#[tokio::test]
async fn what_curl_puts_comes_back_byte_for_byte_as_json() {
    let bed = Bed::new();
    let form = [("content-type", "application/x-www-form-urlencoded")];

    let put = bed.send("PUT /kv/users/john", &form, "{\"name\":  \"John\"}\n").await;
    let get = bed.ask("GET /kv/users/john").await;

    assert_eq!(put.status, 200);
    let uuid = put.json()["uuid"].as_str().unwrap().to_owned();
    assert_eq!(put.header("etag"), format!("\"{uuid}\""));
    assert_eq!(put.json().as_object().unwrap().len(), 2, "{}", put.text());
    assert_eq!(get.status, 200);
    assert_eq!(get.body, "{\"name\":  \"John\"}\n");
    assert_eq!(get.header("content-type"), JSON);
    assert_eq!(get.header("etag"), put.header("etag"));
    assert_eq!(get.header("x-reknit-timestamp"), put.json()["timestamp"].to_string());
    assert_eq!(get.header("x-reknit-node"), "node1");
    assert_eq!(get.header("x-content-type-options"), "nosniff");
    assert_eq!(get.header("content-security-policy"), "sandbox");
    assert_eq!(get.header("content-length"), "18");
}

#[tokio::test]
async fn every_media_type_and_any_bytes_are_kept_exactly() {
    let bed = Bed::new();
    let every_byte: Vec<u8> = (0..=255).collect();
    let types = [
        "text/html; charset=\"iso-8859-1\"",
        "application/octet-stream",
        "application/vnd.me+cbor;a=b;c",
        "IMAGE/Png",
        "text/plain",
    ];
    for (number, content_type) in types.iter().enumerate() {
        let uri = format!("PUT /kv/types/{number}");
        let put = bed.send(&uri, &[("content-type", content_type)], every_byte.clone()).await;
        assert_eq!(put.status, 200, "{content_type}");

        let get = bed.ask(&format!("GET /kv/types/{number}")).await;

        assert_eq!(get.header("content-type"), *content_type);
        assert_eq!(get.body, every_byte);
    }

    let empty = bed.send("PUT /kv/empty", &[("content-type", "text/plain")], "").await;
    assert_eq!(empty.status, 200);
    assert_eq!(bed.ask("GET /kv/empty").await.body, "");
}

#[tokio::test]
async fn json_must_be_json_whoever_says_so() {
    let bed = Bed::new();
    let deep = "[".repeat(200);
    for body in ["", "{", "{\"a\":1}x", "nul", "\u{feff}1", deep.as_str()] {
        for headers in
            [&[][..], &[("content-type", "application/json; charset=utf-8")], &[("content-type", "a/b+JSON")]]
        {
            let answer = bed.send("PUT /kv/a", headers, body.to_owned()).await;
            assert_eq!(answer.problem(), problem(400, "invalid-json"), "{body:?} {headers:?}");
        }
    }
    let not_utf8 = bed.send("PUT /kv/a", &[], b"\"\xff\"".to_vec()).await;
    assert_eq!(not_utf8.problem(), problem(400, "invalid-json"));
    assert_eq!(bed.ask("GET /kv/a").await.problem(), problem(404, "not-found"));
}

#[tokio::test]
async fn a_media_type_that_cannot_be_kept_is_refused() {
    let bed = Bed::new();
    let long = format!("text/{}", "x".repeat(251));
    for content_type in ["", "json", "text/", "/plain", "text/a b", long.as_str()] {
        let answer = bed.send("PUT /kv/a", &[("content-type", content_type)], "1").await;
        assert_eq!(answer.problem(), problem(400, "bad-header"), "{content_type}");
    }
    let twice = [("content-type", "text/plain"), ("content-type", "text/html")];
    assert_eq!(bed.send("PUT /kv/a", &twice, "1").await.problem(), problem(400, "bad-header"));
    let zipped = bed.send("PUT /kv/a", &[("content-encoding", "gzip")], "1").await;
    assert_eq!(zipped.problem(), problem(415, "content-encoding"));
    let part = bed.send("PUT /kv/a", &[("content-range", "bytes 0-0/2")], "1").await;
    assert_eq!(part.problem(), problem(400, "bad-header"));
}

#[tokio::test]
async fn keys_are_paths_of_any_bytes_decoded_once() {
    let bed = Bed::new();
    bed.put("a%2Fb/%C3%BC%ff%2541", "1").await;

    assert_eq!(bed.ask("GET /kv/a/b/%c3%bc%FF%2541").await.body, "1");
    assert_eq!(bed.ask("GET /kv//a/b/%c3%bc%FF%2541").await.body, "1");
    assert_eq!(bed.ask("GET /kv/a/b/%c3%bc%FFA").await.status, 404);
    bed.put("dir/", "2").await;
    assert_eq!(bed.ask("GET /kv/dir").await.status, 404);
    assert_eq!(bed.ask("GET /kv/dir/").await.body, "2");
}

#[tokio::test]
async fn what_is_no_key_is_refused_for_every_method() {
    let bed = Bed::new();
    let long = "x".repeat(Key::BYTES_MAX + 1);
    for method in ["GET", "PUT", "DELETE"] {
        for path in ["a//b", "a/../b", "%2e", "a%00", "a%2", "a%zz"] {
            let answer = bed.send(&format!("{method} /kv/{path}"), &[], "1").await;
            assert_eq!(answer.problem(), problem(400, "bad-key"), "{method} {path}");
        }
        let answer = bed.send(&format!("{method} /kv/{long}"), &[], "1").await;
        assert_eq!(answer.problem(), problem(414, "key-too-long"));
        assert_eq!(answer.json()["limit"], Key::BYTES_MAX);
    }
    for method in ["PUT", "DELETE"] {
        let answer = bed.send(&format!("{method} /kv/"), &[], "1").await;
        assert_eq!(answer.problem(), problem(400, "bad-key"));
    }
    bed.put(&"x".repeat(Key::BYTES_MAX), "1").await;
}

#[tokio::test]
async fn a_value_may_have_a_mebibyte_and_no_byte_more() {
    let bed = Bed::new();
    let octets = [("content-type", "application/octet-stream")];
    let largest = vec![7; Version::VALUE_BYTES_MAX];
    let put = bed.send("PUT /kv/large", &octets, largest.clone()).await;
    assert_eq!(put.status, 200);
    assert_eq!(bed.ask("GET /kv/large").await.body, largest);

    let larger = bed.send("PUT /kv/larger", &octets, vec![7; Version::VALUE_BYTES_MAX + 1]).await;
    assert_eq!(larger.problem(), problem(413, "value-too-large"));
    assert_eq!(larger.json()["limit"], Version::VALUE_BYTES_MAX);
    assert_eq!(bed.ask("GET /kv/larger").await.status, 404);
}

#[tokio::test]
async fn a_body_without_a_length_is_cut_off_where_it_passes_the_limit() {
    let mut setup = Setup::new();
    setup.limits.value_bytes_max = 1000;
    let bed = setup.start();
    let endless =
        futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[7; 100])));

    let answer = bed.send("PUT /kv/a", &[], axum::body::Body::from_stream(endless)).await;

    assert_eq!(answer.problem(), problem(413, "value-too-large"));
    assert_eq!(answer.json()["limit"], 1000);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let bed = Bed::new();
    let never = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();

    let answer = bed.send("PUT /kv/a", &[], axum::body::Body::from_stream(never)).await;

    assert_eq!(answer.problem(), problem(408, "body-timeout"));
}

#[tokio::test]
async fn a_body_that_breaks_off_writes_nothing() {
    let bed = Bed::new();
    let parts = [Ok(bytes::Bytes::from_static(b"1")), Err(std::io::Error::other("gone"))];
    let broken = axum::body::Body::from_stream(futures_util::stream::iter(parts));

    let answer = bed.send("PUT /kv/a", &[], broken).await;

    assert_eq!(answer.problem(), problem(400, "bad-body"));
    assert_eq!(bed.ask("GET /kv/a").await.status, 404);
}

#[tokio::test]
async fn delete_is_204_always_and_what_is_deleted_is_not_found() {
    let bed = Bed::new();
    bed.put("a", "1").await;

    let first = bed.ask("DELETE /kv/a").await;
    assert_eq!((first.status.as_u16(), first.text()), (204, ""));
    assert!(!first.header("x-reknit-timestamp").is_empty());
    assert_eq!(bed.ask("GET /kv/a").await.problem(), problem(404, "not-found"));
    assert_eq!(bed.ask("DELETE /kv/a").await.status, 204);
    assert_eq!(bed.ask("DELETE /kv/never").await.status, 204);

    bed.put("a", "2").await;
    assert_eq!(bed.ask("GET /kv/a").await.body, "2");
}

#[tokio::test]
async fn head_tells_all_but_the_bytes() {
    let bed = Bed::new();
    bed.put("a", "123").await;

    let head = bed.ask("HEAD /kv/a").await;
    let get = bed.ask("GET /kv/a").await;

    assert_eq!((head.status.as_u16(), head.text()), (200, ""));
    for name in ["content-length", "content-type", "etag", "x-reknit-timestamp"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    let missing = bed.ask("HEAD /kv/b").await;
    assert_eq!((missing.status.as_u16(), missing.text()), (404, ""));
    assert_eq!(missing.header("content-type"), "application/problem+json");
}

#[tokio::test]
async fn a_reader_that_has_the_version_gets_304() {
    let bed = Bed::new();
    let etag = bed.put("a", "1").await.header("etag").to_owned();

    for known in [etag.as_str(), &format!("W/{etag}"), &format!("\"x\", {etag}"), "*"] {
        let answer = bed.send("GET /kv/a", &[("if-none-match", known)], "").await;
        assert_eq!((answer.status.as_u16(), answer.text()), (304, ""), "{known}");
        assert_eq!(answer.header("etag"), etag);
    }
    assert_eq!(bed.send("GET /kv/a", &[("if-none-match", "\"x\"")], "").await.status, 200);
    assert_eq!(bed.send("GET /kv/a", &[("if-match", &etag)], "").await.status, 200);
    let other = bed.send("GET /kv/a", &[("if-match", "\"x\"")], "").await;
    assert_eq!(other.problem(), problem(412, "condition-failed"));
    let weak = bed.send("GET /kv/a", &[("if-match", &format!("W/{etag}"))], "").await;
    assert_eq!(weak.problem(), problem(412, "condition-failed"));
    let missing = bed.send("GET /kv/b", &[("if-match", "*")], "").await;
    assert_eq!(missing.problem(), problem(412, "condition-failed"));
    let nonsense = bed.send("GET /kv/a", &[("if-none-match", "x")], "").await;
    assert_eq!(nonsense.problem(), problem(400, "bad-header"));
}

async fn put(bed: &Bed, headers: &[(&str, &str)], body: &'static str) -> Answer {
    bed.send("PUT /kv/a", headers, body).await
}

async fn delete(bed: &Bed, headers: &[(&str, &str)]) -> Answer {
    bed.send("DELETE /kv/a", headers, "").await
}

#[tokio::test]
async fn conditional_writes_happen_only_when_the_condition_holds() {
    let bed = Bed::new();
    let absent = [("if-none-match", "*")];
    let present = [("if-match", "*")];

    assert_eq!(put(&bed, &present, "0").await.problem(), problem(412, "condition-failed"));
    let first = put(&bed, &absent, "1").await;
    assert_eq!(first.status, 200);
    assert_eq!(put(&bed, &absent, "0").await.problem(), problem(412, "condition-failed"));

    let old = first.header("etag").to_owned();
    let matches = [("if-match", old.as_str())];
    assert_eq!(put(&bed, &matches, "2").await.status, 200);
    let failed = put(&bed, &matches, "0").await;
    assert_eq!(failed.problem(), problem(412, "condition-failed"));
    assert_eq!(bed.ask("GET /kv/a").await.body, "2");
    assert_eq!(put(&bed, &[("if-none-match", old.as_str())], "3").await.status, 200);

    let now = bed.ask("GET /kv/a").await.header("etag").to_owned();
    let weak = format!("W/{now}");
    assert_eq!(put(&bed, &[("if-match", weak.as_str())], "0").await.status, 412);
    assert_eq!(delete(&bed, &matches).await.problem(), problem(412, "condition-failed"));
    assert_eq!(bed.ask("GET /kv/a").await.body, "3");
    assert_eq!(delete(&bed, &[("if-match", now.as_str())]).await.status, 204);
    assert_eq!(delete(&bed, &present).await.problem(), problem(412, "condition-failed"));
    assert_eq!(put(&bed, &[("if-match", "nonsense")], "0").await.problem(), problem(400, "bad-header"));
}

#[tokio::test]
async fn a_value_with_a_time_to_live_is_gone_after_it() {
    let bed = Bed::new();
    assert_eq!(bed.send("PUT /kv/a?ttl=1h", &[], "1").await.status, 200);
    bed.clock.advance(Duration::from_secs(3590));
    assert_eq!(bed.ask("GET /kv/a").await.status, 200);

    bed.clock.advance(Duration::from_secs(20));

    assert_eq!(bed.ask("GET /kv/a").await.problem(), problem(404, "not-found"));
    assert_eq!(bed.send("PUT /kv/a", &[("if-none-match", "*")], "2").await.status, 200);
}

#[tokio::test]
async fn a_wall_clock_that_went_back_does_not_bring_expired_values_back() {
    let bed = Bed::new();
    bed.send("PUT /kv/a?ttl=30s", &[], "1").await;
    bed.clock.advance(Duration::from_secs(40));
    bed.put("later", "1").await;
    assert_eq!(bed.ask("GET /kv/a").await.status, 404);

    bed.clock.go_back(Duration::from_secs(40));

    assert_eq!(bed.ask("GET /kv/a").await.problem(), problem(404, "not-found"));
}

#[tokio::test]
async fn parameters_that_make_no_sense_are_refused() {
    let bed = Bed::new();
    let refused = [
        "PUT /kv/a?akc=1",
        "PUT /kv/a?ack=0",
        "PUT /kv/a?ack=70000",
        "PUT /kv/a?ack=all",
        "PUT /kv/a?ack=1&ack=2",
        "PUT /kv/a?timeout=5",
        "PUT /kv/a?timeout=61s",
        "PUT /kv/a?ttl=0s",
        "PUT /kv/a?ttl=4000d",
        "PUT /kv/a?ttl=%zz",
        "DELETE /kv/a?ttl=1s",
        "GET /kv/a?ack=local",
        "HEAD /kv/a?x",
    ];
    for line in refused {
        let answer = bed.send(line, &[], "1").await;
        assert_eq!(answer.status, 400, "{line}");
        if !line.starts_with("HEAD") {
            assert_eq!(answer.problem(), problem(400, "bad-parameter"), "{line}");
        }
    }
    assert_eq!(bed.ask("GET /kv/a").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_are_counted_and_named_when_they_are_missing() {
    let bed = Setup::new().with_member("node2", MemberState::Alive).start();
    for (ack, told) in [("local", json!(null)), ("1", json!(1))] {
        let put = bed.send(&format!("PUT /kv/a?ack={ack}"), &[], "1").await;
        assert_eq!((put.status.as_u16(), put.header("x-reknit-acked")), (200, "1"));
        assert_eq!(put.json()["acked"], told, "told where it was asked for");
        let delete = bed.ask(&format!("DELETE /kv/a?ack={ack}")).await;
        assert_eq!((delete.status.as_u16(), delete.header("x-reknit-acked")), (204, "1"));
    }

    let above = bed.send("PUT /kv/b?ack=3", &[], "1").await;
    assert_eq!(above.problem(), problem(400, "ack-above-members"));
    assert_eq!(above.json()["limit"], 2);
    assert_eq!(bed.ask("GET /kv/b").await.status, 404);

    for ack in ["2", "majority"] {
        let late = bed.send(&format!("PUT /kv/c?ack={ack}&timeout=50ms"), &[], "7").await;
        assert_eq!(late.problem(), problem(504, "ack-timeout"));
        let document = late.json();
        assert_eq!((&document["acked"], &document["asked"]), (&1.into(), &2.into()));
        assert_eq!(document["retryable"], true);
        let get = bed.ask("GET /kv/c").await;
        assert_eq!(get.body, "7");
        assert_eq!(get.header("etag"), format!("\"{}\"", document["uuid"].as_str().unwrap()));
    }
    let delete = bed.ask("DELETE /kv/c?ack=2&timeout=50ms").await;
    assert_eq!(delete.problem(), problem(504, "ack-timeout"));
    assert_eq!(bed.ask("GET /kv/c").await.status, 404);
}

#[tokio::test]
async fn a_read_only_node_reads_and_says_where_to_write() {
    let mut setup = Setup::new();
    setup.settings.mode = Mode::ReadOnly;
    let bed = setup.start();
    for line in ["PUT /kv/a", "DELETE /kv/a"] {
        let answer = bed.send(line, &[], "1").await;
        assert_eq!(answer.problem(), problem(503, "read-only"), "{line}");
        assert_eq!(answer.header("retry-after"), "5");
        assert_eq!(answer.json()["retryable"], true);
    }
    assert_eq!(bed.ask("GET /kv/a").await.status, 404);
}

#[tokio::test]
async fn a_record_that_fails_its_checksum_is_no_value_and_no_absence() {
    let bed = Setup::new().with_rotten("a").start();

    assert_eq!(bed.ask("GET /kv/a").await.problem(), problem(500, "corrupt-record"));

    let metrics = bed.ask("GET /metrics").await;
    assert!(metrics.text().contains("reknit_corrupt_reads_total 1\n"), "{}", metrics.text());
    bed.put("a", "1").await;
    assert_eq!(bed.ask("GET /kv/a").await.body, "1");
}

#[tokio::test]
async fn reads_say_so_while_the_disk_is_away() {
    let bed = Bed::new();
    bed.put("a", "1").await;

    bed.reader.set(None);

    assert_eq!(bed.ask("GET /kv/a").await.problem(), problem(500, "storage-failed"));
    assert_eq!(bed.ask("GET /kv").await.problem(), problem(500, "storage-failed"));
}

use super::testbed::{Bed, Setup, problem};
use super::*;
use crate::model::MemberState;
use futures_util::FutureExt;
use serde_json::json;

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let bed = Bed::new();
    for path in ["/nothing", "/kvx", "/members/x", "/health/"] {
        assert_eq!(bed.ask(&format!("GET {path}")).await.problem(), problem(404, "no-route"), "{path}");
    }
    for (line, allowed) in
        [("POST /kv/a", "GET,HEAD,PUT,DELETE"), ("DELETE /health", "GET,HEAD"), ("GET /members/join", "POST")]
    {
        let answer = bed.ask(line).await;
        assert_eq!(answer.problem(), problem(405, "method-not-allowed"), "{line}");
        assert_eq!(answer.header("allow"), allowed);
    }
}

#[tokio::test]
async fn a_request_id_is_taken_or_made_and_comes_back() {
    let bed = Bed::new();
    let given = bed.send("GET /version", &[("x-request-id", "ab-1:2")], "").await;
    assert_eq!(given.header("x-request-id"), "ab-1:2");

    let made = bed.ask("GET /nothing").await;
    let next = bed.ask("GET /nothing").await;
    assert!(made.header("x-request-id").starts_with("node1-"));
    assert_ne!(made.header("x-request-id"), next.header("x-request-id"));

    for odd in ["", "a b", "<script>", &"x".repeat(129)] {
        let answer = bed.send("GET /version", &[("x-request-id", odd)], "").await;
        assert!(answer.header("x-request-id").starts_with("node1-"), "{odd}");
    }
}

#[tokio::test]
async fn a_handler_that_panics_answers_500_and_the_node_goes_on() {
    async fn panics() -> Problem {
        panic!("on purpose")
    }
    let (mailbox, _letters) = crate::driver::mailbox();
    let mut bed = Bed::without_node(mailbox);
    bed.router = dress(routes().route("/panic", get(panics)), Arc::clone(&bed.shared));

    assert_eq!(bed.ask("GET /panic").await.problem(), problem(500, "internal"));
    assert_eq!(bed.ask("GET /version").await.status, 200);
}

#[tokio::test]
async fn a_browser_at_the_root_is_led_to_the_page() {
    let answer = Bed::new().ask("GET /").await;
    assert_eq!(answer.status, 307);
    assert_eq!(answer.headers["location"], "/ui");
}

#[tokio::test]
async fn health_and_version_say_who_this_is() {
    let bed = Setup::new().with_member("node2", MemberState::Alive).start();
    let health = bed.ask("GET /health").await.json();
    assert_eq!(health, json!({"status": "ok", "mode": "normal", "member_count": 2, "node_id": "node1"}));
    let version = bed.ask("GET /version").await.json();
    assert_eq!(version["name"], "reknit");
    assert_eq!(version["version"], "1.2.3");
    assert_eq!(version["protocol_version"], 1);
    let routes: Vec<&str> = version["routes"].as_array().unwrap().iter().flat_map(|r| r.as_str()).collect();
    assert!(routes.contains(&"/kv/{*key}"), "clients learn what this node can do: {routes:?}");
    assert_eq!(bed.ask("GET /livez").await.json(), json!({"status": "ok"}));
    assert_eq!(bed.ask("GET /readyz").await.json(), json!({"status": "ok"}));
}

#[tokio::test]
async fn a_draining_node_reads_on_and_is_not_ready() {
    let bed = Bed::new();
    bed.put("a", "1").await;
    bed.mailbox.ask(Request::Drain).await.unwrap();

    let ready = bed.ask("GET /readyz").await;

    assert_eq!(ready.problem(), problem(503, "draining"));
    assert_eq!(ready.header("retry-after"), "5");
    assert_eq!(bed.ask("GET /livez").await.status, 200);
    assert_eq!(bed.ask("GET /health").await.json()["status"], "draining");
    assert_eq!(bed.ask("GET /kv/a").await.body, "1");
    assert_eq!(bed.send("PUT /kv/a", &[], "2").await.problem(), problem(503, "draining"));
}

#[tokio::test]
async fn a_node_that_stopped_is_not_alive() {
    let (mailbox, letters) = crate::driver::mailbox();
    let bed = Bed::without_node(mailbox);
    drop(letters);

    for path in ["/livez", "/readyz", "/health", "/status", "/members"] {
        let answer = bed.ask(&format!("GET {path}")).await;
        assert_eq!(answer.problem(), problem(503, "stopped"), "{path}");
        assert_eq!(answer.header("retry-after"), "1");
    }
    let put = bed.send("PUT /kv/a", &[], "1").await;
    assert_eq!(put.problem(), problem(503, "stopped"));
    let metrics = bed.ask("GET /metrics").await;
    assert!(metrics.text().contains("reknit_node_answers 0\n"), "{}", metrics.text());
}

#[tokio::test]
async fn a_node_with_a_full_mailbox_is_busy_and_alive() {
    let (mailbox, _letters) = crate::driver::mailbox();
    let bed = Bed::without_node(mailbox.clone());
    for _ in 0..crate::driver::MAILBOX_MAX {
        // The asker gives up at once; the letter stays.
        assert!(mailbox.ask(Request::Status).now_or_never().is_none());
    }

    let put = bed.send("PUT /kv/a", &[], "1").await;

    assert_eq!(put.problem(), problem(503, "busy"));
    assert_eq!(put.header("retry-after"), "1");
    assert_eq!(put.json()["limit"], crate::driver::MAILBOX_MAX);
    assert_eq!(bed.ask("GET /livez").await.status, 200);
    assert_eq!(bed.ask("GET /readyz").await.problem(), problem(503, "busy"));
}

#[tokio::test]
async fn a_node_without_room_refuses_before_it_looks_and_tells_the_same_as_after() {
    let mut setup = Setup::new();
    setup.limits.requests_max = 0;
    let bed = setup.start();

    let at_the_door = bed.send("PUT /kv/a", &[("x-request-id", "mine")], "1").await;
    let inside = bed.send("POST /batch", &[("x-request-id", "mine")], "[]").await;

    assert_eq!(at_the_door.problem(), problem(503, "busy"));
    assert_eq!(at_the_door.json(), inside.json());
    for name in ["retry-after", "content-type", "content-length", "x-request-id"] {
        assert_eq!(at_the_door.header(name), inside.header(name), "{name}");
    }
    let head = bed.ask("HEAD /kv/a").await;
    assert_eq!((head.status.as_u16(), head.text()), (503, ""));
    assert_eq!(bed.ask("GET /livez").await.status, 200);
    let metrics = bed.ask("GET /metrics").await;
    let line = r#"reknit_http_requests_total{route="/kv/{*key}",method="PUT",code="503"} 1"#;
    assert!(metrics.text().contains(line), "{}", metrics.text());
}

/// A body of which nothing comes.
fn silent() -> Body {
    Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>())
}

#[tokio::test]
async fn clients_that_send_no_body_keep_nobody_out() {
    let mut setup = Setup::new();
    setup.limits.requests_max = 1;
    setup.limits.bodies_bytes_max = 2 << 10;
    let bed = setup.start();
    let mut silent: Vec<_> = ["PUT /kv/s", "POST /batch", "POST /members/mode"]
        .into_iter()
        .map(|line| Box::pin(bed.send(line, &[("content-length", "1000000")], silent())))
        .collect();
    for asked in &mut silent {
        assert!(asked.now_or_never().is_none(), "it waits for its body");
    }

    bed.put("a", "1").await;
    assert_eq!(bed.ask("GET /kv/a").await.text(), "1");
}

#[tokio::test]
async fn bodies_take_room_as_they_come() {
    let mut setup = Setup::new();
    setup.limits.bodies_bytes_max = 200 << 10;
    let bed = setup.start();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let parts = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|part| (part, receiver))
    });
    let mut half = Box::pin(bed.send("PUT /kv/half", &[], Body::from_stream(parts)));
    sender.send(Ok(Bytes::from(vec![b' '; 100 << 10]))).await.unwrap();
    assert!((&mut half).now_or_never().is_none());

    let other = bed.send("PUT /kv/other", &[], " ".repeat(150 << 10)).await;

    assert_eq!(other.problem(), problem(503, "busy"));
    assert_eq!(other.json()["limit"], 200 << 10);
    sender.send(Ok(Bytes::from_static(b"1"))).await.unwrap();
    drop(sender);
    assert_eq!(half.await.status, 200, "it had its room");
    assert_eq!(bed.send("PUT /kv/other", &[], format!("1{}", " ".repeat(150 << 10))).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_answer_is_not_waited_for_for_ever() {
    let (mailbox, _letters) = crate::driver::mailbox();
    let bed = Bed::without_node(mailbox);

    let put = bed.send("PUT /kv/a", &[], "1").await;

    assert_eq!(put.problem(), problem(504, "no-answer"));
    assert_eq!(put.json()["retryable"], true);
    assert_eq!(bed.ask("GET /readyz").await.problem(), problem(503, "busy"));
    assert_eq!(bed.ask("GET /livez").await.status, 200);
    assert!(bed.ask("GET /metrics").await.text().contains("reknit_node_answers 0\n"));
}

#[tokio::test]
async fn status_tells_how_this_node_stands() {
    let bed = Setup::new().with_member("node2", MemberState::Alive).start();
    bed.put("a", "1").await;

    let status = bed.ask("GET /status").await.json();

    assert_eq!(status["node"]["id"], "node1");
    assert_eq!(
        (&status["member_count"], &status["origins"], &status["dots_seen"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(status["peers"][0]["id"], "node2");
    assert!(status["peers"][0]["stream"].is_string() && status["peers"][0]["in_step"].is_boolean());
    assert!(status["high_water"]["millis"].as_u64().unwrap() >= 1_800_000_000_000);
    assert_eq!(status["seen_hash"].as_str().unwrap().len(), 16);
    assert!(status["counters"].is_object());
}

#[tokio::test]
async fn metrics_count_answers_by_route_and_show_the_node() {
    let bed = Setup::new().with_member("node2", MemberState::Alive).start();
    bed.put("a/b", "1").await;
    bed.ask("GET /kv/a/b").await;
    bed.ask("GET /kv/x").await;
    bed.ask("GET /whatever/a/b").await;
    bed.ask("BREW /kv/x").await;

    let metrics = bed.send("GET /metrics", &[("accept", "application/openmetrics-text")], "").await;

    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    let text = metrics.text();
    for line in [
        "reknit_http_requests_total{route=\"/kv/{*key}\",method=\"PUT\",code=\"200\"} 1",
        "reknit_http_requests_total{route=\"/kv/{*key}\",method=\"GET\",code=\"404\"} 1",
        "reknit_http_requests_total{route=\"/kv/{*key}\",method=\"other\",code=\"405\"} 1",
        "reknit_http_requests_total{route=\"none\",method=\"GET\",code=\"404\"} 1",
        "reknit_http_request_duration_seconds_count{route=\"/kv/{*key}\"} 4",
        "reknit_build_info{version=\"1.2.3\",node=\"node1\"} 1",
        "reknit_node_answers 1",
        "reknit_dots_seen 1",
        "reknit_members{state=\"alive\"} 2",
        "reknit_members{state=\"down\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(text.matches("# EOF").count(), 1);

    let plain = bed.ask("GET /metrics").await;
    assert!(plain.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(plain.text().contains("# TYPE reknit_http_requests_total counter"), "{}", plain.text());
    assert!(!plain.text().contains("# EOF") && !plain.text().contains("# UNIT"));
}

#[tokio::test]
async fn the_root_is_that_of_the_live_versions() {
    let bed = Bed::new();
    let root = || bed.ask("GET /merkle_tree/root");
    let empty = root().await.json();
    assert_eq!(empty, json!({"hash": "0".repeat(32), "count": 0}));

    bed.put("a", "1").await;
    let one = root().await.json();
    assert_eq!(one["count"], 1);
    assert_ne!(one["hash"], empty["hash"]);
    bed.send("PUT /kv/b?ttl=10s", &[], "1").await;
    let two = root().await.json();
    bed.clock.advance(Duration::from_secs(11));
    let expired = root().await.json();
    assert_eq!((&two["count"], &expired["count"]), (&json!(2), &json!(1)));
    assert_eq!(two["hash"], expired["hash"], "expiry changes reads only");

    bed.ask("DELETE /kv/b").await;
    assert_eq!(root().await.json(), one);
    bed.ask("DELETE /kv/a").await;
    assert_eq!(root().await.json(), empty);
}

#[tokio::test]
async fn the_root_is_keyed_by_the_cluster_secret_and_covers_many_pages() {
    let mut roots = Vec::new();
    for secret in ["", "sesame"] {
        let mut setup = Setup::new();
        setup.secret = secret.into();
        let bed = setup.start();
        for number in 0..50 {
            bed.put(&format!("k/{number}"), "1").await;
        }
        let root = bed.ask("GET /merkle_tree/root").await.json();
        assert_eq!(root["count"], 50);
        roots.push(root["hash"].clone());
    }
    assert_ne!(roots[0], roots[1]);
}

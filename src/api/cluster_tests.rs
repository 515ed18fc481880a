use crate::api::testbed::{Bed, Setup, problem};
use crate::model::MemberState;
use serde_json::json;

const ELSEWHERE: &str = "192.0.2.7:4000";

#[tokio::test]
async fn the_member_table_shows_this_node_too() {
    let bed = Setup::new().with_member("node2", MemberState::Alive).start();
    for path in ["/members", "/members/"] {
        let members = bed.ask(&format!("GET {path}")).await.json();
        let ids: Vec<_> = members.as_array().unwrap().iter().map(|member| &member["id"]).collect();
        assert_eq!(ids, ["node1", "node2"]);
        let me = &members[0];
        assert_eq!(me["address"], "127.0.0.1:9");
        assert_eq!((&me["state"], &me["mode"]), (&json!("alive"), &json!("normal")));
        assert_eq!((&me["life"], &me["incarnation"]), (&json!(1), &json!(0)));
        assert!(me["last_seen"].as_u64() >= me["joined_timestamp"].as_u64());
        assert_eq!(members[1]["joined_timestamp"], 7);
    }
}

#[tokio::test]
async fn an_operator_on_this_host_changes_the_members() {
    let bed = Setup::new().with_member("node2", MemberState::Down).start();

    let join = bed.send("POST /members/join", &[], "{\"address\":\"127.0.0.1:8082\"}").await;
    assert_eq!((join.status.as_u16(), join.json()), (202, json!({"status": "joining"})));

    let unknown = bed.send("POST /members/remove", &[], "{\"id\":\"node9\"}").await;
    assert_eq!(unknown.problem(), problem(409, "member-refused"));
    let alone = bed.send("POST /members/remove", &[], "{\"id\":\"node1\"}").await;
    assert_eq!(alone.problem(), problem(409, "member-refused"));
    let from = "[::ffff:127.0.0.1]:4000";
    let remove = bed.send_from(from, "POST /members/remove", &[], "{\"id\":\"node2\"}").await;
    assert_eq!((remove.status.as_u16(), remove.json()), (200, json!({"status": "removed"})));
    assert_eq!(bed.ask("GET /health").await.json()["member_count"], 1);

    let leave = bed.ask("POST /members/leave").await;
    assert_eq!((leave.status.as_u16(), leave.json()), (200, json!({"status": "left"})));
}

#[tokio::test]
async fn nobody_else_changes_the_members() {
    let bed = Bed::new();
    for path in ["join", "leave", "remove"] {
        let line = format!("POST /members/{path}");
        let remote = bed.send_from(ELSEWHERE, &line, &[], "{}").await;
        assert_eq!(remote.problem(), problem(403, "forbidden"));
        let guessed = bed.send(&line, &[("x-cluster-secret", "")], "{}").await;
        assert_eq!(guessed.problem(), problem(403, "forbidden"));
        let browser = bed.send(&line, &[("origin", "http://evil.example")], "{}").await;
        assert_eq!(browser.problem(), problem(403, "forbidden"));
    }
    assert_eq!(bed.ask("GET /readyz").await.status, 200);
}

#[tokio::test]
async fn the_cluster_secret_opens_the_door_to_other_hosts() {
    let mut setup = Setup::new();
    setup.secret = b"sesame".to_vec();
    let bed = setup.start();
    let join = "{\"address\":\"node7:8080\"}";

    let right = bed.send_from(ELSEWHERE, "POST /members/join", &[("x-cluster-secret", "sesame")], join).await;
    let wrong = bed.send_from(ELSEWHERE, "POST /members/join", &[("x-cluster-secret", "sesam")], join).await;

    assert_eq!(right.status, 202);
    assert_eq!(wrong.problem(), problem(403, "forbidden"));
}

#[tokio::test]
async fn wishes_that_make_no_sense_are_refused() {
    let bed = Bed::new();
    let bad = [
        ("join", "{", "invalid-json"),
        ("join", "", "bad-body"),
        ("join", "{\"address\":\"nowhere\"}", "bad-body"),
        ("join", "{\"address\":\"a:1\",\"x\":1}", "bad-body"),
        ("remove", "{\"id\":\"a b\"}", "bad-body"),
        ("leave", "{\"now\":true}", "bad-body"),
    ];
    for (path, body, code) in bad {
        let answer = bed.send(&format!("POST /members/{path}"), &[], body).await;
        assert_eq!(answer.problem(), problem(400, code), "{path} {body}");
    }
    let long = bed.send("POST /members/join", &[], vec![b' '; 5000]).await;
    assert_eq!(long.problem(), problem(413, "value-too-large"));
    assert_eq!(long.json()["limit"], 4096);
    assert_eq!(bed.ask("POST /members/leave?now").await.problem(), problem(400, "bad-parameter"));
}

#[tokio::test]
async fn an_operator_makes_a_node_read_only_and_normal_again() {
    let bed = Bed::new();

    let switched = bed.send("POST /members/mode", &[], "{\"mode\":\"read-only\"}").await;
    assert_eq!((switched.status.as_u16(), switched.json()), (200, json!({"status": "read-only"})));
    let put = bed.send("PUT /kv/k", &[], "1").await;
    assert_eq!(put.problem(), problem(503, "read-only"));
    assert_eq!(bed.ask("GET /health").await.json()["mode"], "read-only");

    bed.send("POST /members/mode", &[], "{\"mode\":\"normal\"}").await;
    assert_eq!(bed.send("PUT /kv/k", &[], "1").await.status, 200);

    let draining = bed.send("POST /members/mode", &[], "{\"mode\":\"draining\"}").await;
    assert_eq!(draining.problem(), problem(400, "bad-body"));

    let events = bed.ask("GET /events?event=mode-changed").await.json();
    let texts: Vec<_> = events["events"].as_array().unwrap().iter().map(|event| &event["text"]).collect();
    assert_eq!(texts, ["from normal to readonly", "from readonly to normal"]);
    let now = bed.ask("GET /events?since=now").await.json();
    assert_eq!((&now["events"], &now["missed"]), (&json!([]), &json!(0)));
}

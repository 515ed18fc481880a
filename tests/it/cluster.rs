//! Three nodes from the example files, with only the ports changed.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::server::{Server, eventually, free_port};

/// The example's nodes in one folder, as three terminals in one directory would start them.
pub fn three_nodes(folder: &TempDir) -> [Server; 3] {
    let ports = [free_port(), free_port(), free_port()];
    let nodes = [1, 2, 3].map(|number| {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let name = format!("node{number}.yaml");
        let mut yaml = std::fs::read_to_string(examples.join(&name)).unwrap();
        for (index, port) in ports.iter().enumerate() {
            yaml = yaml.replace(&format!("808{}", index + 1), &port.to_string());
        }
        std::fs::write(folder.path().join(&name), yaml).unwrap();
        Server::start(folder.path(), ports[number - 1], &[&name])
    });
    for node in &nodes {
        eventually("all three are members and alive", || alive(node) == 3);
    }
    nodes
}

fn alive(node: &Server) -> usize {
    let members = node.http.get("/members/").json();
    members.as_array().unwrap().iter().filter(|member| member["state"] == "alive").count()
}

#[test]
fn a_write_on_one_node_is_read_on_another_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let [node1, _node2, node3] = three_nodes(&folder);

    node1.http.put_json("/kv/color", &json!("red"));
    let written = Instant::now();

    eventually("node3 has the key", || node3.http.get("/kv/color").status == 200);
    let took = written.elapsed();
    assert_eq!(node3.http.get("/kv/color").json(), "red");
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    let health = node3.http.get("/health").json();
    assert_eq!((&health["status"], &health["member_count"]), (&json!("ok"), &json!(3)), "{health}");
    assert_eq!(health["node_id"], "node3");
}

#[test]
fn a_write_is_acknowledged_by_as_many_nodes_as_it_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let [node1, node2, node3] = three_nodes(&folder);

    let answer = node2.http.put("/kv/a?ack=3", "application/json", b"1");

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["acked"], 3);
    for node in [&node1, &node3] {
        assert_eq!(node.http.get("/kv/a").text(), "1");
    }
    let answer = node2.http.put("/kv/a?ack=4", "application/json", b"2");
    assert_eq!((answer.status, &answer.problem()["limit"]), (400, &json!(3)));
    assert_eq!(node2.http.get("/kv/a").text(), "1");
}

#[test]
fn a_node_that_was_killed_catches_up_by_itself_and_the_deleted_key_stays_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let [node1, node2, mut node3] = three_nodes(&folder);
    for number in 0..20 {
        node1.http.put_json(&format!("/kv/k/{number}"), &json!(number));
    }
    eventually("node3 has all keys", || node3.http.root().1 == 20);

    node3.kill();
    for number in 20..70 {
        node2.http.put_json(&format!("/kv/k/{number}"), &json!(number));
    }
    assert_eq!(node1.http.delete("/kv/k/7").status, 204);
    let node3 = node3.restart();

    eventually("all three roots agree", || {
        let root = node1.http.root();
        root.1 == 69 && node2.http.root() == root && node3.http.root() == root
    });
    assert_eq!(node3.http.get("/kv/k/69").text(), "69");
    for node in [&node1, &node2, &node3] {
        assert_eq!(node.http.get("/kv/k/7").status, 404);
        eventually("everybody is alive again", || alive(node) == 3);
    }
}

#[test]
fn two_clusters_that_meet_become_one() {
    let folder = tempfile::tempdir().unwrap();
    let start = |id: &str| {
        let port = free_port();
        Server::start(folder.path(), port, &["--node-id", id, "--port", &port.to_string()])
    };
    let (left, right) = (start("left"), start("right"));
    left.http.put_json("/kv/left", &json!(1));
    right.http.put_json("/kv/right", &json!(2));

    let wish = json!({ "address": format!("127.0.0.1:{}", right.http.port) }).to_string();
    let answer = left.http.request("POST", "/members/join", "application/json", wish.as_bytes()).unwrap();

    assert!(answer.status < 300, "{}", answer.text());
    eventually("both hold both keys", || left.http.root().1 == 2 && left.http.root() == right.http.root());
    assert_eq!(left.http.get("/kv/right").text(), "2");
    assert_eq!(right.http.get("/kv/left").text(), "1");
}

#[test]
fn a_node_that_leaves_ends_with_0_and_is_counted_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let [node1, _node2, mut node3] = three_nodes(&folder);
    node3.http.put_json("/kv/last", &json!("words"));

    let answer = node3.http.request("POST", "/members/leave", "application/json", b"{}").unwrap();

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(node3.wait().code(), Some(0), "{}", node3.log());
    eventually("node1 counts two", || node1.http.get("/health").json()["member_count"] == 2);
    assert_eq!(node1.http.get("/kv/last").json(), "words");
}

#[test]
fn peers_with_different_secrets_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let start = |id: &str, secret: &str, seeds: &[u16]| {
        let port = free_port();
        let seeds: Vec<_> = seeds.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let port_text = port.to_string();
        let settings = ["--node-id", id, "--port", &port_text, "--cluster-secret", secret];
        Server::start(folder.path(), port, &[&settings[..], &["--seed-nodes", &seeds.join(",")]].concat())
    };
    let first = start("first", "one", &[]);
    let friend = start("friend", "one", &[first.http.port]);
    let stranger = start("stranger", "two", &[first.http.port]);

    eventually("those with the same secret meet", || alive(&first) == 2 && alive(&friend) == 2);
    eventually("the stranger hears why", || stranger.log().contains("secret"));
    assert_eq!((alive(&stranger), alive(&first)), (1, 2));
}

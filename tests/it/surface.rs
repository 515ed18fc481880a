//! What clients and operators reach over HTTP, against real processes.

use serde_json::json;

use crate::server::{Server, eventually, free_port};

#[test]
fn a_backup_of_a_busy_node_starts_another_one_with_a_life_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);
    for number in 0..50 {
        node.http.put_json(&format!("/kv/k/{number}"), &json!(number));
    }
    node.http.delete("/kv/k/7");

    let backup = node.http.get("/backup");
    assert_eq!(backup.status, 200);
    std::fs::write(folder.path().join("node.reknit"), &backup.body).unwrap();
    let port = free_port();
    let arguments = [
        "--port",
        &port.to_string(),
        "--node-id",
        "second",
        "--data-dir",
        "./second",
        "--restore",
        "node.reknit",
    ];
    let second = Server::start(folder.path(), port, &arguments);

    assert_eq!(second.http.root(), node.http.root());
    assert_eq!(second.http.get("/kv/k/7").status, 404);
    let status = second.http.get("/status").json();
    assert_eq!((&status["node"]["id"], &status["node"]["life"]), (&json!("second"), &json!(1)));
}

#[test]
fn an_export_of_one_node_fills_another_whose_peers_fetch_it() {
    let folder = tempfile::tempdir().unwrap();
    let (from, port, peer_port) = (Server::alone(&folder), free_port(), free_port());
    for number in 0..300 {
        from.http.put_json(&format!("/kv/k/{number}"), &json!(number));
    }
    let start = |name: &str, port: u16, seeds: &str| {
        let port_text = port.to_string();
        let fast = ["--gossip-interval", "200ms", "--probe-interval", "100ms"];
        let own = ["--port", &port_text, "--node-id", name, "--seed-nodes", seeds];
        Server::start(folder.path(), port, &[&own[..], &fast[..]].concat())
    };
    let to = start("to", port, "");
    let peer = start("peer", peer_port, &format!("127.0.0.1:{port}"));

    let lines = from.http.get("/export").body;
    let summary = to.http.request("POST", "/import", "application/x-ndjson", &lines).unwrap();

    assert_eq!(summary.json()["taken"], 300, "{}", summary.text());
    eventually("the peer holds what was imported", || peer.http.root() == from.http.root());
}

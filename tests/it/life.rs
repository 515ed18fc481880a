//! One node: what it takes, what it keeps, how it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::server::{Server, eventually, free_port};

#[test]
fn a_value_comes_back_byte_for_byte_until_it_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);
    let body = br#"{ "name":  "John" }"#;

    let written = node.http.request("PUT", "/kv/users/john", "application/x-www-form-urlencoded", body);

    // What `curl -d` sends when it is told nothing else: not JSON by name, and stored as it is.
    let written = written.unwrap();
    assert_eq!(written.status, 200, "{}", written.text());
    assert!(written.json()["uuid"].is_string() && written.json()["timestamp"].is_u64());
    let read = node.http.get("/kv/users/john");
    assert_eq!((read.status, read.body.as_slice()), (200, body.as_slice()));

    let deleted = node.http.delete("/kv/users/john");
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    let gone = node.http.get("/kv/users/john");
    assert_eq!(gone.status, 404);
    assert_eq!(gone.problem()["code"], "not-found");
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Server::alone(&folder);
    node.http.put_json("/kv/deleted", &json!(1));
    assert_eq!(node.http.delete("/kv/deleted").status, 204);
    let stop = AtomicBool::new(false);

    let acknowledged = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (http, stop) = (node.http.clone(), &stop);
                scope.spawn(move || write_until(&http, writer, stop))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(700));
        node.kill();
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    let node = node.restart();

    assert_eq!(node.http.get("/kv/deleted").status, 404);
    assert!(acknowledged.iter().sum::<u64>() > 0, "nothing was acknowledged before the kill");
    for (writer, count) in acknowledged.into_iter().enumerate() {
        for number in 0..count {
            let read = node.http.get(&format!("/kv/w{writer}/{number}"));
            assert_eq!((read.status, read.text()), (200, number.to_string()), "w{writer}/{number}");
        }
    }
}

/// Writes one key after the other until one is not acknowledged; how many were.
fn write_until(http: &crate::server::Http, writer: u64, stop: &AtomicBool) -> u64 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let path = format!("/kv/w{writer}/{number}");
        match http.request("PUT", &path, "application/json", number.to_string().as_bytes()) {
            Ok(answer) if answer.status == 200 => number += 1,
            _ => break,
        }
    }
    number
}

#[test]
fn a_node_that_is_asked_to_stop_says_goodbye_and_ends_with_0() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Server::alone(&folder);
        node.http.put_json("/kv/a", &json!("kept"));

        node.signal(signal);

        assert_eq!(node.wait().code(), Some(0), "{}", node.log());
        let node = node.restart();
        assert_eq!(node.http.get("/kv/a").json(), "kept");
    }
}

#[test]
fn a_node_says_where_it_listens_and_writes_nothing_beside_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let node = Server::start(folder.path(), port, &["--port", &port.to_string(), "--log-format", "json"]);

    let line = format!(" listens on http://127.0.0.1:{port}, data in ./data\n");
    eventually("it says where it listens", || node.log().contains(&line));

    let log = node.log();
    let logged = log.lines().filter(|line| !line.contains(" listens on "));
    logged.for_each(|line| assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}"));
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["data".to_owned(), format!("node-{port}.log")]);
}

#[test]
fn a_read_only_node_serves_reads_and_refuses_writes() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().to_string();
    let arguments = ["--port", &port, "--node-id", "alone"];
    let mut node = Server::start(folder.path(), port.parse().unwrap(), &arguments);
    node.http.put_json("/kv/a", &json!(1));
    node.kill();

    let arguments = [arguments.as_slice(), &["--read_only", "true"]].concat();
    let node = Server::start(folder.path(), port.parse().unwrap(), &arguments);

    assert_eq!(node.http.get("/kv/a").status, 200);
    assert_eq!(node.http.get("/health").json()["mode"], "read-only");
    let refused = node.http.put("/kv/a", "application/json", b"2");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.problem()["code"], "read-only");
}

#[test]
fn a_full_disk_makes_a_node_read_only_and_room_makes_it_write_again() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let arguments = ["--port", &port.to_string(), "--node-id", "alone"];
    let node = Server::start_on_small_disk(folder.path(), port, &arguments, 8 << 10);
    let value = vec![b'x'; 500_000];
    let put = |path: &str| node.http.request("PUT", path, "application/octet-stream", &value);

    let mut acknowledged = Vec::new();
    let mut code = String::new();
    for number in 0..400 {
        let path = format!("/kv/k/{number}");
        // The writes of the turn that failed get no answer, or one that says so.
        let Ok(answer) = put(&path) else { continue };
        if answer.status == 200 {
            acknowledged.push(path);
            continue;
        }
        let problem = answer.problem();
        assert_eq!((answer.status, problem["retryable"].as_bool()), (503, Some(true)), "{problem}");
        code = problem["code"].as_str().unwrap().to_owned();
        if code == "disk-full" {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }

    assert_eq!(code, "disk-full", "{}", node.log());
    assert_eq!(node.http.get("/readyz").problem()["code"], "disk-full");
    assert_eq!(node.http.get("/health").json()["status"], "disk-full");
    assert_eq!(node.http.get("/status").json()["node"]["mode"], "read-only");
    assert!(!acknowledged.is_empty());
    for path in &acknowledged {
        assert_eq!(node.http.get(path).body, value, "{path}");
    }

    node.allow_large_files();
    eventually("there is room", || node.http.is_ready());
    assert_eq!(put("/kv/after").unwrap().status, 200);
    assert_eq!(node.http.get("/status").json()["node"]["mode"], "normal");
    for path in acknowledged {
        assert_eq!(node.http.get(&path).body, value, "{path}");
    }
}

#[test]
fn a_hangup_reads_the_level_of_the_log_the_intervals_and_read_only_again() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let file = folder.path().join("node.yaml");
    let write = |rest: &str| std::fs::write(&file, format!("port: {port}\nnode_id: alone\n{rest}")).unwrap();
    write("log_level: warn\n");
    let node = Server::start(folder.path(), port, &["node.yaml"]);
    let mode = || node.http.get("/health").json()["mode"].clone();
    assert!(!node.log().contains("started"), "{}", node.log());

    write("log_level: info\nread_only: true\nprobe_interval: 200ms\n");
    node.signal("HUP");
    eventually("it is read-only", || mode() == "read-only");
    eventually("the log says more", || node.log().contains("configuration-reloaded"));

    write("log_level: info\nprobe_interval: soon\n");
    node.signal("HUP");
    eventually("the mistake is told", || node.log().contains("configuration-not-reloaded"));
    assert_eq!(mode(), "read-only", "a wrong file changes nothing");
}

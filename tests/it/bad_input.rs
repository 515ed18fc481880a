//! What is refused, and how: a problem with its limit, or an exit code with a clear sentence; nothing half done.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Output;

use serde_json::json;

use crate::server::{PATIENCE, Server, free_port, run_node};

#[test]
fn oversized_and_malformed_requests_are_problems_that_name_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);
    let http = &node.http;
    http.put_json("/kv/kept", &json!(1));
    let root = http.root();

    let key = http.put(&format!("/kv/{}", "x".repeat(1025)), "application/json", b"1");
    assert_eq!((key.status, &key.problem()["limit"]), (414, &json!(1024)), "{}", key.text());

    let value = http.put("/kv/kept", "application/octet-stream", &vec![b'x'; (1 << 20) + 1]);
    assert_eq!((value.status, &value.problem()["limit"]), (413, &json!(1 << 20)), "{}", value.text());
    let largest = http.put("/kv/large", "application/octet-stream", &vec![b'x'; 1 << 20]);
    assert_eq!(largest.status, 200);
    assert_eq!(http.delete("/kv/large").status, 204);

    let invalid = http.put("/kv/kept", "application/json", b"{\"a\": ");
    assert_eq!(
        (invalid.status, &invalid.problem()["code"]),
        (400, &json!("invalid-json")),
        "{}",
        invalid.text()
    );

    for path in ["/kv/a//b", "/kv/a/%2e%2e/b", "/kv/a%00", "/kv/%zz"] {
        let answer = http.put(path, "application/json", b"1");
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        answer.problem();
    }
    assert_eq!(http.root(), root);
    assert_eq!(http.get("/kv/kept").text(), "1");
}

#[test]
fn an_unknown_route_or_method_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);

    let route = node.http.get("/nowhere");
    assert_eq!(route.status, 404);
    route.problem();

    let method = node.http.request("POST", "/kv/a", "application/json", b"1").unwrap();
    assert_eq!(method.status, 405);
    method.problem();
}

/// Sends bytes and returns what comes back until the other end closes, or has nothing more to say.
fn talk(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The other end may close before it has read everything.
    let _ = stream.write_all(bytes);
    // Whoever hangs up after a whole request may be gone before it is answered.
    if !bytes.ends_with(b"\r\n\r\n") {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn garbage_on_the_peer_upgrade_is_refused_and_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);
    let port = node.http.port;
    let head = |upgrade: &str| {
        format!("GET /peer HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\n{upgrade}\r\n")
    };

    let plain = node.http.get("/peer");
    assert_eq!(plain.status, 426, "{}", plain.text());
    plain.problem();

    let other = talk(port, head("Upgrade: websocket\r\n").as_bytes());
    assert!(other.starts_with("HTTP/1.1 426"), "{other}");

    let nameless = talk(port, head("Upgrade: reknit/1\r\n").as_bytes());
    assert!(nameless.starts_with("HTTP/1.1 400") && nameless.contains("malformed-handshake"), "{nameless}");

    // Whoever sends on while it is refused may lose the answer to the closing of the connection.
    let noise = || (0..100_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()[3]);
    for begin in [head("Upgrade: reknit/1\r\n"), String::new()] {
        let answer = talk(port, &begin.into_bytes().into_iter().chain(noise()).collect::<Vec<_>>());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }

    node.http.put_json("/kv/a", &json!(1));
    assert!(node.http.is_ready());
}

/// The exit code and what was said about it.
fn ended(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = run_node(folder, arguments);
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_port_in_use_is_said_and_no_data_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();

    let (code, said) = ended(folder.path(), &["--port", &port.to_string()]);

    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{port}: Address already in use")), "{said}");
    assert!(!folder.path().join("data").exists());
}

#[test]
fn a_data_directory_belongs_to_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);
    node.http.put_json("/kv/a", &json!(1));

    let port = free_port().to_string();
    let (code, said) = ended(folder.path(), &["--port", &port, "--data-dir", "data/alone"]);

    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("data/alone") && said.contains("in use by another process"), "{said}");
    assert_eq!(node.http.get("/kv/a").text(), "1");
}

#[test]
fn a_damaged_database_is_said_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Server::alone(&folder);
    node.http.put_json("/kv/a", &json!(1));
    node.kill();
    let file = folder.path().join("data/alone/reknit.redb");
    for damage in [b"not a database at all".to_vec(), Vec::new(), vec![0; 100_000]] {
        fs::write(&file, &damage).unwrap();

        let port = free_port().to_string();
        let (code, said) = ended(folder.path(), &["--port", &port, "--node-id", "alone"]);

        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("reknit.redb") && said.contains("damaged"), "{said}");
        assert_eq!(fs::read(&file).unwrap(), damage);
    }
}

#[test]
fn a_wrong_configuration_is_shown_with_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = |yaml: &str, place: &str| {
        fs::write(folder.path().join("node.yaml"), yaml).unwrap();
        for arguments in [&["node.yaml"][..], &["node.yaml", "--check-config"]] {
            let (code, said) = ended(folder.path(), arguments);
            assert_eq!(code, Some(2), "{said}");
            assert!(said.contains(place), "{said}");
        }
    };

    wrong("node_id: n1\nport: 80a\n", "node.yaml: line 2 column 7: port: `80a` is no port");
    wrong("node_id: n1\nprot: 80\n", "node.yaml: line 2 column 1: unknown key `prot`; did you mean `port`?");
    wrong("port: 1\nport: 2\n", "node.yaml: line 2 column 1: the key `port` is there twice");
    wrong("seed_nodes: [\n", "node.yaml: line ");
    wrong("read_only: yes\n", "node.yaml: line 1 column 12: read_only: `yes` is neither true nor false");

    for arguments in [&["--prot", "1"][..], &["missing.yaml"], &["--port", "0"]] {
        let (code, said) = ended(folder.path(), arguments);
        assert_eq!(code, Some(2), "{said}");
        assert!(!said.is_empty());
    }
    let names = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 1, "nothing but the file we wrote");
}

#[test]
fn a_configuration_is_checked_and_printed_without_starting() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("node.yaml"), "node_id: n1\n").unwrap();

    let checked = run_node(folder.path(), &["node.yaml", "--check-config"]);
    let printed = run_node(folder.path(), &["node.yaml", "--print-config", "--port", "99"]);

    assert_eq!(checked.status.code(), Some(0));
    assert_eq!(String::from_utf8(checked.stdout).unwrap(), "the configuration is fine\n");
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(
        printed.starts_with("node_id: \"n1\"                            # node.yaml: line 1 column 10\n"),
        "{printed}"
    );
    assert!(printed.contains("\nport: 99                                 # --port\n"), "{printed}");
    assert!(!folder.path().join("data").exists());
}

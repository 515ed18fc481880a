//! The command-line client against a real node.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::server::{Server, command, free_port};

struct Client {
    folder: TempDir,
    nodes: String,
}

impl Client {
    fn of(nodes: &[u16]) -> Client {
        let nodes: Vec<_> = nodes.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        Client { folder: tempfile::tempdir().unwrap(), nodes: nodes.join(",") }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = command("kv", self.folder.path(), arguments);
        command.env("REKNIT_ENDPOINTS", &self.nodes);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn code(&self, arguments: &[&str]) -> i32 {
        self.run(arguments).status.code().unwrap()
    }
}

#[test]
fn values_go_in_and_come_out_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);
    let client = Client::of(&[node.http.port]);
    let bytes: Vec<u8> = (0..=255).chain(*b"\n\0\r\n").collect();
    std::fs::write(client.folder.path().join("value"), &bytes).unwrap();

    assert_eq!(client.run_with(&["put", "from/input", "-"], &bytes).status.code(), Some(0));
    client.ok(&["put", "from/file", "@value"]);
    client.ok(&["put", "from/argument", r#"{"a":1}"#]);
    client.ok(&["put", "with space/50%25", "plain text"]);

    assert_eq!(client.run(&["get", "from/input"]).stdout, bytes);
    assert_eq!(client.run(&["get", "-o", "raw", "from/file"]).stdout, bytes);
    assert_eq!(client.ok(&["get", "from/argument"]), r#"{"a":1}"#);
    assert_eq!(client.ok(&["get", "with%20space/50%25"]), "plain text");
}

#[test]
fn the_exit_code_says_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);
    let client = Client::of(&[node.http.port]);
    let uuid = client.ok(&["put", "a", "1"]).trim().to_owned();

    assert_eq!(client.code(&["get", "missing"]), 3);
    assert_eq!(client.code(&["put", "a", "2", "--if-none-match", "*"]), 4);
    assert_eq!(client.code(&["put", "a", "2", "--if-match", &uuid]), 0);
    assert_eq!(client.code(&["put", "a", "3", "--if-match", &uuid]), 4);
    assert_eq!(client.code(&["put", "a", "3", "--ack", "9"]), 2);
    assert_eq!(client.code(&["put", "a", "3", "--ttl", "soon"]), 2);
    assert_eq!(client.code(&["sync", "alone"]), 4);
    assert_eq!(client.code(&["put", "a", "@no-such-file"]), 1);
    assert_eq!(client.code(&["put", "a//b", "1"]), 2);
    assert_eq!(client.code(&["frobnicate"]), 2);
    assert_eq!(client.ok(&["get", "a"]), "2");
    assert_eq!(client.code(&["del", "a"]), 0);
    assert_eq!(client.code(&["get", "a"]), 3);

    let nobody = Client::of(&[free_port()]);
    let output = nobody.run(&["get", "a"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(
        String::from_utf8_lossy(&output.stderr).starts_with("kv: no answer: http://127.0.0.1:"),
        "{output:?}"
    );
    let help = client.ok(&["--help"]);
    assert!(help.contains("3  no such key"), "{help}");
}

#[test]
fn json_output_has_numbers_as_they_were_written_and_counts_acknowledgements() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);
    let client = Client::of(&[node.http.port]);

    let put = client.ok(&["put", "n", "[12345678901234567890123,1.0]", "--ack", "1", "-o", "json"]);

    assert!(put.contains("\"acked\": 1"), "{put}");
    let get = client.ok(&["get", "n", "-o", "json"]);
    assert!(get.contains("[12345678901234567890123,1.0]"), "{get}");
}

#[test]
fn concurrent_values_are_told_from_one_and_can_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let arguments = ["--port", &port.to_string(), "--node-id", "alone", "--policies", "cart/=siblings"];
    let node = Server::start(folder.path(), port, &arguments);
    let client = Client::of(&[node.http.port]);
    client.ok(&["put", "cart/anna", "1e999"]);
    client.ok(&["put", "cart/anna", "shoes"]);

    let plain = client.run(&["get", "cart/anna"]);
    assert_eq!((plain.status.code(), plain.stdout), (Some(4), Vec::new()));
    let told = String::from_utf8_lossy(&plain.stderr).into_owned();
    assert!(told.starts_with("kv: 2 concurrent values"), "{told}");
    let json = client.run(&["get", "cart/anna", "-o", "json"]);
    assert_eq!(json.status.code(), Some(4));
    let text = String::from_utf8_lossy(&json.stdout).into_owned();
    assert!(text.contains("1e999") && text.contains("c2hvZXM="), "{text}");

    let tag = told.split("--if-match ").nth(1).unwrap().split_whitespace().next().unwrap();
    client.ok(&["put", "cart/anna", "socks", "--if-match", tag]);
    assert_eq!(client.ok(&["get", "cart/anna"]), "socks");
}

#[test]
fn what_nobody_answered_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);
    let client = Client::of(&[node.http.port]);
    client.ok(&["put", "a", "1"]);

    // A token that is told aloud counts, whatever the environment says, and an empty variable says nothing.
    let mut command = command("kv", client.folder.path(), &["--token", "x", "get", "a"]);
    command
        .env("REKNIT_ENDPOINTS", &client.nodes)
        .env("REKNIT_TOKEN", "")
        .env("REKNIT_TOKEN_FILE", "/nowhere");
    assert_eq!(command.output().unwrap().stdout, b"1");
    assert_eq!(client.code(&["explain", "a"]), 0);
}

#[test]
fn endpoints_are_tried_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);
    let client = Client::of(&[free_port(), node.http.port]);

    client.ok(&["put", "a", "1"]);

    assert_eq!(client.ok(&["get", "a"]), "1");
}

#[test]
fn keys_are_listed_in_order_whole_or_by_the_next_delimiter() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);
    let client = Client::of(&[node.http.port]);
    for key in ["a/2", "a/1", "b", "a/x/1", "a/x/2", "a b"] {
        client.ok(&["put", &key.replace(' ', "%20"), "1"]);
    }

    assert_eq!(client.ok(&["-o", "raw", "ls", "a/"]), "a/1\na/2\na/x/1\na/x/2\n");
    assert_eq!(client.ok(&["-o", "raw", "ls", "a/", "-d", "/"]), "a/1\na/2\na/x/\n");
    assert_eq!(client.ok(&["-o", "raw", "ls", "-n", "2"]), "a%20b\na/1\n");
    assert_eq!(client.ok(&["-o", "raw", "ls", "--reverse", "-n", "2"]), "b\na/x/2\n");
    assert_eq!(client.ok(&["-o", "raw", "ls", "nothing/"]), "");
    let table = client.ok(&["ls", "b"]);
    assert!(table.starts_with("KEY") || table.starts_with(" KEY"), "{table}");
    let json: Json = serde_json::from_str(&client.ok(&["-o", "json", "ls", "b"])).unwrap();
    assert_eq!(json[0]["key"], "b");
}

#[test]
fn a_listing_of_more_than_a_page_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);
    let client = Client::of(&[node.http.port]);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let http = node.http.clone();
            scope.spawn(move || {
                for number in (writer..1100).step_by(8) {
                    http.put_json(&format!("/kv/k/{number:04}"), &Json::from(number));
                }
            });
        }
    });

    let listed = client.ok(&["-o", "raw", "ls", "k/"]);

    let expected: Vec<_> = (0..1100).map(|number| format!("k/{number:04}")).collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn members_and_status_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);
    let client = Client::of(&[node.http.port]);

    let members = client.ok(&["members"]);
    let rows: Vec<Vec<_>> = members.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 2, "{members}");
    assert_eq!(
        rows[1][..4],
        ["alone", &format!("127.0.0.1:{}", node.http.port), "alive", "normal"],
        "{members}"
    );

    let json: Json = serde_json::from_str(&client.ok(&["-o", "json", "members"])).unwrap();
    assert_eq!(json[0]["id"], "alone");
    let status = client.ok(&["status"]);
    assert!(status.lines().any(|line| line.contains("member_count")), "{status}");
}

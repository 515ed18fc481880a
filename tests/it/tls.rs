//! TLS between real processes: clients check nodes, nodes check each other, and nobody speaks in the clear.

use std::path::Path;
use std::process::{Child, Output, Stdio};

use serde_json::Value as Json;

use crate::server::{Http, command, eventually, free_port};

/// A node that speaks TLS; killed when dropped.
struct Node {
    child: Child,
    port: u16,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn node(folder: &Path, name: &str, certs: &str, seed: Option<u16>) -> Node {
    let port = free_port();
    let path = |file: String| folder.join(certs).join(file).display().to_string();
    let (certificate, key, ca) =
        (path(format!("{name}.pem")), path(format!("{name}-key.pem")), path("ca.pem".into()));
    let (port_text, seeds) =
        (port.to_string(), seed.map(|port| format!("127.0.0.1:{port}")).unwrap_or_default());
    let own = ["--port", &port_text, "--node-id", name, "--seed-nodes", &seeds];
    let tls = ["--tls-certificate", &certificate, "--tls-key", &key, "--tls-authority", &ca];
    let fast = ["--probe-interval", "100ms", "--gossip-interval", "200ms"];
    let mut command = command("node", folder, &[&own[..], &tls[..], &fast[..]].concat());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    Node { child, port }
}

fn kv(folder: &Path, port: u16, ca: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = command("kv", folder, arguments);
    command.env("REKNIT_ENDPOINTS", format!("https://127.0.0.1:{port}"));
    if let Some(ca) = ca {
        command.env("REKNIT_CA", ca);
    }
    command.output().unwrap()
}

fn is_stored(output: &Output) -> bool {
    output.status.success()
}

fn make(folder: &Path, out: &str, nodes: &[&str]) {
    let made = command("node", folder, &[&["cert", "dev", "--out", out], nodes].concat()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn nodes_with_one_authority_form_a_cluster_and_a_stranger_stays_outside() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make(folder, "certs", &["a", "b"]);
    make(folder, "strange", &["x"]);
    let a = node(folder, "a", "certs", None);
    let b = node(folder, "b", "certs", Some(a.port));
    let ca = Some("certs/ca.pem");

    eventually("a write", || is_stored(&kv(folder, a.port, ca, &["put", "k", "1"])));
    eventually("the other node has it", || kv(folder, b.port, ca, &["get", "k"]).stdout == b"1");
    let x = node(folder, "x", "strange", Some(a.port));

    eventually("the stranger is up", || is_stored(&kv(folder, x.port, Some("strange/ca.pem"), &["status"])));
    // It has dialed by now, many times over.
    std::thread::sleep(std::time::Duration::from_millis(500));

    let members = kv(folder, a.port, ca, &["members", "-o", "json"]).stdout;
    let members: Json = serde_json::from_slice(&members).unwrap();
    assert_eq!(members.as_array().unwrap().len(), 2, "{members}");
}

#[test]
fn a_client_without_the_right_authority_and_plain_text_get_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make(folder, "certs", &["a"]);
    make(folder, "strange", &["x"]);
    let a = node(folder, "a", "certs", None);
    eventually("a write", || is_stored(&kv(folder, a.port, Some("certs/ca.pem"), &["put", "k", "1"])));

    assert_eq!(kv(folder, a.port, Some("strange/ca.pem"), &["get", "k"]).status.code(), Some(5));
    assert_eq!(kv(folder, a.port, None, &["get", "k"]).status.code(), Some(2));
    assert!(Http::new(a.port).request("GET", "/kv/k", "", &[]).is_err(), "plain text is not answered");
}

#[test]
fn certificates_are_read_again_on_a_signal_and_a_bad_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make(folder, "certs", &["a"]);
    make(folder, "next", &["a"]);
    let a = node(folder, "a", "certs", None);
    eventually("a write", || is_stored(&kv(folder, a.port, Some("certs/ca.pem"), &["put", "k", "1"])));
    let hang_up = || {
        let kill = format!("kill -HUP {}", a.child.id());
        assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    };

    std::fs::write(folder.join("certs/a.pem"), "no certificate").unwrap();
    hang_up();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(is_stored(&kv(folder, a.port, Some("certs/ca.pem"), &["get", "k"])), "the old one is in use");

    for file in ["a.pem", "a-key.pem", "ca.pem"] {
        std::fs::copy(folder.join("next").join(file), folder.join("certs").join(file)).unwrap();
    }
    hang_up();
    eventually("the new one", || is_stored(&kv(folder, a.port, Some("next/ca.pem"), &["get", "k"])));
}

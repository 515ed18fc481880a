//! A `node` process in a folder of its own, and a few words of HTTP to talk to it.

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tempfile::TempDir;
use ureq::Agent;

/// How long anything may take before a test gives up; the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Ports below the range that the system gives to clients, so that nobody takes one between our look and its use.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port on which nobody listens, given out once per process.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other runs of these tests may be under way: each process begins somewhere else.
    let first = u16::try_from(std::process::id() % 1200).unwrap() * 10;
    for _ in 0..PORTS.len() {
        let offset = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + offset % (PORTS.end - PORTS.start);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port in {PORTS:?}");
}

/// A command for one of our binaries, which sees none of the surrounding configuration.
pub fn command(binary: &str, folder: &Path, arguments: &[&str]) -> Command {
    let path = match binary {
        "node" => env!("CARGO_BIN_EXE_node"),
        "kv" => env!("CARGO_BIN_EXE_kv"),
        other => panic!("no binary {other}"),
    };
    let mut command = Command::new(path);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REKNIT_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a `node` that is expected to end by itself. One that lives on is killed, and its output is lost.
pub fn run_node(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = command("node", folder, arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if wait_for_exit(&mut child).is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("node {arguments:?} did not end");
    }
    child.wait_with_output().unwrap()
}

fn wait_for_exit(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Waits until `is_so`, or panics with what was waited for.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// An answer to one request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The problem that this answer is.
    pub fn problem(&self) -> Json {
        assert_eq!(self.content_type, "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert!(problem["code"].is_string() && problem["detail"].is_string(), "{problem}");
        assert!(problem["retryable"].is_boolean() && problem["request_id"].is_string(), "{problem}");
        problem
    }
}

/// One HTTP connection pool to one port.
#[derive(Clone)]
pub struct Http {
    pub port: u16,
    agent: Agent,
}

impl Http {
    pub fn new(port: u16) -> Http {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .proxy(None)
            .timeout_global(Some(PATIENCE));
        Http { port, agent: config.build().new_agent() }
    }

    /// Any request; the error is that of the connection.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}{path}", self.port))
            .header("Content-Type", content_type)
            .body(body.to_vec())?;
        let mut response = self.agent.run(request)?;
        let content_type = response.headers().get("content-type");
        let content_type = content_type.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let mut body = Vec::new();
        response.body_mut().as_reader().read_to_end(&mut body)?;
        Ok(Answer { status: response.status().as_u16(), content_type, body })
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", &[]).unwrap()
    }

    pub fn put(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        self.request("PUT", path, content_type, body).unwrap()
    }

    /// Writes a small JSON value, which must work.
    pub fn put_json(&self, path: &str, value: &Json) {
        let answer = self.put(path, "application/json", value.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, "", &[]).unwrap()
    }

    pub fn is_ready(&self) -> bool {
        self.request("GET", "/readyz", "", &[]).is_ok_and(|answer| answer.status == 200)
    }

    /// The root of what this node holds, and how many keys.
    pub fn root(&self) -> (String, u64) {
        let root = self.get("/merkle_tree/root").json();
        (root["hash"].as_str().unwrap().to_owned(), root["count"].as_u64().unwrap())
    }
}

/// A running `node`; killed when dropped.
pub struct Server {
    child: Child,
    folder: PathBuf,
    arguments: Vec<String>,
    pub http: Http,
    log: PathBuf,
}

impl Server {
    /// Starts a node in `folder` that listens on `port`, and waits until it is ready.
    pub fn start(folder: &Path, port: u16, arguments: &[&str]) -> Server {
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let log = folder.join(format!("node-{port}.log"));
        let child = spawn(folder, &arguments, &log);
        let server = Server { child, folder: folder.to_owned(), arguments, http: Http::new(port), log };
        server.wait_until_ready()
    }

    /// As [`Server::start`], on a disk where no file can grow beyond `kib` KiB.
    pub fn start_on_small_disk(folder: &Path, port: u16, arguments: &[&str], kib: usize) -> Server {
        let log = folder.join(format!("node-{port}.log"));
        let node = format!("{} {}", env!("CARGO_BIN_EXE_node"), arguments.join(" "));
        // Without its signal, which would kill the process, the limit is an error of the write.
        let script = format!("trap '' XFSZ; ulimit -S -f {}; exec {node}", kib * 2);
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(folder).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let server = Server { child, folder: folder.to_owned(), arguments, http: Http::new(port), log };
        server.wait_until_ready()
    }

    /// A standalone node with a data directory in `folder`.
    pub fn alone(folder: &TempDir) -> Server {
        let port = free_port();
        Server::start(folder.path(), port, &["--port", &port.to_string(), "--node-id", "alone"])
    }

    fn wait_until_ready(mut self) -> Server {
        let deadline = Instant::now() + PATIENCE;
        while !self.http.is_ready() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("node ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "node is not ready:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
        self
    }

    /// Power loss, as far as a process can have one.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the killed node again as it was.
    pub fn restart(mut self) -> Server {
        self.kill();
        let child = spawn(&self.folder, &self.arguments, &self.log);
        let old = std::mem::replace(&mut self.child, child);
        drop(old);
        // Connections to the dead process must not be used again.
        self.http = Http::new(self.http.port);
        self.wait_until_ready()
    }

    /// Sends a signal by name, such as TERM.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Makes room on the disk of [`Server::start_on_small_disk`].
    pub fn allow_large_files(&self) {
        let pid = self.child.id().to_string();
        let status = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:unlimited"]).status();
        assert!(status.unwrap().success());
    }

    /// Waits until the process has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for_exit(&mut self.child).unwrap_or_else(|| panic!("node does not end:\n{}", self.log()))
    }

    /// What it said on standard output and error.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

fn spawn(folder: &Path, arguments: &[String], log: &Path) -> Child {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let log = File::options().create(true).append(true).open(log).unwrap();
    command("node", folder, &arguments).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- node on port {}:\n{}", self.http.port, self.log());
        }
    }
}

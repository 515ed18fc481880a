//! A node that was away: real processes, files and sockets on this machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);
const WRITERS: usize = 64;
const VALUE: [u8; 100] = [b'7'; 100];

/// Measures how fast a node takes what it missed, for each number of missed writes.
pub fn run(missed: &[usize]) -> Result<()> {
    println!(
        "\nRejoin over real sockets: a node was down while so many keys of 100 bytes were written elsewhere."
    );
    println!(
        "{:>8}  {:>12} {:>14} {:>12} {:>16}",
        "missed", "from start", "from ready", "entries/s", "bytes received"
    );
    for missed in missed {
        one(*missed)?;
    }
    Ok(())
}

fn one(missed: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ports = [free_port()?, free_port()?];
    let stays = Node::start(folder.path(), "stays", ports[0], ports[1])?;
    let away = Node::start(folder.path(), "away", ports[1], ports[0])?;
    wait("both are members", || {
        Ok(stays.get("/members/")?.as_array().is_some_and(|members| members.len() == 2))
    })?;
    drop(away);
    fill(ports[0], missed)?;
    let wanted = stays.get("/merkle_tree/root")?;
    ensure!(wanted["count"] == missed, "{wanted} is not {missed} keys");

    let began = Instant::now();
    let away = Node::start(folder.path(), "away", ports[1], ports[0])?;
    let ready = began.elapsed();
    wait("the store is the same", || Ok(away.get("/merkle_tree/root")? == wanted))?;
    let took = began.elapsed();
    let status = away.get("/status")?;
    let bytes = status["counters"]["peer_bytes_in"].as_u64();
    let bytes = bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
    println!(
        "{missed:>8}  {:>10.2} s {:>12.2} s {:>12.0} {bytes:>16}",
        took.as_secs_f64(),
        (took - ready).as_secs_f64(),
        missed as f64 / took.as_secs_f64(),
    );
    Ok(())
}

/// Writes so many keys from many connections at once.
fn fill(port: u16, count: usize) -> Result<()> {
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            thread::spawn(move || -> Result<()> {
                let mut connection = Connection::open(port)?;
                for number in (writer..count).step_by(WRITERS) {
                    let path = format!("/kv/office/room-{}/box-{number}", number % 97);
                    let (status, _) = connection.ask("PUT", &path, &VALUE)?;
                    ensure!(status == 200, "a write was answered with {status}");
                }
                Ok(())
            })
        })
        .collect();
    for writer in writers {
        writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
    }
    Ok(())
}

struct Node {
    child: Child,
    port: u16,
}

impl Node {
    fn start(folder: &Path, name: &str, port: u16, peer: u16) -> Result<Node> {
        let log = std::fs::File::create(folder.join(format!("{name}.log")))?;
        let arguments = [
            "--node_id".to_owned(),
            name.to_owned(),
            "--port".to_owned(),
            port.to_string(),
            "--data_dir".to_owned(),
            folder.join(name).display().to_string(),
            "--seed_nodes".to_owned(),
            format!("127.0.0.1:{peer}"),
        ];
        let mut command = Command::new(binary()?);
        command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let node = Node { child: command.spawn()?, port };
        wait("the node answers", || Ok(node.get("/health").is_ok()))?;
        Ok(node)
    }

    fn get(&self, path: &str) -> Result<Json> {
        let (_, body) = Connection::open(self.port)?.ask("GET", path, &[])?;
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It is killed as a power cut would; there is nothing to do about one that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The node beside this binary, built by whoever runs the bench.
fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let node = own.parent().context("this binary lies in a folder")?.join("node");
    ensure!(node.exists(), "{} is not built", node.display());
    Ok(node)
}

fn wait(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().unwrap_or(false) {
        if Instant::now() > deadline {
            bail!("not within {PATIENCE:?}: {what}");
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// One keep-alive connection; just enough HTTP.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(port: u16) -> Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection(BufReader::new(stream)))
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).context("a status line")?.parse()?;
        let mut length = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((status, body))
    }
}

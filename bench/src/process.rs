//! Servers as processes of their own: started, watched, killed; and just enough HTTP to ask them something.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// Of the kernel's clock for processes: a tick is 10 ms on every Linux that this runs on.
const TICK: Duration = Duration::from_millis(10);

/// A server. It is killed when this goes.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Server {
    /// Starts a program whose output goes to `log`.
    pub fn start(command: &mut Command, log: &Path, port: u16) -> Result<Server> {
        let log = std::fs::File::create(log)?;
        let errors = log.try_clone()?;
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        Ok(Server { child: child.with_context(|| format!("{command:?}"))?, port })
    }

    /// Starts a node of reknit in `folder`, and waits until it answers.
    pub fn node(folder: &Path, name: &str, port: u16, seeds: &[u16]) -> Result<Server> {
        let mut command = Command::new(beside("node")?);
        command.args(["--node_id", name, "--port", &port.to_string()]);
        command.args(["--data_dir", &folder.join(name).display().to_string()]).current_dir(folder);
        if !seeds.is_empty() {
            let seeds: Vec<_> = seeds.iter().map(|port| format!("127.0.0.1:{port}")).collect();
            command.args(["--seed_nodes", &seeds.join(",")]);
        }
        let node = Server::start(&mut command, &folder.join(format!("{name}.log")), port)?;
        node.wait_for("/livez")?;
        Ok(node)
    }

    /// Keeps it to one processor; whether that worked.
    pub fn pin(&self, processor: usize) -> bool {
        pin(self.child.id(), processor)
    }

    /// Waits until the server answers this.
    pub fn wait_for(&self, path: &str) -> Result<()> {
        wait(&format!("port {} answers", self.port), || {
            Ok(Connection::open(self.port)?.ask("GET", path, &[])?.0 == 200)
        })
    }

    /// What it answers, as JSON.
    pub fn get(&self, path: &str) -> Result<Json> {
        let (_, body) = Connection::open(self.port)?.ask("GET", path, &[])?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Processor time that it has used so far.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(&std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?, 11)
    }

    /// Bytes of memory that it holds.
    pub fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a VmRSS line")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is killed as a power cut would; there is nothing to do about one that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time from a line of `/proc/PID/stat`: the words at this place and after it, counted from the name.
pub fn cpu_of(stat: &str, at: usize) -> Result<Duration> {
    // The name, in brackets, may hold anything.
    let words: Vec<&str> = stat.rsplit_once(')').context("a stat line")?.1.split_whitespace().collect();
    let [user, system] = [words[at].parse::<u32>()?, words[at + 1].parse::<u32>()?];
    Ok(TICK * (user + system))
}

/// Keeps this process, as far as it has begun, and what it begins from now on, to one processor.
pub fn pin_self(processor: usize) -> bool {
    pin(std::process::id(), processor)
}

/// All threads of a process, by the system's own tool.
fn pin(process: u32, processor: usize) -> bool {
    let mut command = Command::new("taskset");
    command.args(["-a", "-c", "-p", &processor.to_string(), &process.to_string()]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Nodes of one cluster, once each knows all.
pub fn cluster(folder: &Path, count: usize) -> Result<Vec<Server>> {
    let ports = (0..count).map(|_| free_port()).collect::<Result<Vec<u16>>>()?;
    let start = |(at, port): (usize, &u16)| {
        Server::node(folder, &format!("n{at}"), *port, if at == 0 { &[] } else { &ports[..1] })
    };
    let nodes = ports.iter().enumerate().map(start).collect::<Result<Vec<Server>>>()?;
    for node in &nodes {
        wait("all are members", || {
            let members = node.get("/members/")?;
            let members = members.as_array().context("a list")?;
            Ok(members.iter().filter(|member| member["state"] == "alive").count() == count)
        })?;
    }
    Ok(nodes)
}

/// A binary beside this one, built by whoever runs the bench.
pub fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().context("this binary lies in a folder")?.join(name);
    ensure!(path.exists(), "{} is not built", path.display());
    Ok(path)
}

/// Where a program lies, if it is installed.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Asks again and again.
pub fn wait(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().unwrap_or(false) {
        if Instant::now() > deadline {
            bail!("not within {PATIENCE:?}: {what}");
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// A port that nobody listened on a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// One keep-alive connection; just enough HTTP.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(port: u16) -> Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// The status and the body of the answer.
    pub fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
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

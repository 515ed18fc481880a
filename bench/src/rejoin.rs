//! A node that was away: real processes, files and sockets on this machine.

use std::thread;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::process::{Connection, Server, free_port, wait};
use crate::report::{Cell, Table};

const WRITERS: usize = 64;
const VALUE: [u8; 100] = [b'7'; 100];

/// How fast a node takes what it missed, for each number of missed writes.
pub fn table(missed: &[usize]) -> Result<Table> {
    let mut table = Table::new(
        "Rejoin over real sockets",
        format!("A node was down while so many keys of {} bytes were written elsewhere.", VALUE.len()),
        &["missed", "s from start", "s from ready", "entries/s", "bytes received"],
    );
    for missed in missed {
        eprintln!("a node that missed {missed} writes");
        table.row(one(*missed)?);
    }
    Ok(table)
}

fn one(missed: usize) -> Result<Vec<Cell>> {
    let folder = tempfile::tempdir_in(".")?;
    let ports = [free_port()?, free_port()?];
    let stays = Server::node(folder.path(), "stays", ports[0], &ports[1..])?;
    let away = Server::node(folder.path(), "away", ports[1], &ports[..1])?;
    wait("both are members", || {
        Ok(stays.get("/members/")?.as_array().is_some_and(|members| members.len() == 2))
    })?;
    drop(away);
    fill(ports[0], missed)?;
    let wanted = stays.get("/merkle_tree/root")?;
    ensure!(wanted["count"] == missed, "{wanted} is not {missed} keys");

    let began = Instant::now();
    let away = Server::node(folder.path(), "away", ports[1], &ports[..1])?;
    let ready = began.elapsed();
    wait("the store is the same", || Ok(away.get("/merkle_tree/root")? == wanted))?;
    let took = began.elapsed();
    let bytes = away.get("/status")?["counters"]["peer_bytes_in"].as_f64();
    Ok(vec![
        Cell::Figure(missed as f64, 0),
        Cell::Figure(took.as_secs_f64(), 2),
        Cell::Figure((took - ready).as_secs_f64(), 2),
        Cell::Figure(missed as f64 / took.as_secs_f64(), 0),
        bytes.map_or(Cell::None("not counted"), |bytes| Cell::Figure(bytes, 0)),
    ])
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

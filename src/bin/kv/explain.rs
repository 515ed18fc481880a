//! `kv explain`: what every member holds under a key, the winner first, with what the order looks at.
//!
//! Reads exports, which show versions as they were written; so it takes a token of scope `admin` where there are
//! tokens.

use std::cmp::Reverse;
use std::io::{BufRead, BufReader};

use reknit::client::Client;
use reknit::model::Key;
use serde_json::{Value as Json, json};

use crate::show::{print_json, print_table, text, time_text};
use crate::{Failure, Output, not_understood};

/// Asks every member that the first node knows of.
pub fn explain(client: &Client, output: Output, key: &Key) -> Result<(), Failure> {
    let members: Json = serde_json::from_slice(&client.read("/members/", &[])?).map_err(not_understood)?;
    let (mut rows, mut why, mut learned) = (Vec::new(), None, false);
    for member in members.as_array().into_iter().flatten() {
        let id = text(member, "id");
        match held(client, member, key) {
            Ok(found) => {
                rows.extend(found);
                learned = true;
            }
            Err(failure) => {
                rows.push(json!({ "member": id, "holds": format!("not known: {failure}") }));
                why = Some(failure);
            }
        }
    }
    match output {
        Output::Json | Output::Raw => print_json(&Json::Array(rows))?,
        Output::Table => table(&rows)?,
    }
    why.filter(|_| !learned).map_or(Ok(()), |why| Err(Failure::NothingLearned(Box::new(why))))
}

/// One row per version that a member holds, or one that says that there is none.
fn held(client: &Client, member: &Json, key: &Key) -> Result<Vec<Json>, Failure> {
    let id = text(member, "id");
    let mut versions = versions_at(&client.at(&text(member, "address"))?, key)?;
    if versions.is_empty() {
        return Ok(vec![json!({ "member": id, "holds": "nothing" })]);
    }
    versions.sort_by_key(|version| Reverse(rank(version)));
    let row = |(place, version)| json!({ "member": id, "holds": kind(&version), "place": place, "version": version });
    Ok(versions.into_iter().enumerate().map(row).collect())
}

fn versions_at(client: &Client, key: &Key) -> Result<Vec<Json>, Failure> {
    let wanted = key.to_string();
    let lines = BufReader::new(client.open("/export", &[("prefix", key.as_bytes().to_vec())])?);
    // The key itself is the first that begins with it.
    let Some(line) = lines.lines().next() else { return Ok(Vec::new()) };
    let line = line.map_err(|error| Failure::Io("the export".into(), error))?;
    let line: Json = serde_json::from_str(&line).map_err(not_understood)?;
    let versions = line.get("versions").filter(|_| text(&line, "key") == wanted);
    Ok(versions.and_then(Json::as_array).cloned().unwrap_or_default())
}

/// The order of versions as the documentation has it: later wins, whatever node asks.
fn rank(version: &Json) -> (u64, u64, bool, u64, Reverse<u64>, String, u64) {
    let number = |name| version.get(name).and_then(Json::as_u64).unwrap_or(0);
    let is_deleted = version.get("deleted").and_then(Json::as_bool).unwrap_or(false);
    let (age, origin) = (Reverse(number("author_joined")), text(version, "origin"));
    (number("millis"), number("counter"), is_deleted, number("ruling"), age, origin, number("seq"))
}

fn kind(version: &Json) -> &'static str {
    match version.get("deleted").and_then(Json::as_bool) {
        Some(true) => "tombstone",
        _ => "value",
    }
}

fn table(rows: &[Json]) -> Result<(), Failure> {
    let head = ["MEMBER", "HOLDS", "WRITTEN", "STAMP", "RULING", "AUTHOR SINCE", "DOT"];
    print_table(&head, rows, |row| {
        let mut cells = vec![text(row, "member"), text(row, "holds")];
        if let Some(version) = row.get("version") {
            cells.extend([
                time_text(version.get("millis")),
                format!("{}.{}", text(version, "millis"), text(version, "counter")),
                text(version, "ruling"),
                time_text(version.get("author_joined")),
                format!("{}:{}", text(version, "origin"), text(version, "seq")),
            ]);
        }
        cells.resize(head.len(), String::new());
        cells
    })
}

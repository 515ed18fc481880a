//! What answers look like on a terminal: tables, JSON, or the bytes as they came.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use reknit::client::ClientError;
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::{Failure, Output, not_understood};

/// Prints a JSON answer: as it came, or through `table`.
pub fn show(output: Output, answer: &[u8], table: fn(&Json) -> Result<(), Failure>) -> Result<(), Failure> {
    let json: Json = serde_json::from_slice(answer).map_err(not_understood)?;
    match output {
        Output::Raw => print(answer),
        Output::Json => print_json(&json),
        Output::Table => table(&json),
    }
}

/// The members, one a row.
pub fn members_table(members: &Json) -> Result<(), Failure> {
    let rows = members.as_array().ok_or_else(|| ClientError::Answer("no list of members".into()))?;
    print_table(&["ID", "ADDRESS", "STATE", "MODE", "JOINED", "LAST SEEN"], rows, |row| {
        let time = |name| time_text(row.get(name));
        let mut cells = ["id", "address", "state", "mode"].map(|name| text(row, name)).to_vec();
        cells.extend([time("joined_timestamp"), time("last_seen")]);
        cells
    })
}

/// One row per key; whatever else the node says about it stands beside it.
pub fn conflicts_table(conflicts: &Json) -> Result<(), Failure> {
    let items = conflicts.get("items").or_else(|| conflicts.get("conflicts")).unwrap_or(conflicts);
    let mut rows =
        items.as_array().cloned().ok_or_else(|| ClientError::Answer("no list of conflicts".into()))?;
    for aside in conflicts.get("aside").and_then(Json::as_array).into_iter().flatten() {
        let mut row = aside.clone();
        row["kind"] = "aside".into();
        rows.push(row);
    }
    print_table(&["KEY", "WHAT"], &rows, |row| {
        let mut what = row.clone();
        what.as_object_mut().map(|fields| fields.remove("key"));
        vec![text(row, "key"), what.to_string()]
    })
}

/// One row per fact; what is nested is shown below its own name.
pub fn status_table(status: &Json) -> Result<(), Failure> {
    let mut rows = Vec::new();
    flatten("", status, &mut rows);
    print_table(&["WHAT", "VALUE"], &rows, |row| vec![text(row, "what"), text(row, "value")])
}

fn flatten(name: &str, value: &Json, rows: &mut Vec<Json>) {
    let below = |inner: &str| if name.is_empty() { inner.to_owned() } else { format!("{name}.{inner}") };
    match value {
        Json::Object(fields) => fields.iter().for_each(|(field, value)| flatten(&below(field), value, rows)),
        Json::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| flatten(&below(&index.to_string()), value, rows));
        }
        plain => rows.push(json!({ "what": name, "value": plain })),
    }
}

/// A field as text; empty where there is none.
pub fn text(row: &Json, name: &str) -> String {
    match row.get(name) {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Milliseconds since 1970 as people read them.
pub fn time_text(millis: Option<&Json>) -> String {
    let millis = millis.and_then(Json::as_i64);
    let time = millis.and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    // Always three digits: columns stay in line, and text sorts as time does.
    time.map(|time| format!("{time:.3}")).unwrap_or_default()
}

/// Aligned columns without borders.
pub fn print_table(
    head: &[&str],
    rows: &[Json],
    cells: impl Fn(&Json) -> Vec<String>,
) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    for row in rows {
        table.add_row(cells(row));
    }
    let lines: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    print(lines.as_bytes())
}

/// JSON for people and programs.
pub fn print_json(json: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(json).expect("our own structs are JSON");
    text.push('\n');
    print(text.as_bytes())
}

/// Exactly these bytes.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::Io("standard output".to_owned(), error))
}

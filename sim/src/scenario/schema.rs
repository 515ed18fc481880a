//! The JSON Schema of scenario files, made from the same tables that the parser reads by.
//!
//! Editors complete and explain names with it. It promises to take everything that the parser takes; what a line
//! or a figure means only the parser knows.

use serde_json::{Map, Value, json};

use super::fields::FIELDS;
use super::figures::{duration, share};
use super::verbs::{CHECKS, OPTIONS, VERBS};

/// Where the schema is kept, seen from a scenario of `scenarios/`.
pub const PATH: &str = "../docs/scenario.schema.json";

/// What `docs/scenario.schema.json` holds.
pub fn schema() -> String {
    let mut root = section("");
    let whole = root.as_object_mut().expect("a section is an object");
    whole.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    whole.insert("title".to_owned(), json!("Scenario of the Reknit simulator"));
    whole.insert("required".to_owned(), json!(["cluster"]));
    whole.insert("definitions".to_owned(), json!({ "step": step(), "check": check() }));
    let mut text = serde_json::to_string_pretty(&root).expect("a schema is plain data");
    text.push('\n');
    text
}

fn section(name: &str) -> Value {
    let mut properties = Map::new();
    for field in FIELDS.iter().filter(|field| field.section == name) {
        let mut shape = shape(field.section, field.name, field.example);
        let about = format!("{} (without it: {})", field.meaning, field.default);
        let entries = shape.as_object_mut().expect("a shape is an object");
        entries.insert("description".to_owned(), json!(about));
        properties.insert(field.name.to_owned(), shape);
    }
    // Under `clocks`, a node's name gives figures of its own.
    let more = if name == "clocks" {
        json!({ "type": "object", "properties": properties.clone(), "additionalProperties": false })
    } else {
        json!(false)
    };
    json!({ "type": "object", "properties": properties, "additionalProperties": more })
}

fn shape(of: &str, name: &str, example: &str) -> Value {
    match (of, name) {
        ("" | "cluster", section_name) if FIELDS.iter().any(|field| field.section == section_name) => {
            section(section_name)
        }
        ("", "timeline") => json!({ "type": ["array", "null"], "items": { "$ref": "#/definitions/step" } }),
        ("", "check") => json!({ "type": ["array", "null"], "items": { "$ref": "#/definitions/check" } }),
        ("cluster", "nodes" | "later") => json!({
            "type": ["string", "array"], "items": { "type": ["string", "number"] }, "examples": [example]
        }),
        _ if example.starts_with(['[', '{']) => json!({ "examples": [example] }),
        // A bare 0, 0.2 or 7 is a number to YAML.
        _ if duration(example).is_ok() || share(example).is_ok() => {
            json!({ "type": ["string", "number"], "examples": [example] })
        }
        _ => json!({ "type": ["string", "number", "boolean"], "examples": [example] }),
    }
}

fn step() -> Value {
    let words = alternatives(VERBS.iter().map(|verb| verb.word));
    let examples = VERBS.iter().flat_map(|verb| verb.examples).map(|example| format!("5s  {example}"));
    let forms = VERBS.iter().map(|verb| format!("{}: {}", verb.forms.join(" | "), verb.meaning));
    let options = OPTIONS.iter().map(|(option, meaning)| format!("{option}: {meaning}"));
    json!({
        "type": "string",
        "pattern": format!(r"^\s*[0-9][0-9A-Za-z.]*\s+({words})(\s|$)"),
        "description": lines("A time, a verb, and what the verb needs.", forms.chain(options)),
        "examples": examples.collect::<Vec<_>>(),
    })
}

fn check() -> Value {
    let words = alternatives(CHECKS.iter().map(|check| check.word));
    let forms = CHECKS.iter().map(|check| format!("{}: {}", check.form, check.meaning));
    let examples: Vec<&str> = CHECKS.iter().map(|check| check.example).collect();
    json!({
        "type": "string",
        "pattern": format!(r"^\s*({words})(\s|$)"),
        "description": lines("What must hold in the end.", forms),
        "examples": examples,
    })
}

fn alternatives<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut words: Vec<&str> = words.collect();
    words.dedup();
    words.join("|")
}

fn lines(first: &str, rest: impl Iterator<Item = String>) -> String {
    std::iter::once(first.to_owned()).chain(rest).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;

use expect_test::expect_file;

use super::super::parse::parse;
use super::*;

#[test]
fn the_manual_is_made_from_the_tables() {
    expect_file!["../../../docs/scenarios.md"].assert_eq(&manual());
}

#[test]
fn every_example_of_the_verbs_parses_where_it_makes_sense() {
    for verb in VERBS {
        for example in verb.examples {
            let before = match verb.word {
                "restart" | "wipe" | "restore" => "[ 1s backup c, 1s crash c, ",
                "resume" => "[ 1s pause c, ",
                "clone" => "[ 1s crash c, ",
                _ => "[ ",
            };
            let example = example.replace('\'', "''");
            let yaml = format!("cluster: {{ nodes: a b c, later: d }}\ntimeline: {before}'2s {example}' ]\n");
            parse("example.yaml", &yaml).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn every_example_of_the_checks_parses() {
    for check in CHECKS {
        let yaml = format!("cluster: {{ nodes: a b c }}\ncheck:\n  - {}\n", check.example);
        parse("example.yaml", &yaml).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn every_field_of_the_table_is_read() {
    for field in FIELDS {
        let entry = format!("{}: {}", field.name, field.example);
        let yaml = match (field.section, field.name) {
            ("", "cluster") | ("cluster", "nodes") => continue,
            ("", _) => format!("cluster: {{ nodes: a b c }}\n{entry}\n"),
            ("cluster", _) => format!("cluster:\n  nodes: a b c\n  {entry}\n"),
            ("config", _) => format!("cluster:\n  nodes: a b c\n  config:\n    {entry}\n"),
            (section, _) => format!("cluster: {{ nodes: a b c }}\n{section}:\n  {entry}\n"),
        };
        parse("example.yaml", &yaml).unwrap_or_else(|error| panic!("{error}"));
    }
}

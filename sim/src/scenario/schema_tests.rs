use std::path::Path;

use expect_test::expect_file;

use super::*;

#[test]
fn the_schema_is_made_from_the_tables() {
    expect_file!["../../../docs/scenario.schema.json"].assert_eq(&schema());
}

#[test]
fn every_field_and_every_verb_of_the_tables_is_in_the_schema() {
    let text = schema();

    for name in FIELDS.iter().map(|field| field.name) {
        assert!(text.contains(&format!("\"{name}\": {{")), "{name}");
    }
    let step = step();
    let pattern = step["pattern"].as_str().expect("a step has a pattern");
    for verb in VERBS {
        assert!(pattern.contains(verb.word), "{}", verb.word);
    }
}

#[test]
fn the_path_that_scenarios_name_is_there() {
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");

    assert!(scenarios.join(PATH).is_file());
}

//! Any text as a scenario: a story or an error with a place, never a panic; and a story that is written down reads back
//! the same.

use reknit_sim::scenario::{parse, write};

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(story) = parse::parse("fuzz.yaml", text) else { return };
    let written = write::to_yaml(&story);
    let again = parse::parse("written.yaml", &written);
    let again = again.unwrap_or_else(|error| panic!("what was written is refused: {error}\n{written}"));
    assert_eq!(write::to_yaml(&again), written, "what was written reads otherwise");
}

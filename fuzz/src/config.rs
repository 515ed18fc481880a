//! Any text as a configuration: a value or an error with a place, never a panic; and what is shown reads back the same.

use std::path::Path;

use reknit::config::Config;

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(config) = Config::from_text(Path::new("fuzz.yaml"), text) else { return };
    let shown = config.to_yaml();
    let again = Config::from_text(Path::new("shown.yaml"), &shown);
    let again = again.unwrap_or_else(|error| panic!("what was shown is refused: {error}\n{shown}"));
    let values = |yaml: &str| {
        let line = |line: &str| line.split(" # ").next().unwrap_or_default().trim_end().to_owned();
        yaml.lines().filter(|line| !line.starts_with('#')).map(line).collect::<Vec<_>>()
    };
    assert_eq!(values(&again.to_yaml()), values(&shown), "what was shown reads otherwise");
}

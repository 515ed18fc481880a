//! What clients asked and were told, one request a line: what a checker of histories, or a person, reads first.
//!
//! Pure; in the order in which they were asked. A request without an answer may have been carried out or not.

use super::recording::{Asked, Recording};

/// The file.
pub fn text(recording: &Recording) -> String {
    let mut text = "# asked s, answered s, node, request, status, answer\n".to_owned();
    for asked in &recording.asks {
        let Asked { id: _, at, node, verb, key, value, answered, answer } = asked;
        let key = key.map(|key| recording.keys[key].to_string()).unwrap_or_default();
        let (when, status) = match answered {
            Some((when, status)) => (format!("{:.6}", when.as_secs_f64()), status.to_string()),
            None => ("-".to_owned(), "unknown".to_owned()),
        };
        let value = if value.is_empty() { String::new() } else { format!(" {value:?}") };
        let node = &recording.names[*node];
        text +=
            &format!("{:.6}\t{when}\t{node}\t{verb} {key}{value}\t{status}\t{answer}\n", at.as_secs_f64());
    }
    text
}

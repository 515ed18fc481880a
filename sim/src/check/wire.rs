//! WIRE: what leaves a node comes out of the wire as it went in, and what was damaged on its way does not come out.

use reknit::protocol::Message;
use reknit::protocol::wire::{Assembler, encode};

/// What is wrong with the way of a message through the wire, if something is.
pub fn judge(message: &Message) -> Option<String> {
    let frames = match encode(message, 1) {
        Ok(frames) => frames,
        Err(error) => return Some(format!("a message cannot be encoded: {error}")),
    };
    let mut assembler = Assembler::default();
    let mut come_out = None;
    for frame in frames {
        match assembler.push(frame) {
            Ok(whole) => come_out = come_out.or(whole),
            Err(error) => return Some(format!("a message's own frame is refused: {error}")),
        }
    }
    match come_out {
        None => Some("a message went in and none came out".to_owned()),
        Some(same) if same == *message => None,
        Some(other) => Some(format!("{message:?} went in and {other:?} came out")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The bad twin is the mutant `wire-drops`: a codec cannot be broken from here.
    #[test]
    fn a_message_comes_out_as_it_went_in() {
        assert_eq!(judge(&Message::Refuse { reason: "because".into() }), None);
    }
}

//! Any bytes into the frame decoder: no panic, bounded memory, and what decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reknit::protocol::wire::{Assembler, encode};

fuzz_target!(|bytes: &[u8]| {
    let mut assembler = Assembler::default();
    let Ok(Some(message)) = assembler.push(bytes.to_vec().into()) else { return };
    let frames = encode(&message, 0).expect("what came in one frame goes out again");
    assert_eq!(frames.concat(), bytes);
});

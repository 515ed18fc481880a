//! Any bytes to every decoder of what comes from outside: frames, the payload inside a frame, the statements of a
//! flight, records, backups. No panic; what decodes encodes to the same bytes.

use bytes::Bytes;
use reknit::model::Key;
use reknit::protocol::flight::{self, Writer};
use reknit::protocol::wire::{Assembler, compressed, encode, frame_around, frame_around_compressed};
use reknit::storage::backup;
use reknit::storage::rows::{self, Record};

pub fn run(bytes: &[u8]) {
    frame(bytes.to_vec().into());
    if let Some((kind, payload)) = bytes.split_first() {
        // The checksum would keep nearly everything out: this time it is right.
        frame(frame_around(*kind, payload));
        // Nothing that came compressed is written the same again; it must come back, and within its bounds.
        let _ = Assembler::default().push(frame_around_compressed(*kind, payload));
    }
    if let Some(parts) = flight::read(bytes) {
        let mut writer = Writer::default();
        parts.iter().for_each(|part| writer.add(part));
        let again = flight::read(&writer.into_bytes());
        assert_eq!(again.as_ref(), Some(&parts), "statements read differently once written");
    }
    let key = Key::from_path("k").expect("a letter is a key");
    if let Record::Row(row) = rows::decode_record(&key, bytes.to_vec().into()) {
        assert_eq!(rows::encode_row(&key, &row), bytes, "a record that is written otherwise");
    }
    // It says what is wrong with them, or that nothing is.
    let _ = backup::check(&mut &bytes[..]);
}

fn frame(frame: Bytes) {
    let Ok(Some(message)) = Assembler::default().push(frame.clone()) else { return };
    let frames = encode(&message, 0).expect("what came in one frame goes out again");
    if frames.concat() == frame {
        let again = Assembler::default().push(compressed(&frame)).expect("a frame of ours");
        assert_eq!(again.as_ref(), Some(&message), "a message that is read otherwise once compressed");
    } else {
        // The one thing that is written in several ways.
        assert_ne!(frame[7] & 2, 0, "a message that is written otherwise");
    }
}

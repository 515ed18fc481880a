//! A stream of frames, cut anywhere: what comes out does not depend on the cuts. And large messages in parts, mixed
//! with each other: each comes out whole, once, or is given up when too many are under way.

use arbitrary::{Result, Unstructured};
use bytes::{Bytes, BytesMut};
use reknit::driver::tokio_world::frame_codec;
use reknit::model::{Dot, Entry, Key, Origin, Stamp, Version, WallTime};
use reknit::protocol::Message;
use reknit::protocol::wire::{self, Assembler};
use tokio_util::codec::Decoder;

/// Most messages of one story.
const MESSAGES_MAX: usize = 4;

pub fn run(bytes: &[u8]) {
    // What is left of the bytes when a story runs out of them is its end.
    let _ = cuts(Unstructured::new(bytes));
    let _ = parts(&mut Unstructured::new(bytes));
}

fn cuts(mut input: Unstructured<'_>) -> Result<()> {
    let steps: Vec<u8> = input.arbitrary()?;
    let stream = input.take_rest();
    let whole = decode(stream, &[usize::MAX]);
    let steps: Vec<usize> = steps.iter().map(|step| usize::from(*step) + 1).chain([usize::MAX]).collect();
    assert_eq!(decode(stream, &steps), whole, "the cuts of a stream changed what came out");
    Ok(())
}

/// The frames of a stream that arrives in pieces of these sizes, and whether it ended in an error.
fn decode(mut stream: &[u8], steps: &[usize]) -> (Vec<Bytes>, bool) {
    let (mut codec, mut buffer, mut frames) = (frame_codec(), BytesMut::new(), Vec::new());
    for step in steps {
        let (piece, rest) = stream.split_at((*step).min(stream.len()));
        buffer.extend_from_slice(piece);
        stream = rest;
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame.freeze()),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fn parts(input: &mut Unstructured<'_>) -> Result<()> {
    let mut queues = Vec::new();
    for number in 0..input.int_in_range(1..=MESSAGES_MAX)? {
        let message = large(number as u64, input.int_in_range(1..=300_000)?);
        let mut frames = wire::encode(&message, number as u64).expect("below the limit");
        for frame in &mut frames {
            // Compressed frames and others may be mixed as they like.
            if input.arbitrary()? {
                *frame = wire::compressed(frame);
            }
        }
        queues.push((message, frames.into_iter().collect::<std::collections::VecDeque<_>>()));
    }
    let mut assembler = Assembler::default();
    let mut came = Vec::new();
    while queues.iter().any(|(_, frames)| !frames.is_empty()) {
        let at = input.int_in_range(0..=queues.len() - 1)?;
        let Some(frame) = queues[at].1.pop_front() else {
            queues.rotate_left(1);
            continue;
        };
        if let Some(message) = assembler.push(frame).expect("an honest frame") {
            came.push(message);
        }
    }
    for (message, _) in &queues {
        assert_eq!(came.iter().filter(|one| *one == message).count(), 1, "a message came not once");
    }
    Ok(())
}

fn large(number: u64, bytes: usize) -> Message {
    let version = Version {
        stamp: Stamp { millis: 1, counter: 0 },
        dot: Dot { origin: Origin(1), seq: number + 1 },
        author_joined: WallTime(1),
        ruling: 0,
        confirms: None,
        tombstone: false,
        expires_at: None,
        content_type: "text/plain".into(),
        value: vec![number as u8; bytes].into(),
    };
    Message::Repair { entries: vec![Entry { key: Key::from_path("k").expect("a letter is a key"), version }] }
}

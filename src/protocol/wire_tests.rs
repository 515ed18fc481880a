//! The wire: what goes in comes out, nothing else does, and the bytes of every message stand below.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::model::DotSet;
use crate::model::{
    Address, Dot, Entry, Key, Member, MemberState, Mode, NodeId, Origin, Stamp, Version, WallTime,
};
use crate::protocol::flight::Flight;
use crate::protocol::outline::{Outline, Part, Which};
use crate::protocol::rebase::{Fate, Held};
use crate::testing::arbitrary;

/// Bytes in the shape of a frame, with a checksum that fits.
fn forge(version: u16, codec: u8, flags: u8, kind: u8, payload: &[u8]) -> Bytes {
    let mut out = Vec::from(MAGIC);
    out.extend(version.to_le_bytes());
    out.extend([codec, flags, kind]);
    out.extend([0; 8]);
    out.extend(payload);
    let sum = checksum(&out);
    out[HASH_AT..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    out.into()
}

fn payload(message: &Message) -> Vec<u8> {
    encode_payload(message).unwrap()
}

fn open_alone(frame: Bytes) -> Result<Option<Message>, WireError> {
    Assembler::default().push(frame)
}

/// A push whose encoding takes some frames.
fn large(seed: u8, bytes: usize) -> Message {
    let mut entry = golden_entry();
    entry.version.value = (0..bytes).map(|at| seed.wrapping_add(at as u8)).collect::<Vec<u8>>().into();
    Message::Push { entries: vec![entry] }
}

proptest! {
    #[test]
    fn every_message_comes_out_as_it_went_in(message in arbitrary::message(), number in any::<u64>()) {
        let frames = encode(&message, number).unwrap();

        prop_assert_eq!(frames.len(), 1);
        prop_assert_eq!(is_data(&frames[0]), matches!(
            message,
            Message::Push { .. } | Message::Step { .. } | Message::SyncFlight(_) | Message::Repair { .. }
        ));
        prop_assert_eq!(open_alone(frames[0].clone()), Ok(Some(message)));
    }

    #[test]
    fn parts_of_several_messages_in_any_order_give_those_messages(
        (messages, frames) in vec((any::<u8>(), 70_000_usize..400_000), 1..=UNFINISHED_MAX).prop_flat_map(|sizes| {
            let messages: Vec<Message> = sizes.iter().map(|(seed, bytes)| large(*seed, *bytes)).collect();
            let frames_of = |(at, message)| encode(message, at as u64).unwrap().into_iter().map(move |frame| (at, frame));
            let frames: Vec<(usize, Bytes)> = messages.iter().enumerate().flat_map(frames_of).collect();
            (Just(messages), Just(frames).prop_shuffle())
        }),
    ) {
        let mut left: BTreeMap<usize, usize> = BTreeMap::new();
        for (at, frame) in &frames {
            prop_assert!(frame.len() <= FRAME_BYTES_MAX && is_data(frame));
            *left.entry(*at).or_default() += 1;
        }
        let mut assembler = Assembler::default();

        for (at, frame) in frames {
            let left = left.get_mut(&at).unwrap();
            *left -= 1;
            let expected = (*left == 0).then(|| messages[at].clone());
            prop_assert!(assembler.push(frame) == Ok(expected));
        }
    }

    #[test]
    fn a_compressed_message_comes_out_as_it_went_in(
        seed in any::<u8>(), bytes in 0_usize..200_000, at in any::<Index>(), bit in 0_u8..8,
    ) {
        let message = large(seed, bytes);
        let frames: Vec<Bytes> = encode(&message, 7).unwrap().iter().map(compressed).collect();
        let mut assembler = Assembler::default();

        for frame in &frames {
            prop_assert_eq!(&compressed(frame), frame, "nothing is compressed twice");
            prop_assert!(is_frame(frame) && is_data(frame));
        }
        let small = frames.iter().filter(|frame| frame.len() < 2000).count();
        prop_assert!(small >= frames.len().saturating_sub(1), "the pattern of a large value repeats");
        let mut damaged = frames[0].to_vec();
        let at = at.index(damaged.len());
        damaged[at] ^= 1 << bit;
        prop_assert!(open_alone(damaged.into()).is_err());
        let whole: Vec<Message> =
            frames.into_iter().filter_map(|frame| assembler.push(frame).unwrap()).collect();
        prop_assert_eq!(whole, [message]);
    }

    #[test]
    fn a_flipped_bit_is_noticed(message in arbitrary::message(), at in any::<Index>(), bit in 0_u8..8) {
        let mut frame = encode(&message, 1).unwrap()[0].to_vec();
        let at = at.index(frame.len());
        frame[at] ^= 1 << bit;

        prop_assert!(open_alone(frame.into()).is_err());
    }

    #[test]
    fn a_frame_cut_short_or_with_more_behind_it_is_noticed(
        message in arbitrary::message(), at in any::<Index>(), more in vec(any::<u8>(), 1..9),
    ) {
        let frame = encode(&message, 1).unwrap()[0].clone();

        prop_assert!(open_alone(frame.slice(..at.index(frame.len()))).is_err());
        prop_assert!(open_alone([&frame[..], &more[..]].concat().into()).is_err());
    }

    #[test]
    fn a_payload_cut_short_or_with_more_behind_it_is_no_message_even_under_a_right_checksum(
        message in arbitrary::message(), at in any::<Index>(), more in vec(any::<u8>(), 1..9),
    ) {
        let bytes = payload(&message);
        let forge = |payload: &[u8]| forge(PROTOCOL_VERSION, CODEC_BINCODE_FIXED, 0, kind(&message), payload);

        prop_assert!(open_alone(forge(&bytes)).is_ok());
        prop_assert!(open_alone(forge(&bytes[..at.index(bytes.len())])).is_err());
        prop_assert!(open_alone(forge(&[bytes, more].concat())).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(
        frames in vec((any::<bool>(), 0_u8..4, 0_u8..12, vec(any::<u8>(), 0..200)), 1..20),
    ) {
        let mut assembler = Assembler::default();
        for (is_forged, flags, kind, bytes) in frames {
            let frame =
                if is_forged { forge(PROTOCOL_VERSION, CODEC_BINCODE_FIXED, flags, kind, &bytes) } else { bytes.into() };
            // What it makes of them is its own affair; it must come back.
            let _ = assembler.push(frame);
            prop_assert!(assembler.unfinished.len() <= UNFINISHED_MAX);
        }
    }

    #[test]
    fn a_message_damaged_under_a_right_checksum_is_another_message_or_none(
        message in arbitrary::message(), at in any::<Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = payload(&message);
        let at = at.index(bytes.len());
        bytes[at] = byte;

        let frame = forge(PROTOCOL_VERSION, CODEC_BINCODE_FIXED, 0, kind(&message), &bytes);

        if let Ok(Some(read)) = open_alone(frame) {
            prop_assert_eq!(payload(&read), bytes, "there is one way to write a message");
        }
    }
}

#[test]
fn frames_of_another_protocol_are_refused_with_the_reason() {
    let message = Message::StepDone { session: 1, step: 2 };
    let bytes = payload(&message);
    let forge = |version, codec, flags, kind| open_alone(forge(version, codec, flags, kind, &bytes));

    assert_eq!(forge(1, 1, 0, 9), Ok(Some(message.clone())));
    assert_eq!(forge(2, 1, 0, 9), Err(WireError::Version(2)));
    assert_eq!(forge(1, 2, 0, 9), Err(WireError::Codec { codec: 2, flags: 0 }));
    assert_eq!(forge(1, 1, 4, 9), Err(WireError::Codec { codec: 1, flags: 4 }));
    assert_eq!(forge(1, 1, 2, 9), Err(WireError::Compressed), "it is not what this flag says");
    assert!(matches!(forge(1, 1, 0, 8), Err(WireError::Payload(_))), "the kind byte must tell the truth");

    let mut other = encode(&message, 1).unwrap()[0].to_vec();
    other[0] = b'H';
    assert_eq!(open_alone(other.into()), Err(WireError::Magic));
    assert_eq!(open_alone(Bytes::new()), Err(WireError::Length { bytes: 0 }));
    let long = forge_of_length(FRAME_BYTES_MAX + 1);
    assert_eq!(open_alone(long), Err(WireError::Length { bytes: FRAME_BYTES_MAX + 1 }));
}

#[test]
fn a_compressed_frame_holds_no_more_than_a_frame() {
    // One gibibyte of zeros, in a frame that says so, and in one that says it is as long as a frame may be.
    let bomb = zstd::bulk::compress(&vec![0; 1 << 30], 19).unwrap();
    let forge = |size: u32, packed: &[u8]| {
        let payload = [&size.to_le_bytes(), packed].concat();
        forge(PROTOCOL_VERSION, CODEC_BINCODE_FIXED, FLAG_ZSTD, 4, &payload)
    };
    let most = (FRAME_BYTES_MAX - HEADER_BYTES) as u32;

    for size in [1 << 30, most + 1, most, 1024] {
        assert_eq!(open_alone(forge(size, &bomb)), Err(WireError::Compressed));
    }
    let just_fits = zstd::bulk::compress(&vec![0; most as usize], 1).unwrap();
    assert!(
        matches!(open_alone(forge(most, &just_fits)), Err(WireError::Payload(_))),
        "zeros are no message"
    );
    assert_eq!(open_alone(forge(most - 1, &just_fits)), Err(WireError::Compressed));
}

fn forge_of_length(bytes: usize) -> Bytes {
    forge(PROTOCOL_VERSION, CODEC_BINCODE_FIXED, 0, 1, &vec![0; bytes - HEADER_BYTES])
}

#[test]
fn parts_that_contradict_each_other_or_the_limits_are_refused() {
    let part = |number: u64, part: u16, parts: u16| {
        let mut head = number.to_le_bytes().to_vec();
        head.extend(part.to_le_bytes());
        head.extend(parts.to_le_bytes());
        head.push(0);
        forge(PROTOCOL_VERSION, CODEC_BINCODE_FIXED, FLAG_PARTS, 4, &head)
    };

    for frame in
        [part(1, 0, 0), part(1, 0, 1), part(1, 2, 2), part(1, 0, u16::MAX), part(1, u16::MAX, u16::MAX)]
    {
        assert_eq!(open_alone(frame), Err(WireError::Parts));
    }

    let mut assembler = Assembler::default();
    assert_eq!(assembler.push(part(1, 0, 2)), Ok(None));
    assert_eq!(assembler.push(part(1, 1, 3)), Err(WireError::Parts));
}

#[test]
fn of_too_many_unfinished_messages_the_oldest_is_forgotten() {
    let messages: Vec<Message> = (0..=UNFINISHED_MAX as u8).map(|seed| large(seed, 70_000)).collect();
    let frames: Vec<Vec<Bytes>> =
        messages.iter().enumerate().map(|(at, message)| encode(message, at as u64).unwrap()).collect();
    let mut assembler = Assembler::default();

    for frames in &frames {
        assert_eq!(assembler.push(frames[0].clone()), Ok(None));
    }

    for (message, frames) in messages.iter().zip(&frames).skip(1) {
        assert_eq!(assembler.push(frames[1].clone()), Ok(Some(message.clone())));
    }
    assert_eq!(assembler.push(frames[0][1].clone()), Ok(None), "its first part is gone");
}

#[test]
fn the_largest_value_under_the_largest_key_has_room_and_more_than_the_limit_has_not() {
    let mut entry = golden_entry();
    entry.key = Key::new(vec![b'k'; Key::BYTES_MAX]).unwrap();
    entry.version.content_type = "x".repeat(Version::CONTENT_TYPE_BYTES_MAX);
    entry.version.value = vec![7; Version::VALUE_BYTES_MAX].into();
    let message = Message::Push { entries: vec![entry.clone()] };
    let mut assembler = Assembler::default();

    let frames = encode(&message, 1).unwrap();
    let whole: Vec<Message> = frames.into_iter().filter_map(|frame| assembler.push(frame).unwrap()).collect();

    assert_eq!(whole, [message]);
    assert!(encode(&Message::Push { entries: vec![entry.clone(), entry] }, 1).is_err());
}

#[test]
fn a_length_that_no_payload_has_allocates_nothing_and_is_refused() {
    for kind in 1..=10 {
        let mut bytes = payload(&golden().swap_remove(usize::from(kind) - 1));
        for at in 4..bytes.len().saturating_sub(8) {
            let before: Vec<u8> = bytes[at..at + 8].into();
            bytes[at..at + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
            // Fixed-width numbers may hold it; no list, string or map may.
            let _ = open_alone(forge(PROTOCOL_VERSION, CODEC_BINCODE_FIXED, 0, kind, &bytes));
            bytes[at..at + 8].copy_from_slice(&before);
        }
    }
}

#[test]
fn a_payload_that_decodes_but_holds_no_key_name_or_set_is_refused() {
    let refused = |message: &Message, from: &[u8], to: &[u8]| {
        let bytes = payload(message);
        let at = bytes.windows(from.len()).position(|window| window == from).expect("it is in there");
        let bytes = [&bytes[..at], to, &bytes[at + from.len()..]].concat();
        let read = open_alone(forge(PROTOCOL_VERSION, CODEC_BINCODE_FIXED, 0, kind(message), &bytes));
        assert!(matches!(read, Err(WireError::Payload(_))), "{read:?}");
    };
    let [table, push, durable] = [0, 3, 4].map(|at| golden().swap_remove(at));
    let run = |first: u64, last: u64| [first.to_le_bytes(), last.to_le_bytes()].concat();

    refused(&push, b"home/room", b"home//oom");
    refused(&push, b"home/room", b"/home/roo");
    refused(&push, b"home/room", b"home/\0oom");
    refused(&table, b"127.0.0.1:8081", b"127.0.0.1:0000");
    refused(&table, b"node1", b"node ");
    refused(&durable, &run(1, 3), &run(0, 3));
    refused(&durable, &run(1, 3), &run(3, 1));
    refused(&durable, &run(1, 3), &run(1, 6));
    refused(&durable, &run(5, 5), &run(5, u64::MAX));
}

fn golden_entry() -> Entry {
    Entry {
        key: Key::from_path("home/room").unwrap(),
        version: Version {
            stamp: Stamp { millis: 0x0102_0304_0506, counter: 0x0708 },
            dot: Dot { origin: Origin(0xa1a2_a3a4_a5a6_a7a8), seq: 9 },
            author_joined: WallTime(0x0b),
            ruling: 0x0c0d,
            confirms: Some(Dot { origin: Origin(0xb1), seq: 2 }),
            tombstone: false,
            expires_at: Some(WallTime(0x0e)),
            content_type: "text/plain".into(),
            value: "red".into(),
        },
    }
}

/// One message of every kind, in the order of the kinds.
fn golden() -> Vec<Message> {
    let member = Member {
        id: NodeId::new("node1").unwrap(),
        address: Address::new("127.0.0.1:8081").unwrap(),
        life: 2,
        incarnation: 3,
        state: MemberState::Suspect,
        joined: WallTime(0x0102),
        mode: Mode::ReadOnly,
        origin: Some(Origin(0xa1)),
        policies: 0x0304,
        protocol: ProtocolRange { min: 5, max: 6 },
    };
    let tombstone = Version {
        tombstone: true,
        confirms: None,
        expires_at: None,
        content_type: String::new(),
        value: Bytes::new(),
        ..golden_entry().version
    };
    let tombstone = Entry { version: tombstone, ..golden_entry() };
    let mut dots = DotSet::default();
    dots.insert_run(Origin(0xa1), 1, 3);
    dots.insert_run(Origin(0xa1), 5, 5);
    vec![
        Message::Table { members: vec![member.clone()], answer: true },
        Message::Ping { nonce: 1, seen: 2, table: 3, rumours: vec![member] },
        Message::Pong { nonce: 1, seen: 2, table: 3, rumours: Vec::new() },
        Message::Push { entries: vec![golden_entry()] },
        Message::Durable { dots: dots.clone() },
        Message::Pull { session: 4, seen: Outline::Whole(dots.clone()), credit: 5, since: 6 },
        Message::Step { session: 4, step: 6, part: 7, entries: vec![tombstone] },
        Message::StepEnd { session: 4, step: 6, parts: 8, cover: Some(dots), recent_in: true },
        Message::StepDone { session: 4, step: 6 },
        Message::Refuse { reason: "no".into() },
        Message::Ask {
            poll: 7,
            key: golden_entry().key,
            pair: [golden_entry().version.dot, Dot { origin: Origin(0xb1), seq: 2 }],
        },
        Message::Answer { poll: 7, first: Some(Dot { origin: Origin(0xb1), seq: 2 }) },
        Message::Meet {
            life: 1,
            run: 9,
            draws: 2,
            fence: 3,
            roster: 4,
            policies: 5,
            seen: Outline::Whole(DotSet::default()),
            collected: Outline::Parted { open: DotSet::default(), closed: 6 },
            answer: true,
        },
        Message::AskDots { fence: 3, which: Which::Seen, digests: vec![7], first: 8 },
        Message::Dots {
            fence: 3,
            which: Which::Collected,
            part: Part { first: 8, last: 9, differing: vec![9], dots: DotSet::default() },
        },
        Message::Within { meeting: 10, data: Box::new(Message::StepDone { session: 4, step: 6 }) },
        Message::SyncOpen { session: 11, print: 12, scope: None },
        Message::SyncSame { session: 11 },
        Message::SyncFlight(Box::new(Flight {
            session: 11,
            step: 12,
            credit: 13,
            room: 14,
            more: true,
            parts: Bytes::from_static(b"p"),
            entries: Vec::new(),
        })),
        Message::ReadAsk { poll: 14, key: golden_entry().key },
        Message::ReadTell { poll: 14, entries: Vec::new() },
        Message::Repair { entries: Vec::new() },
        Message::News { rumours: Vec::new(), unreached: vec![NodeId::new("b").unwrap()] },
        Message::Reach { nonce: 1, target: NodeId::new("b").unwrap() },
        Message::Reached { nonce: 1, target: NodeId::new("b").unwrap(), answered: true },
        Message::AskHorizons { fence: 3, nonce: 4, after: Some(5) },
        Message::Horizons { nonce: 4, chunks: vec![(6, golden_entry().version.stamp)], is_last: true },
        Message::AskHeld {
            fence: 3,
            nonce: 4,
            held: vec![Held {
                dot: golden_entry().version.dot,
                key: golden_entry().key,
                stamp: golden_entry().version.stamp,
                tombstone: false,
            }],
        },
        Message::Judged { nonce: 4, fates: vec![Fate::Stays, Fate::Goes, Fate::Aside] },
    ]
}

#[test]
fn data_within_data_is_refused_before_it_is_read() {
    let inner = Message::Within { meeting: 1, data: Box::new(Message::StepDone { session: 4, step: 6 }) };
    let nested = Message::Within { meeting: 1, data: Box::new(inner.clone()) };

    let read = |message: &Message| open_alone(encode(message, 1).unwrap().remove(0));

    assert_eq!(read(&inner), Ok(Some(inner.clone())));
    assert!(matches!(read(&nested), Err(WireError::Payload(_))));
}

/// The wire format is these bytes. A change here is a new protocol version.
#[test]
fn the_bytes_of_every_message_are_these() {
    let mut text = String::new();
    for message in golden() {
        let frame = &encode(&message, 1).unwrap()[0];
        text.push_str(name(&message));
        for (at, byte) in frame.iter().enumerate() {
            text.push_str(if at % 32 == 0 { "\n  " } else { "" });
            text.push_str(&format!("{byte:02x}"));
        }
        text.push('\n');
    }

    let expected: Expect = expect![[r#"
        table
          524b4e5401000100015409fc6efa62cac3000000000100000000000000050000
          00000000006e6f6465310e000000000000003132372e302e302e313a38303831
          0200000000000000030000000100000002010000000000000100000001a10000
          000000000004030000000000000500060001
        ping
          524b4e540100010002c4d7f1a10ce81f7a010000000100000000000000020000
          00000000000300000000000000010000000000000005000000000000006e6f64
          65310e000000000000003132372e302e302e313a383038310200000000000000
          030000000100000002010000000000000100000001a100000000000000040300
          000000000005000600
        pong
          524b4e540100010003d92cb8bd771ce744020000000100000000000000020000
          000000000003000000000000000000000000000000
        push
          524b4e540100010004fb2584744d8ae760030000000100000000000000090000
          0000000000686f6d652f726f6f6d06050403020100000807a8a7a6a5a4a3a2a1
          09000000000000000b000000000000000d0c01b1000000000000000200000000
          00000000010e000000000000000a00000000000000746578742f706c61696e03
          00000000000000726564
        durable
          524b4e54010001000525fb90b48dfc996a040000000100000000000000a10000
          0000000000020000000000000001000000000000000300000000000000050000
          00000000000500000000000000
        pull
          524b4e540100010006f6949ac1e6c77bff050000000400000000000000000000
          000100000000000000a100000000000000020000000000000001000000000000
          0003000000000000000500000000000000050000000000000005000000060000
          0000000000
        step
          524b4e5401000100075339c4c9b76a6e44060000000400000000000000060000
          00070001000000000000000900000000000000686f6d652f726f6f6d06050403
          020100000807a8a7a6a5a4a3a2a109000000000000000b000000000000000d0c
          00010000000000000000000000000000000000
        step-end
          524b4e5401000100083efdf4c7f127b5ae070000000400000000000000060000
          000800010100000000000000a100000000000000020000000000000001000000
          0000000003000000000000000500000000000000050000000000000001
        step-done
          524b4e54010001000902e4b0c86c1cb3f0080000000400000000000000060000
          00
        refuse
          524b4e54010001000aa4ea199b661a4ccc0900000002000000000000006e6f
        ask
          524b4e54010001000bca917a5f44cc2a010a0000000700000000000000090000
          0000000000686f6d652f726f6f6da8a7a6a5a4a3a2a10900000000000000b100
          0000000000000200000000000000
        answer
          524b4e54010001000cc4a488208452ad230b000000070000000000000001b100
          0000000000000200000000000000
        meet
          524b4e54010001000da0b1656f306f2d390c0000000100000000000000090000
          0000000000020000000300000000000000040000000000000005000000000000
          0000000000000000000000000001000000000000000000000006000000000000
          0001
        ask-dots
          524b4e54010001000e8597590a29e37f990d0000000300000000000000000000
          000100000000000000070000000000000008
        dots
          524b4e54010001000f2c274f25741b2a490e0000000300000000000000010000
          0008090100000000000000090000000000000000
        step-done
          524b4e5401000100090db51aa23a5c5e1a0f0000000a00000000000000080000
          00040000000000000006000000
        sync-open
          524b4e540100010010520b4f7c4e27352d100000000b0000000c000000000000
          0000
        sync-same
          524b4e540100010011a3eabe4c3288e50d110000000b000000
        sync-flight
          524b4e5401000100125d0207fdf8b82a1a120000000b0000000c0000000d0000
          000e00010100000000000000700000000000000000
        read-ask
          524b4e5401000100134b7ef6f21fc7f8b6130000000e00000000000000090000
          0000000000686f6d652f726f6f6d
        read-tell
          524b4e540100010014c11c76ef62ba8e5c140000000e00000000000000000000
          0000000000
        repair
          524b4e540100010015048d104fc2dcae55150000000000000000000000
        news
          524b4e540100010016263bca49085dc60d160000000000000000000000010000
          0000000000010000000000000062
        reach
          524b4e540100010017c1ef7eba3d4a9804170000000100000000000000010000
          000000000062
        reached
          524b4e5401000100181d6aff573fcc7b6e180000000100000000000000010000
          00000000006201
        ask-horizons
          524b4e540100010019dc78e70c1b84cfca190000000300000000000000040000
          0000000000010500
        horizons
          524b4e54010001001af1e124b42f7365b21a0000000400000000000000010000
          000000000006000605040302010000080701
        ask-held
          524b4e54010001001b6e2ad96b7b650adf1b0000000300000000000000040000
          00000000000100000000000000a8a7a6a5a4a3a2a10900000000000000090000
          0000000000686f6d652f726f6f6d0605040302010000080700
        judged
          524b4e54010001001ccbf06d9bc4a1e9e91c0000000400000000000000030000
          0000000000000000000100000002000000
    "#]];
    expected.assert_eq(&text);
}

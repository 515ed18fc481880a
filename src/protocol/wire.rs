//! Messages as bytes: frames of at most [`FRAME_BYTES_MAX`], each checked before it is believed.
//!
//! The only file that names bincode. A frame is a header laid out by hand, then a payload:
//!
//! ```text
//! magic "RKNT" 4 | protocol version u16 | codec u8 | flags u8 | kind u8 | xxh3-64 of all else u64 | payload
//! ```
//!
//! Integers are little-endian. A message that does not fit one frame travels in parts (flag bit 0): each
//! payload then starts with message number u64, part u16, parts u16. A payload with flag bit 1 was made smaller with
//! zstd (`zip.rs`), after all else: the checksum is of what travels, and what it holds has to fit a frame again. Every
//! decoder takes such frames; they are sent to peers only that said so when they connected.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3Default;

use super::message::Message;
use super::zip;
use crate::model::ProtocolRange;
use crate::mutants;

/// Largest frame, header included.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Largest encoded message: a value and a key of the largest size, and room for the rest.
pub const MESSAGE_BYTES_MAX: usize = 5 * FRAME_BYTES_MAX / 4 * 16;
/// Most unfinished messages kept per peer; beyond it the oldest is dropped.
pub const UNFINISHED_MAX: usize = 4;
/// The protocol version this build speaks.
pub const PROTOCOL_VERSION: u16 = 1;
/// What this build's members say they speak.
pub const PROTOCOL: ProtocolRange = ProtocolRange { min: PROTOCOL_VERSION, max: PROTOCOL_VERSION };

const MAGIC: [u8; 4] = *b"RKNT";
const CODEC_BINCODE_FIXED: u8 = 1;
const FLAG_PARTS: u8 = 1;
const FLAG_ZSTD: u8 = 2;
const HEADER_BYTES: usize = 4 + 2 + 1 + 1 + 1 + 8;
const FLAGS_AT: usize = 7;
const KIND_AT: usize = 8;
const HASH_AT: usize = 9;
const PART_HEADER_BYTES: usize = 8 + 2 + 2;
const PART_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES - PART_HEADER_BYTES;

/// Why bytes are not a message. The sender is counted and the bytes are dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Shorter than a header, or longer than the limit.
    #[error("a frame of {bytes} bytes; frames have {HEADER_BYTES} to {FRAME_BYTES_MAX}")]
    Length {
        /// What came.
        bytes: usize,
    },
    /// Not our frames at all.
    #[error("no reknit frame")]
    Magic,
    /// Another version of the protocol.
    #[error("protocol version {0}; this node speaks {PROTOCOL_VERSION}")]
    Version(u16),
    /// A codec or flag that this version does not know.
    #[error("unknown codec {codec} or flags {flags:#x}")]
    Codec {
        /// The codec byte.
        codec: u8,
        /// The flags byte.
        flags: u8,
    },
    /// The checksum does not fit: damaged on the way.
    #[error("the frame's checksum does not fit")]
    Checksum,
    /// The payload is not the encoding of a message.
    #[error("no message: {0}")]
    Payload(String),
    /// Parts that contradict each other or the limits.
    #[error("parts that do not fit together")]
    Parts,
    /// A payload that is not what it says it was before it was made smaller.
    #[error("a compressed payload that is none, or is larger than it says or may be")]
    Compressed,
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<MESSAGE_BYTES_MAX>()
}

/// The frames of a message, in order. `number` tells apart the parts of different messages to one peer.
///
/// # Errors
/// The message is larger than [`MESSAGE_BYTES_MAX`].
pub fn encode(message: &Message, number: u64) -> Result<Vec<Bytes>, WireError> {
    let payload = encode_payload(message)?;
    if payload.len() > MESSAGE_BYTES_MAX {
        return Err(WireError::Payload(format!("{} bytes; the limit is {MESSAGE_BYTES_MAX}", payload.len())));
    }
    let kind = kind(message);
    if payload.len() + HEADER_BYTES <= FRAME_BYTES_MAX {
        return Ok(vec![frame(kind, 0, &[], &payload)]);
    }
    let chunks = payload.chunks(PART_BYTES_MAX);
    let parts = u16::try_from(chunks.len()).map_err(|_| WireError::Parts)?;
    let frames = chunks.enumerate().map(|(part, chunk)| {
        let mut head = [0; PART_HEADER_BYTES];
        head[..8].copy_from_slice(&number.to_le_bytes());
        head[8..10].copy_from_slice(&(part as u16).to_le_bytes());
        head[10..].copy_from_slice(&parts.to_le_bytes());
        frame(kind, FLAG_PARTS, &head, chunk)
    });
    Ok(frames.collect())
}

fn encode_payload(message: &Message) -> Result<Vec<u8>, WireError> {
    // Most messages are smaller; growing from nothing would copy them several times.
    let mut payload = Vec::with_capacity(512);
    bincode::serde::encode_into_std_write(message, &mut payload, config())
        .map_err(|error| WireError::Payload(error.to_string()))?;
    Ok(payload)
}

fn frame(kind: u8, flags: u8, head: &[u8], payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + head.len() + payload.len());
    out.put_slice(&MAGIC);
    out.put_u16_le(PROTOCOL_VERSION);
    out.put_u8(CODEC_BINCODE_FIXED);
    out.put_u8(flags);
    out.put_u8(kind);
    out.put_u64_le(0);
    out.put_slice(head);
    out.put_slice(payload);
    let sum = checksum(&out);
    out[HASH_AT..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    out.freeze()
}

/// One frame around any payload, sense or not, with the checksum that fits: for tools that try what a decoder stands.
#[cfg(feature = "testing")]
pub fn frame_around(kind: u8, payload: &[u8]) -> Bytes {
    frame(kind, 0, &[], payload)
}

/// The same frame in fewer bytes, for a peer that takes it; the frame itself where that is not worth it.
pub fn compressed(frame: &Bytes) -> Bytes {
    let flags = frame[FLAGS_AT];
    if flags & FLAG_ZSTD != 0 {
        return frame.clone();
    }
    match zip::smaller(&frame[HEADER_BYTES..]) {
        Some(payload) => self::frame(frame[KIND_AT], flags | FLAG_ZSTD, &[], &payload),
        None => frame.clone(),
    }
}

/// [`frame_around`] a payload that says it was made smaller, whether or not that is so.
#[cfg(feature = "testing")]
pub fn frame_around_compressed(kind: u8, payload: &[u8]) -> Bytes {
    frame(kind, FLAG_ZSTD, &[], payload)
}

fn checksum(frame: &[u8]) -> u64 {
    let mut hasher = Xxh3Default::new();
    hasher.update(&frame[..HASH_AT]);
    hasher.update(&frame[HEADER_BYTES..]);
    hasher.digest()
}

/// The kind byte of a message: for queues and counters that do not decode it.
pub fn kind(message: &Message) -> u8 {
    match message {
        Message::Table { .. } => 1,
        Message::Ping { .. } => 2,
        Message::Pong { .. } => 3,
        Message::Push { .. } => 4,
        Message::Durable { .. } => 5,
        Message::Pull { .. } => 6,
        Message::Step { .. } => 7,
        Message::StepEnd { .. } => 8,
        Message::StepDone { .. } => 9,
        Message::Refuse { .. } => 10,
        Message::Ask { .. } => 11,
        Message::Answer { .. } => 12,
        Message::Meet { .. } => 13,
        Message::AskDots { .. } => 14,
        Message::Dots { .. } => 15,
        Message::Within { data, .. } => kind(data),
        Message::SyncOpen { .. } => 16,
        Message::SyncSame { .. } => 17,
        Message::SyncFlight(_) => 18,
        Message::ReadAsk { .. } => 19,
        Message::ReadTell { .. } => 20,
        Message::Repair { .. } => 21,
        Message::News { .. } => 22,
        Message::Reach { .. } => 23,
        Message::Reached { .. } => 24,
        Message::AskHorizons { .. } => 25,
        Message::Horizons { .. } => 26,
        Message::AskHeld { .. } => 27,
        Message::Judged { .. } => 28,
    }
}

/// The name of a message's kind, as traces and metrics write it.
pub fn name(message: &Message) -> &'static str {
    name_of(kind(message))
}

/// The names of the kinds, in the order of their bytes from 1 on.
const NAMES: [&str; 28] = [
    "table",
    "ping",
    "pong",
    "push",
    "durable",
    "pull",
    "step",
    "step-end",
    "step-done",
    "refuse",
    "ask",
    "answer",
    "meet",
    "ask-dots",
    "dots",
    "sync-open",
    "sync-same",
    "sync-flight",
    "read-ask",
    "read-tell",
    "repair",
    "news",
    "reach",
    "reached",
    "ask-horizons",
    "horizons",
    "ask-held",
    "judged",
];

/// The name of the kind with this byte, as [`name`] gives it.
pub fn name_of(kind: u8) -> &'static str {
    usize::from(kind).checked_sub(1).and_then(|place| NAMES.get(place)).unwrap_or(&"unknown")
}

/// Whether a frame carries data rather than control; control goes first where both wait.
pub fn is_data(frame: &[u8]) -> bool {
    matches!(frame.get(KIND_AT), Some(4 | 7 | 18 | 21))
}

/// Whether bytes look like a frame; only [`Assembler::push`] knows whether they are one.
pub fn is_frame(bytes: &[u8]) -> bool {
    (HEADER_BYTES..=FRAME_BYTES_MAX).contains(&bytes.len()) && bytes[..4] == MAGIC
}

/// Puts the frames of one peer back together.
#[derive(Debug, Default)]
pub struct Assembler {
    unfinished: BTreeMap<u64, Unfinished>,
    arrivals: u64,
}

#[derive(Debug)]
struct Unfinished {
    arrived: u64,
    parts: Vec<Option<Bytes>>,
}

impl Assembler {
    /// Takes a frame; returns the message that it completes, if it does.
    ///
    /// # Errors
    /// The frame is nonsense. Nothing else that was taken is lost by it.
    pub fn push(&mut self, frame: Bytes) -> Result<Option<Message>, WireError> {
        let (flags, kind_byte, payload) = open(frame)?;
        if flags & FLAG_PARTS == 0 {
            return decode(kind_byte, &payload).map(Some);
        }
        let Some(payload) = self.collect(payload)? else { return Ok(None) };
        decode(kind_byte, &payload).map(Some)
    }

    fn collect(&mut self, payload: Bytes) -> Result<Option<Bytes>, WireError> {
        if payload.len() <= PART_HEADER_BYTES {
            return Err(WireError::Parts);
        }
        let number = u64::from_le_bytes(payload[..8].try_into().expect("eight bytes"));
        let part = usize::from(u16::from_le_bytes([payload[8], payload[9]]));
        let parts = usize::from(u16::from_le_bytes([payload[10], payload[11]]));
        // One part alone would be a second way to write a small message.
        if parts < 2 || part >= parts || parts * PART_BYTES_MAX > MESSAGE_BYTES_MAX + PART_BYTES_MAX {
            return Err(WireError::Parts);
        }
        self.arrivals += 1;
        let arrived = self.arrivals;
        let entry =
            self.unfinished.entry(number).or_insert_with(|| Unfinished { arrived, parts: vec![None; parts] });
        if entry.parts.len() != parts {
            self.unfinished.remove(&number);
            return Err(WireError::Parts);
        }
        entry.parts[part] = Some(payload.slice(PART_HEADER_BYTES..));
        if entry.parts.iter().all(Option::is_some) {
            let entry = self.unfinished.remove(&number).expect("just looked at");
            let whole: Vec<u8> = entry.parts.iter().flatten().flatten().copied().collect();
            return Ok(Some(whole.into()));
        }
        if self.unfinished.len() > UNFINISHED_MAX {
            let oldest = self.unfinished.iter().min_by_key(|(_, unfinished)| unfinished.arrived);
            let oldest = *oldest.expect("there are several").0;
            self.unfinished.remove(&oldest);
        }
        Ok(None)
    }
}

/// Checks a frame; returns its flags, kind and payload.
fn open(frame: Bytes) -> Result<(u8, u8, Bytes), WireError> {
    if frame.len() < HEADER_BYTES || frame.len() > FRAME_BYTES_MAX {
        return Err(WireError::Length { bytes: frame.len() });
    }
    if frame[..4] != MAGIC {
        return Err(WireError::Magic);
    }
    let version = u16::from_le_bytes([frame[4], frame[5]]);
    if version != PROTOCOL_VERSION {
        return Err(WireError::Version(version));
    }
    let sum = u64::from_le_bytes(frame[HASH_AT..HEADER_BYTES].try_into().expect("eight bytes"));
    if sum != checksum(&frame) && !mutants::is_on("checksum-off") {
        return Err(WireError::Checksum);
    }
    let (codec, flags, kind) = (frame[6], frame[FLAGS_AT], frame[KIND_AT]);
    if codec != CODEC_BINCODE_FIXED || flags & !(FLAG_PARTS | FLAG_ZSTD) != 0 {
        return Err(WireError::Codec { codec, flags });
    }
    let payload = frame.slice(HEADER_BYTES..);
    if flags & FLAG_ZSTD == 0 {
        return Ok((flags, kind, payload));
    }
    let payload = zip::expand(&payload, FRAME_BYTES_MAX - HEADER_BYTES).ok_or(WireError::Compressed)?;
    Ok((flags, kind, payload.into()))
}

/// The encoding's number of [`Message::Within`], and where that of the message in it stands.
const WITHIN: [u8; 4] = 15_u32.to_le_bytes();
const DATA_AT: std::ops::Range<usize> = 12..16;

fn decode(kind_byte: u8, payload: &[u8]) -> Result<Message, WireError> {
    if payload.starts_with(&WITHIN) && payload.get(DATA_AT) == Some(&WITHIN) {
        // Nested without end it would use up the stack.
        return Err(WireError::Payload("data within data".into()));
    }
    let (message, used) = bincode::serde::decode_from_slice::<Message, _>(payload, config())
        .map_err(|error| WireError::Payload(error.to_string()))?;
    #[cfg(feature = "mutants")]
    let message = without_authors(message);
    if used != payload.len() {
        return Err(WireError::Payload(format!("{} bytes left over", payload.len() - used)));
    }
    if kind(&message) != kind_byte {
        return Err(WireError::Payload("the kind byte names another message".into()));
    }
    Ok(message)
}

/// For `wire-drops`.
#[cfg(feature = "mutants")]
fn without_authors(mut message: Message) -> Message {
    if let Message::Within { data, .. } = &mut message {
        **data = without_authors(std::mem::replace(data, Message::Refuse { reason: String::new() }));
    }
    if let Message::Push { entries } | Message::Step { entries, .. } = &mut message
        && mutants::is_on("wire-drops")
    {
        entries.iter_mut().for_each(|entry| entry.version.author_joined.0 = 0);
    }
    message
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;

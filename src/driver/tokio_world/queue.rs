//! The frames that wait for one peer: control before data, each bounded; when full, the newest is dropped.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::protocol::wire;

/// Most control frames that wait for a peer.
pub const CONTROL_FRAMES_MAX: usize = 1024;
/// Most bytes of control frames that wait for a peer; a whole member table in parts fits several times.
pub const CONTROL_BYTES_MAX: usize = 8 << 20;
/// Most data frames that wait for a peer: as many as a push window has entries.
pub const DATA_FRAMES_MAX: usize = 8192;
/// Most bytes of data frames that wait for a peer: a full push window and a full step.
pub const DATA_BYTES_MAX: usize = 16 << 20;
/// A batch ends once it has this many bytes, so that control need not wait for much data.
pub const BATCH_BYTES_MAX: usize = 128 << 10;

/// Frames for one peer.
#[derive(Debug, Default)]
pub struct Queue {
    control: Lane,
    data: Lane,
}

#[derive(Debug, Default)]
struct Lane {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Lane {
    fn push(&mut self, frame: Bytes, frames_max: usize, bytes_max: usize) -> bool {
        let fits = self.frames.len() < frames_max && self.bytes + frame.len() <= bytes_max;
        if fits {
            self.bytes += frame.len();
            self.frames.push_back(frame);
        }
        fits
    }

    fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }
}

impl Queue {
    /// Takes a frame, or returns `false` when its kind has no room.
    pub fn push(&mut self, frame: Bytes) -> bool {
        match wire::is_data(&frame) {
            true => self.data.push(frame, DATA_FRAMES_MAX, DATA_BYTES_MAX),
            false => self.control.push(frame, CONTROL_FRAMES_MAX, CONTROL_BYTES_MAX),
        }
    }

    /// What to write next.
    pub fn next_batch(&mut self) -> Vec<Bytes> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH_BYTES_MAX
            && let Some(frame) = self.control.pop().or_else(|| self.data.pop())
        {
            bytes += frame.len();
            batch.push(frame);
        }
        batch
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.control.frames.is_empty() && self.data.frames.is_empty()
    }

    /// Drops everything; returns how many frames that were.
    pub fn clear(&mut self) -> usize {
        let count = self.control.frames.len() + self.data.frames.len();
        *self = Queue::default();
        count
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

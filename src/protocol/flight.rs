//! What the two ends of a sync session say about ranges of keys, as bytes.
//!
//! Bounds are shortest separators and share their beginnings, so a bound costs some five bytes among a million
//! keys; bincode would take six times that. Nothing is allocated for a length that is only declared.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::span::Span;
use crate::model::{Entry, Key};

/// Most bytes of statements in one flight.
pub const FLIGHT_BYTES_MAX: usize = 48 * 1024;

/// Most bytes of entries in one flight, whatever credit the peer gives.
pub const FLIGHT_CREDIT_MAX: usize = 2 << 20;

/// One turn of a session, as it travels.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Flight {
    /// From the opening.
    pub session: u32,
    /// Counts the flights of both ends.
    pub step: u32,
    /// How many bytes of entries the next flight may bring.
    pub credit: u32,
    /// How many ranges it may name, about.
    pub room: u16,
    /// Whether the sender has more to say already.
    pub more: bool,
    /// Statements, as [`Writer`] lays them out.
    pub parts: Bytes,
    /// Entries that the receiver lacks.
    pub entries: Vec<Entry>,
}

/// Where a piece of a span ends, and its print.
pub type Piece = (Option<Vec<u8>>, u64);

/// One statement about the rows that its sender holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The prints of the pieces of a span: the first begins at `from`, each ends at its bound; the last bound may
    /// be the end of all keys.
    Pieces {
        /// Where the first piece begins.
        from: Vec<u8>,
        /// Where each piece ends (`None`: after the last key), and its print.
        pieces: Vec<Piece>,
    },
    /// The prints of all rows in a span, in key order: six bytes each.
    Rows(Span, Vec<u64>),
    /// The rows with these prints are wanted; all of the span's, if none is named.
    Want(Span, Vec<u64>),
}

/// Bytes of a row's print. It is compared with those of some twenty rows, not with everybody's.
const ROW_PRINT_BYTES: usize = 6;

const PIECES: u8 = 0;
const ROWS: u8 = 1;
const WANT: u8 = 2;

/// Writes statements into the bytes of one flight.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    last: Vec<u8>,
}

impl Writer {
    /// Adds a statement.
    pub fn add(&mut self, part: &Part) {
        match part {
            Part::Pieces { from, pieces } => {
                self.bytes.push(PIECES);
                self.bound(Some(from));
                self.number(pieces.len() as u64);
                for (to, print) in pieces {
                    self.bound(to.as_deref());
                    self.bytes.extend_from_slice(&print.to_be_bytes());
                }
            }
            Part::Rows(span, prints) => self.prints(ROWS, span, prints),
            Part::Want(span, prints) => self.prints(WANT, span, prints),
        }
    }

    /// How many bytes there are so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn prints(&mut self, kind: u8, span: &Span, prints: &[u64]) {
        self.bytes.push(kind);
        self.bound(Some(&span.from));
        self.bound(span.to.as_deref());
        self.number(prints.len() as u64);
        for print in prints {
            self.bytes.extend_from_slice(&print.to_be_bytes()[8 - ROW_PRINT_BYTES..]);
        }
    }

    /// A bound as what it shares with the one before, and the rest; 0 stands for the end of all keys.
    fn bound(&mut self, bound: Option<&[u8]>) {
        let Some(bound) = bound else { return self.number(0) };
        let shared = bound.iter().zip(&self.last).take_while(|(a, b)| a == b).count();
        self.number(shared as u64 + 1);
        self.number((bound.len() - shared) as u64);
        self.bytes.extend_from_slice(&bound[shared..]);
        self.last.truncate(shared);
        self.last.extend_from_slice(&bound[shared..]);
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }
}

/// Reads the statements of a flight; `None` if they are nonsense.
pub fn read(bytes: &[u8]) -> Option<Vec<Part>> {
    if bytes.len() > 2 * FLIGHT_BYTES_MAX {
        return None;
    }
    let mut reader = Reader { bytes, last: Vec::new() };
    let mut parts = Vec::new();
    while !reader.bytes.is_empty() {
        parts.push(reader.part()?);
    }
    Some(parts)
}

struct Reader<'a> {
    bytes: &'a [u8],
    last: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn part(&mut self) -> Option<Part> {
        let kind = self.take(1)?[0];
        let from = self.bound()??;
        if kind == PIECES {
            let count = self.number()?;
            let mut pieces: Vec<Piece> = Vec::new();
            let mut last = Some(from.clone());
            for _ in 0..count {
                let (to, print) = (self.bound()?, self.print()?);
                // Pieces follow each other; after the end of all keys there is nothing.
                if last.is_none() || to.as_ref().is_some_and(|to| Some(to) <= last.as_ref()) {
                    return None;
                }
                last.clone_from(&to);
                pieces.push((to, print));
            }
            return (!pieces.is_empty()).then_some(Part::Pieces { from, pieces });
        }
        let span = Span { from, to: self.bound()? };
        let count = self.number()?;
        let prints = (0..count).map(|_| self.row_print()).collect::<Option<Vec<u64>>>()?;
        match kind {
            ROWS if !span.is_empty() => Some(Part::Rows(span, prints)),
            WANT if !span.is_empty() => Some(Part::Want(span, prints)),
            _ => None,
        }
    }

    fn bound(&mut self) -> Option<Option<Vec<u8>>> {
        let Some(shared) = self.number()?.checked_sub(1) else { return Some(None) };
        let shared = usize::try_from(shared).ok().filter(|shared| *shared <= self.last.len())?;
        let len = usize::try_from(self.number()?).ok().filter(|len| shared + len <= Key::BYTES_MAX + 1)?;
        self.last.truncate(shared);
        let rest = self.take(len)?;
        self.last.extend_from_slice(rest);
        Some(Some(self.last.clone()))
    }

    fn print(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn row_print(&mut self) -> Option<u64> {
        let bytes = self.take(ROW_PRINT_BYTES)?;
        Some(bytes.iter().fold(0, |print, byte| print << 8 | u64::from(*byte)))
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(taken)
    }
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;

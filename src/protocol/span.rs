//! Spans of keys: from a first key, included, up to another, left out.

use std::ops::Bound;

use crate::model::Key;

/// Every key from `from` on and before `to`; without `to`, up to the last.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Span {
    /// Included.
    pub from: Vec<u8>,
    /// Left out.
    pub to: Option<Vec<u8>>,
}

impl Span {
    /// Every key.
    pub fn all() -> Span {
        Span::default()
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Span {
        let mut to = prefix.to_vec();
        // The next string of this length; a prefix of nothing but 0xff has none.
        while to.last() == Some(&u8::MAX) {
            to.pop();
        }
        match to.last_mut() {
            Some(last) => *last += 1,
            None => return Span { from: prefix.to_vec(), to: None },
        }
        Span { from: prefix.to_vec(), to: Some(to) }
    }

    /// One key.
    pub fn one(key: &Key) -> Span {
        let from = key.as_bytes().to_vec();
        let mut to = from.clone();
        to.push(0);
        Span { from, to: Some(to) }
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }

    /// Whether `key` is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.from <= *key && self.to.as_deref().is_none_or(|to| key < to)
    }

    /// What it has in common with another.
    pub fn cut(&self, other: &Span) -> Span {
        let to = [&self.to, &other.to].into_iter().flatten().min().cloned();
        Span { from: self.from.clone().max(other.from.clone()), to }
    }

    /// The bounds of a scan.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(&self.from), self.upper())
    }

    /// The upper bound of a scan.
    pub fn upper(&self) -> Bound<&[u8]> {
        self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded)
    }
}

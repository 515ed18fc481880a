//! One line of a scenario, taken word by word: what the verbs are written in.
//!
//! Knows words, quotes and columns; what a line means is in `verbs`.

use std::ops::RangeInclusive;

use reknit::model::Key;
use reknit::model::key::decode;

use crate::suggest::instead;

/// What is wrong with a line, and at which of its characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Counted in characters from the start of the line, from 0.
    pub at: usize,
    /// What was found and what was expected.
    pub message: String,
}

/// A word: a run of what is not blank, or anything between double quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What it says; the quotes taken off.
    pub text: String,
    /// Its first character in the line, from 0.
    pub at: usize,
    /// Whether it stood in quotes, so that it cannot be a word of the language.
    pub quoted: bool,
}

impl Word {
    /// Whether it is this word of the language.
    pub fn is(&self, word: &str) -> bool {
        !self.quoted && self.text == word
    }

    /// A complaint about this word.
    pub fn complain(&self, message: impl Into<String>) -> Complaint {
        Complaint { at: self.at, message: message.into() }
    }

    /// A complaint that this word is not one of those that can stand here.
    pub fn unknown<'k>(&self, kind: &str, known: impl IntoIterator<Item = &'k str>) -> Complaint {
        self.complain(format!("unknown {kind} '{}', {}", self.text, instead(&self.text, known)))
    }
}

/// Cuts a line into words.
///
/// # Errors
/// A quote that does not end, or whose inside is no JSON string.
pub fn words(line: &str) -> Result<Vec<Word>, Complaint> {
    let chars: Vec<char> = line.chars().collect();
    let mut words = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if chars[at].is_whitespace() {
            at += 1;
            continue;
        }
        let quoted = chars[at] == '"';
        let end = if quoted { end_of_quote(&chars, at)? } else { end_of_word(&chars, at) };
        let raw: String = chars[at..end].iter().collect();
        let text = match quoted {
            true => serde_json::from_str(&raw).map_err(|_| Complaint {
                at,
                message: format!("{raw} is no quoted word: it is written like a JSON string"),
            })?,
            false => raw,
        };
        words.push(Word { text, at, quoted });
        at = end;
    }
    Ok(words)
}

fn end_of_word(chars: &[char], start: usize) -> usize {
    let length = chars[start..].iter().position(|c| c.is_whitespace());
    length.map_or(chars.len(), |length| start + length)
}

fn end_of_quote(chars: &[char], start: usize) -> Result<usize, Complaint> {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    match chars.get(at + 1) {
        _ if at >= chars.len() => Err(Complaint { at: start, message: "the quote does not end".to_owned() }),
        Some(after) if !after.is_whitespace() => Err(Complaint {
            at: at + 1,
            message: format!("expected a blank after the closing quote, found '{after}'"),
        }),
        _ => Ok(at + 1),
    }
}

/// Writes a word so that [`words`] reads it back as a value, never as a word of the language.
pub fn show_word(text: &str) -> String {
    const LANGUAGE: [&str; 4] = ["found", "absent", "siblings", "expect"];
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./@+".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !LANGUAGE.contains(&text) {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            // Whatever YAML thinks of a character, its escape is plain ASCII.
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| quoted += &format!("\\u{unit:04x}")),
        }
    }
    quoted + "\""
}

/// The words of one line, read from left to right, and the names of the nodes that they may speak of.
pub struct Line<'a> {
    words: &'a [Word],
    next: usize,
    nodes: &'a [String],
}

/// A key, or several with numbers at their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// `k/7`
    One(Vec<u8>),
    /// `k/1..100`: what stands before the number, and the numbers.
    Range(String, RangeInclusive<u64>),
}

impl<'a> Line<'a> {
    /// Most keys that one step can name.
    pub const RANGE_MAX: u64 = 10_000;

    /// At the first word.
    pub fn new(words: &'a [Word], nodes: &'a [String]) -> Line<'a> {
        Line { words, next: 0, nodes }
    }

    /// The next word, not yet taken.
    pub fn peek(&self) -> Option<&'a Word> {
        self.words.get(self.next)
    }

    /// Takes the next word.
    ///
    /// # Errors
    /// The line ends here, where `what` was expected.
    pub fn take(&mut self, what: &str) -> Result<&'a Word, Complaint> {
        let word = self.peek().ok_or_else(|| self.ends(what))?;
        self.next += 1;
        Ok(word)
    }

    /// A complaint that the line ends where `what` was expected.
    pub fn ends(&self, what: &str) -> Complaint {
        let last = self.words.last();
        let at = last.map_or(0, |word| word.at + word.text.chars().count() + 2 * usize::from(word.quoted));
        Complaint { at, message: format!("the line ends where {what} was expected") }
    }

    /// Takes this very word.
    ///
    /// # Errors
    /// Another word stands here, or none.
    pub fn take_word(&mut self, expected: &str) -> Result<(), Complaint> {
        let word = self.take(&format!("'{expected}'"))?;
        if word.is(expected) {
            Ok(())
        } else {
            Err(word.complain(format!("found '{}', expected '{expected}'", word.text)))
        }
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// Something does.
    pub fn end(&self) -> Result<(), Complaint> {
        match self.peek() {
            None => Ok(()),
            Some(word) => Err(word.complain(format!("found '{}', expected the end of the line", word.text))),
        }
    }

    /// Takes the name of a node of this story.
    ///
    /// # Errors
    /// There is no such node.
    pub fn node(&mut self) -> Result<String, Complaint> {
        let word = self.take("a node")?;
        self.known(word)?;
        Ok(word.text.clone())
    }

    fn known(&self, word: &Word) -> Result<(), Complaint> {
        match self.nodes.contains(&word.text) {
            true => Ok(()),
            false => Err(word.unknown("node", self.nodes.iter().map(String::as_str))),
        }
    }

    /// Whether this is the name of a node of this story.
    pub fn names(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node == name)
    }

    /// The names that a place can have: the nodes, and `everywhere`.
    pub fn places(&self) -> impl Iterator<Item = &'a str> {
        self.nodes.iter().map(String::as_str).chain(["everywhere"])
    }

    /// Takes one key.
    ///
    /// # Errors
    /// It is no key, or a range.
    pub fn key(&mut self) -> Result<Vec<u8>, Complaint> {
        let word = self.take("a key")?;
        match keys(word)? {
            Keys::One(key) => Ok(key),
            Keys::Range(..) => {
                Err(word.complain(format!("'{}' is a range; only put and delete take one", word.text)))
            }
        }
    }

    /// Takes a key or a range of keys.
    ///
    /// # Errors
    /// It is neither.
    pub fn keys(&mut self) -> Result<Keys, Complaint> {
        keys(self.take("a key")?)
    }

    /// Takes the beginning of keys, which may be empty (`""`) and need be no key itself.
    ///
    /// # Errors
    /// A broken escape.
    pub fn prefix(&mut self) -> Result<Vec<u8>, Complaint> {
        let word = self.take("a prefix")?;
        if word.quoted {
            return Ok(word.text.clone().into_bytes());
        }
        decode(&word.text).map_err(|error| word.complain(format!("'{}' is no prefix: {error}", word.text)))
    }

    /// Takes one figure.
    ///
    /// # Errors
    /// What `read` says.
    pub fn figure<T>(
        &mut self,
        what: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Complaint> {
        let word = self.take(what)?;
        read(&word.text).map_err(|message| word.complain(message))
    }

    /// Takes a number.
    ///
    /// # Errors
    /// It is none, or too large.
    pub fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, Complaint> {
        self.figure(what, |text| text.parse().map_err(|_| format!("found '{text}', expected {what}")))
    }

    /// Takes all that is left, as one text with single blanks.
    pub fn rest(&mut self) -> String {
        let rest: Vec<&str> = self.words[self.next..].iter().map(|word| word.text.as_str()).collect();
        self.next = self.words.len();
        rest.join(" ")
    }
}

fn keys(word: &Word) -> Result<Keys, Complaint> {
    if word.quoted {
        return checked(word, word.text.clone().into_bytes()).map(Keys::One);
    }
    if let Some((prefix, numbers)) = range_of(&word.text) {
        let (first, last) = (*numbers.start(), *numbers.end());
        if first > last {
            return Err(word.complain(format!("the range '{}' ends before it begins", word.text)));
        }
        if format!("{prefix}{first}..{last}") != word.text {
            return Err(word.complain(format!("the numbers of the range '{}' have leading zeros", word.text)));
        }
        if last - first >= Line::RANGE_MAX {
            return Err(word.complain(format!("'{}' names more than {} keys", word.text, Line::RANGE_MAX)));
        }
        return Ok(Keys::Range(prefix.to_owned(), numbers));
    }
    let bytes = decode(&word.text).map_err(|error| no_key(word, &error))?;
    checked(word, bytes).map(Keys::One)
}

/// Cuts `k/1..100` into `k/` and its numbers.
pub fn range_of(text: &str) -> Option<(&str, RangeInclusive<u64>)> {
    let (left, last) = text.rsplit_once("..")?;
    let prefix = left.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => digits.parse().ok(),
        false => None,
    };
    Some((prefix, number(&left[prefix.len()..])?..=number(last)?))
}

/// The key behind percent-encoded text that a range was made into.
///
/// # Errors
/// It is no key.
pub fn numbered(word: &Word, prefix: &str, number: u64) -> Result<Vec<u8>, Complaint> {
    let bytes = decode(&format!("{prefix}{number}")).map_err(|error| no_key(word, &error))?;
    checked(word, bytes)
}

fn checked(word: &Word, bytes: Vec<u8>) -> Result<Vec<u8>, Complaint> {
    let key = Key::new(bytes).map_err(|error| no_key(word, &error))?;
    Ok(key.as_bytes().to_vec())
}

fn no_key(word: &Word, error: &reknit::model::KeyError) -> Complaint {
    word.complain(format!("'{}' is no key: {error}", word.text))
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;

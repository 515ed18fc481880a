//! Reads the file: YAML down to texts with their places. What the texts mean is decided by [`super::keys`].

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, MergeKeyPolicy, MessageFormatter, Options, Spanned, UserMessageFormatter};

use super::keys::{self, Key};
use super::{Config, ConfigError, Given, Origin, Text};

/// Reads a configuration file, whose keys are all known and appear once.
pub(super) fn read(path: &Path) -> Result<Vec<Given>, ConfigError> {
    parse(path, &contents(path)?)
}

/// Reads the text of a configuration file; `path` is what it is called in errors.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Given>, ConfigError> {
    let source = Source { path, lines: text.lines().collect() };
    let file: File =
        serde_saphyr::from_str_with_options(text, options()).map_err(|error| source.refused(&error))?;
    file.0.into_iter().map(|row| source.given(row)).collect()
}

fn contents(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > Config::FILE_BYTES_MAX {
        return Err(ConfigError::TooLong { path: path.to_owned(), bytes });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: 8,
            max_nodes: 2_000,
            max_aliases: 16,
            max_total_scalar_bytes: 64 << 10,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
    }
}

/// The rows of a file, as they stand in it.
struct File(Vec<Row>);

struct Row {
    name: Spanned<String>,
    /// `None` when the name is no key.
    value: Option<(&'static Key, Spanned<Vec<Spanned<String>>>)>,
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<File, D::Error> {
        deserializer.deserialize_map(Rows)
    }
}

struct Rows;

impl<'de> Visitor<'de> for Rows {
    type Value = File;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of keys to values, such as `port: 8080`")
    }

    /// A file with nothing but comments.
    fn visit_unit<E>(self) -> Result<File, E> {
        Ok(File(Vec::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
        let mut rows = Vec::new();
        while let Some(name) = map.next_key::<Spanned<String>>()? {
            let value = match keys::find(&name.value) {
                None => {
                    map.next_value::<IgnoredAny>()?;
                    None
                }
                Some(key) if key.name == keys::POLICIES => {
                    let rules: Spanned<Vec<Spanned<Rule>>> = map.next_value()?;
                    let (referenced, defined) = (rules.referenced, rules.defined);
                    let text = |rule: Spanned<Rule>| Spanned {
                        value: rule.value.text(),
                        referenced: rule.referenced,
                        defined: rule.defined,
                    };
                    let value = rules.value.into_iter().map(text).collect();
                    Some((key, Spanned { value, referenced, defined }))
                }
                Some(key) if key.list => Some((key, map.next_value()?)),
                // As a text, which keeps the spelling: `1.10` is a fine name and no number.
                Some(key) => {
                    let text: Spanned<String> = map.next_value()?;
                    let (referenced, defined) = (text.referenced, text.defined);
                    Some((key, Spanned { value: vec![text], referenced, defined }))
                }
            };
            rows.push(Row { name, value });
        }
        Ok(File(rows))
    }
}

/// A policy as a text, or as a mapping of its parts.
enum Rule {
    Text(String),
    Parts(Parts),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    prefix: String,
    policy: String,
    strategy: Option<String>,
}

impl Rule {
    /// As [`super::values::policy`] reads it.
    fn text(self) -> String {
        match self {
            Rule::Text(text) => text,
            Rule::Parts(Parts { prefix, policy, strategy }) => {
                let strategy = strategy.map_or(String::new(), |strategy| format!(":{strategy}"));
                format!("{prefix}={policy}{strategy}")
            }
        }
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rule, D::Error> {
        deserializer.deserialize_any(Rule::Text(String::new()))
    }
}

impl<'de> Visitor<'de> for Rule {
    type Value = Rule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy such as {prefix: cart/, policy: siblings} or \"cart/=siblings\"")
    }

    fn visit_str<E>(self, text: &str) -> Result<Rule, E> {
        Ok(Rule::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rule, A::Error> {
        let parts = serde::de::value::MapAccessDeserializer::new(map);
        Parts::deserialize(parts).map(Rule::Parts)
    }
}

/// The parser's error in an operator's words: it speaks to programmers about types.
fn words(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` is there twice"),
        Error::NullIntoString { .. } => "the value is missing; leave the key out to use its default".into(),
        Error::Unexpected { expected: "string scalar", .. } => "one plain value is expected here".into(),
        Error::Unexpected { expected: "sequence start", .. } => {
            r#"a list is expected here, such as ["127.0.0.1:8081"]"#.into()
        }
        Error::Unexpected { expected: "mapping start", .. } => {
            "a mapping of keys to values is expected, such as `port: 8080`".into()
        }
        other => UserMessageFormatter.format_message(other).into_owned(),
    }
}

struct Source<'a> {
    path: &'a Path,
    lines: Vec<&'a str>,
}

impl Source<'_> {
    fn refused(&self, error: &serde_saphyr::Error) -> ConfigError {
        let error = error.without_snippet();
        let at = error.location().unwrap_or(Location::UNKNOWN);
        ConfigError::Yaml { origin: self.origin(at), why: words(error), snippet: self.snippet(at) }
    }

    fn given(&self, row: Row) -> Result<Given, ConfigError> {
        let Some((key, value)) = row.value else {
            return Err(ConfigError::UnknownKey {
                origin: self.origin(row.name.referenced),
                hint: keys::hint(&row.name.value),
                snippet: self.snippet(row.name.referenced),
                name: row.name.value,
            });
        };
        let text = |text: Spanned<String>| Text {
            origin: self.origin(text.referenced),
            snippet: self.snippet(text.referenced),
            text: text.value,
        };
        let origin = self.origin(value.referenced);
        Ok(Given { key, origin, texts: value.value.into_iter().map(text).collect() })
    }

    fn origin(&self, at: Location) -> Origin {
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Origin::File { path: self.path.to_owned(), line: number(at.line()), column: number(at.column()) }
    }

    /// The line with a mark under the place, or nothing where the place is unknown.
    fn snippet(&self, at: Location) -> String {
        let number = usize::try_from(at.line()).unwrap_or(usize::MAX);
        let Some(line) = number.checked_sub(1).and_then(|index| self.lines.get(index)) else {
            return String::new();
        };
        let column = usize::try_from(at.column()).unwrap_or(1).max(1);
        let margin = " ".repeat(number.to_string().len());
        // Tabs stay tabs, so that the mark stands where the terminal puts the character above it.
        let indent: String =
            line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        format!("\n{margin} |\n{number} | {line}\n{margin} | {indent}^")
    }
}

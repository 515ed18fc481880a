//! Entity tags: `If-Match` and `If-None-Match` (RFC 9110, 13.1). A version's tag is its uuid in double quotes.

use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName};
use uuid::Uuid;

use super::problem::{Code, Problem};
use crate::model::Condition;

/// Most tags in one header.
pub const TAGS_MAX: usize = 100;

/// What a conditional header names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tags {
    /// `*`: any live value.
    Any,
    /// These tags.
    List(Vec<Tag>),
}

/// One tag of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tag {
    weak: bool,
    /// `None`: a tag that is no uuid, and so no version's.
    uuid: Option<Uuid>,
}

impl Tags {
    /// Reads a header.
    ///
    /// # Errors
    /// It is neither `*` nor a list of quoted tags, or the list is too long.
    pub fn read(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Problem> {
        let bad = |what: String| Problem::new(Code::BadHeader, format!("the header {name} {what}"));
        let mut text = String::new();
        for value in headers.get_all(name) {
            let value = value.to_str().map_err(|_| bad("holds other than visible ASCII".into()))?;
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(value);
        }
        if !headers.contains_key(name) {
            return Ok(None);
        }
        if text.trim() == "*" {
            return Ok(Some(Tags::Any));
        }
        let tags =
            list(&text).ok_or_else(|| bad("is neither * nor a list of tags in double quotes".into()))?;
        if tags.len() > TAGS_MAX {
            return Err(bad(format!("names more than {TAGS_MAX} tags")).with_limit(TAGS_MAX as u64));
        }
        Ok(Some(Tags::List(tags)))
    }

    /// Whether `uuid` is named, with weak tags counting as well.
    pub fn names(&self, uuid: Uuid) -> bool {
        match self {
            Tags::Any => true,
            Tags::List(tags) => tags.iter().any(|tag| tag.uuid == Some(uuid)),
        }
    }

    /// Whether `uuid` is named by a strong tag.
    pub fn names_strongly(&self, uuid: Uuid) -> bool {
        match self {
            Tags::Any => true,
            Tags::List(tags) => tags.iter().any(|tag| !tag.weak && tag.uuid == Some(uuid)),
        }
    }
}

/// The condition that a write's headers set.
///
/// # Errors
/// A header makes no sense, or there are both: the node checks one of them.
pub fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let matches = Tags::read(headers, &IF_MATCH)?;
    let differs = Tags::read(headers, &IF_NONE_MATCH)?;
    Ok(match (matches, differs) {
        (None, None) => Condition::None,
        (Some(Tags::Any), None) => Condition::Exists,
        (Some(Tags::List(tags)), None) => {
            let strong = tags.into_iter().filter(|tag| !tag.weak);
            Condition::Matches(strong.filter_map(|tag| tag.uuid).collect())
        }
        (None, Some(Tags::Any)) => Condition::Absent,
        (None, Some(Tags::List(tags))) => {
            Condition::Differs(tags.into_iter().filter_map(|tag| tag.uuid).collect())
        }
        (Some(_), Some(_)) => {
            let detail = "a write takes If-Match or If-None-Match, not both";
            return Err(Problem::new(Code::BadHeader, detail));
        }
    })
}

/// A comma-separated list; commas inside quotes belong to the tag.
fn list(text: &str) -> Option<Vec<Tag>> {
    let mut tags = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (opaque, after) = quoted.strip_prefix('"')?.split_once('"')?;
        if opaque.contains(' ') {
            return None;
        }
        // Only the form that we hand out: a uuid has others, and a tag is compared byte by byte.
        let uuid = Uuid::try_parse(opaque).ok().filter(|uuid| uuid.to_string() == opaque);
        tags.push(Tag { weak, uuid });
        let after = after.trim_start_matches([' ', '\t']);
        if !after.is_empty() && !after.starts_with(',') {
            return None;
        }
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
    (!tags.is_empty()).then_some(tags)
}

#[cfg(test)]
#[path = "tags_tests.rs"]
mod tests;

//! Query parameters, taken apart once. Values are bytes, because keys are: no framework's parser would do.

use std::time::Duration;

use super::problem::{Code, Problem};
use crate::model::key;

/// The parameters of one request, each at most once and all of them known to its route.
#[derive(Debug)]
pub struct Params(Vec<(&'static str, Vec<u8>)>);

impl Params {
    /// Takes a query string apart: `&`, `=`, `+` for a blank and percent escapes.
    ///
    /// # Errors
    /// A name is not in `known`, or comes twice, or an escape is broken.
    pub fn parse(query: Option<&str>, known: &[&'static str]) -> Result<Params, Problem> {
        let mut params = Params(Vec::new());
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = known.iter().find(|known| **known == name) else {
                let known = if known.is_empty() { "none" } else { &known.join(", ") };
                return Err(bad(format!("{name} is no parameter here; known: {known}")));
            };
            if params.0.iter().any(|(seen, _)| seen == name) {
                return Err(bad(format!("{name} is given twice")));
            }
            let value = key::decode(&value.replace('+', " "));
            let value = value.map_err(|_| bad(format!("{name} has a broken percent escape")))?;
            params.0.push((name, value));
        }
        Ok(params)
    }

    /// A parameter's bytes.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_slice())
    }

    /// A parameter as text.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let Some(bytes) = self.bytes(name) else { return Ok(None) };
        std::str::from_utf8(bytes).map(Some).map_err(|_| bad(format!("{name} is not UTF-8")))
    }

    /// A switch: absent is off; bare, `1` and `true` are on.
    ///
    /// # Errors
    /// It is something else.
    pub fn switch(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name)? {
            None | Some("0" | "false") => Ok(false),
            Some("" | "1" | "true") => Ok(true),
            Some(other) => Err(bad(format!("{name}={other} is neither true nor false"))),
        }
    }

    /// A duration from one millisecond to `max`.
    ///
    /// # Errors
    /// It is no duration, or not within these limits.
    pub fn duration(&self, name: &str, max: Duration) -> Result<Option<Duration>, Problem> {
        self.text(name)?.map(|text| duration_within(name, text, max)).transpose()
    }
}

/// A duration from one millisecond to `max`, called `name` in errors.
///
/// # Errors
/// It is no duration, or not within these limits.
pub fn duration_within(name: &str, text: &str, max: Duration) -> Result<Duration, Problem> {
    let duration = duration(text).ok_or_else(|| {
        bad(format!("{name}={text} is no duration; write a number and a unit: 500ms, 5s, 10m, 1h or 7d"))
    })?;
    if duration.is_zero() {
        return Err(bad(format!("{name} must be at least 1ms")));
    }
    if duration > max {
        let detail = format!("{name}={text} is more than {} s", max.as_secs());
        return Err(bad(detail).with_limit(max.as_secs()));
    }
    Ok(duration)
}

/// A number and a unit, such as `500ms` or `1h`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_millis).map(Duration::from_millis)
}

/// A parameter that makes no sense.
pub fn bad(detail: String) -> Problem {
    Problem::new(Code::BadParameter, detail)
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;

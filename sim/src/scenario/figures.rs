//! Durations, shares and draws as text, each way of reading beside its way of writing.
//!
//! Promises that what is written reads back as the very same value.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::SignedDuration;

use reknit::model::{Policies, Policy, key};
use reknit::node::quirks::Quirk;

use super::Draw;
use crate::suggest::instead;

/// Longest time that a scenario can name: two centuries, for clocks that are decades ahead.
pub const LONGEST: Duration = Duration::from_secs(200 * 366 * 24 * 3600);

/// Reads `5s`, `200ms`, `1.5s`, `1m30s`.
///
/// # Errors
/// What was found and what was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let begins_with_digit = text.starts_with(|c: char| c.is_ascii_digit());
    let parsed = if begins_with_digit { text.parse::<SignedDuration>().ok() } else { None };
    let duration = parsed.and_then(|signed| Duration::try_from(signed).ok());
    let duration = duration
        .ok_or_else(|| format!("'{text}' is no duration; expected one such as 200ms, 5s or 1m30s"))?;
    if duration > LONGEST {
        return Err(format!("'{text}' is longer than {}, the longest time there is", show_duration(LONGEST)));
    }
    Ok(duration)
}

/// Writes a duration in seconds, or in milliseconds when it is shorter than one second.
pub fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match (nanos, nanos >= 1_000_000_000) {
        (0, _) => "0s".to_owned(),
        (_, true) => decimal(nanos, 1_000_000_000, 9) + "s",
        (_, false) => decimal(nanos, 1_000_000, 6) + "ms",
    }
}

fn decimal(nanos: u128, unit: u128, digits: usize) -> String {
    let text = format!("{}.{:0digits$}", nanos / unit, nanos % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Reads a number of bytes from 1 on.
///
/// # Errors
/// What was found and what was expected.
pub fn bytes(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("'{text}' is no number of bytes from 1, such as 2048"))
}

/// Reads bytes per second, or `unlimited`.
///
/// # Errors
/// What was found and what was expected.
pub fn bandwidth(text: &str) -> Result<Option<u64>, String> {
    if text == "unlimited" {
        return Ok(None);
    }
    let wrong =
        |_| format!("'{text}' is no bandwidth; expected bytes per second such as 64000, or unlimited");
    bytes(text).map_err(wrong).map(|bytes| Some(bytes.into()))
}

/// Writes what [`bandwidth`] reads.
pub fn show_bandwidth(bandwidth: Option<u64>) -> String {
    bandwidth.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string())
}

/// Reads the names of quirks, with spaces between.
///
/// # Errors
/// What was found and what was expected.
pub fn quirks(text: &str) -> Result<Vec<Quirk>, String> {
    let quirk = |word: &str| {
        let known = Quirk::NAMES.iter().find(|(name, _)| *name == word);
        let names = Quirk::NAMES.iter().map(|(name, _)| *name);
        known
            .map(|(_, quirk)| *quirk)
            .ok_or_else(|| format!("unknown quirk '{word}', {}", instead(word, names)))
    };
    text.split_whitespace().map(quirk).collect()
}

/// Reads policies by prefix: `log/=history:fail h/=history:prefer-local`.
///
/// # Errors
/// What was found and what was expected.
pub fn policies(text: &str) -> Result<Policies, String> {
    let rule = |word: &str| {
        let (prefix, policy) = word.split_once('=').ok_or_else(|| {
            format!("'{word}' is no policy of a prefix; expected one such as log/=history:fail")
        })?;
        let (name, strategy) =
            policy.split_once(':').map_or((policy, None), |(name, rest)| (name, Some(rest)));
        let prefix = key::decode(prefix).map_err(|error| error.to_string())?;
        let policy = Policy::from_names(name, strategy).map_err(|error| error.to_string())?;
        Ok::<_, String>((prefix, policy))
    };
    let rules: Vec<_> = text.split_whitespace().map(rule).collect::<Result<_, _>>()?;
    Policies::new(rules).map_err(|error| error.to_string())
}

/// Policies as [`policies`] reads them.
pub fn show_policies(policies: &Policies) -> String {
    let rule = |(prefix, policy): (&[u8], Policy)| {
        let strategy = policy.strategy().map_or(String::new(), |strategy| format!(":{}", strategy.name()));
        format!("{}={}{strategy}", key::encode(prefix), policy.name())
    };
    policies.rules().map(rule).collect::<Vec<_>>().join(" ")
}

/// Reads `+5s`, `-1500ms` or `20ms` as signed milliseconds.
///
/// # Errors
/// What was found and what was expected.
pub fn signed_millis(text: &str) -> Result<i64, String> {
    let (sign, rest) = match text.as_bytes().first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    };
    let size =
        duration(rest).map_err(|_| format!("'{text}' is no offset; expected one such as +5s or -1500ms"))?;
    if !size.as_nanos().is_multiple_of(1_000_000) {
        return Err(format!("'{text}' is no whole number of milliseconds"));
    }
    Ok(sign * i64::try_from(size.as_millis()).expect("two centuries fit"))
}

/// Writes signed milliseconds, the sign always there: the offset of a clock.
pub fn show_offset(millis: i64) -> String {
    let sign = if millis < 0 { '-' } else { '+' };
    format!("{sign}{}", show_duration(Duration::from_millis(millis.unsigned_abs())))
}

/// Reads a share: `20%`, `0.5%` or `0.2`.
///
/// # Errors
/// What was found and what was expected.
pub fn share(text: &str) -> Result<f64, String> {
    let complaint = || format!("'{text}' is no share; expected one from 0% to 100%");
    let (digits, whole) = match text.strip_suffix('%') {
        Some(digits) => (digits, 100.0),
        None => (text, 1.0),
    };
    let plain = digits.starts_with(|c: char| c.is_ascii_digit());
    let share = digits.parse::<f64>().ok().filter(|_| plain).ok_or_else(complaint)? / whole;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(complaint()) }
}

/// Writes a share in percent, unless only the plain number says exactly the same.
pub fn show_share(value: f64) -> String {
    // A hundred times a binary fraction is often a hair off: 0.07 is 7.000000000000001%.
    let percent = format!("{:.6}", value * 100.0);
    let percent = format!("{}%", percent.trim_end_matches('0').trim_end_matches('.'));
    if share(&percent) == Ok(value) { percent } else { value.to_string() }
}

/// Reads a rate: `20/s`.
///
/// # Errors
/// What was found and what was expected.
pub fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").and_then(|digits| digits.trim().parse::<f64>().ok());
    let rate = number.filter(|rate| rate.is_finite() && *rate >= 0.0);
    rate.ok_or_else(|| format!("'{text}' is no rate; expected one such as 20/s"))
}

/// Reads `5ms` or `1ms..20ms` (drawn each time), or `any of 1ms..20ms` (drawn once).
///
/// # Errors
/// What was found and what was expected.
pub fn draw<T: PartialOrd + Clone>(
    text: &str,
    one: impl Fn(&str) -> Result<T, String>,
) -> Result<Draw<T>, String> {
    let (once, rest) = match text.strip_prefix("any of ") {
        Some(rest) => (true, rest.trim()),
        None => (false, text),
    };
    let (low, high) = rest.split_once("..").unwrap_or((rest, rest));
    let (low, high) = (one(low)?, one(high)?);
    if low > high {
        return Err(format!("the range '{rest}' ends before it begins"));
    }
    Ok(if once { Draw::Once(low..=high) } else { Draw::Each(low..=high) })
}

/// Writes what [`draw`] reads.
pub fn show_draw<T: PartialEq>(draw: &Draw<T>, one: impl Fn(&T) -> String) -> String {
    let range = |range: &RangeInclusive<T>| match range.start() == range.end() {
        true => one(range.start()),
        false => format!("{}..{}", one(range.start()), one(range.end())),
    };
    match draw {
        Draw::Each(each) => range(each),
        Draw::Once(once) => format!("any of {}", range(once)),
    }
}

#[cfg(test)]
#[path = "figures_tests.rs"]
mod tests;

//! Texts that people write, turned into values. Each error is the rule that the text breaks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;

use crate::model::{Policy, key};

/// What is worth a line in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// What a line in the log looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Longest secret, in bytes.
const SECRET_BYTES_MAX: usize = 1024;
/// Longest `bootstrap_max_age_hours`: a hundred years.
const HOURS_MAX: u64 = 876_000;
/// Longest `*_delay_ms`: an hour.
const DELAY_MS_MAX: u64 = 3_600_000;

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(format!("`{other}` is neither true nor false")),
    }
}

pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    text.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .map_err(|_| format!("`{text}` is no IP address such as 127.0.0.1, 0.0.0.0 or ::1"))
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("`{text}` is no port: a whole number from 1 to 65535")),
    }
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the path is empty".into());
    }
    Ok(PathBuf::from(text))
}

pub(super) fn secret(text: &str) -> Result<String, String> {
    if text.len() > SECRET_BYTES_MAX {
        return Err(format!("the secret has {} bytes; the limit is {SECRET_BYTES_MAX}", text.len()));
    }
    Ok(text.to_owned())
}

pub(super) fn log_level(text: &str) -> Result<LogLevel, String> {
    match text.to_ascii_lowercase().as_str() {
        "trace" => Ok(LogLevel::Trace),
        "debug" => Ok(LogLevel::Debug),
        "info" => Ok(LogLevel::Info),
        "warn" | "warning" => Ok(LogLevel::Warn),
        "error" => Ok(LogLevel::Error),
        _ => Err(format!("`{text}` is no log level: debug, info, warn, error (or trace)")),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("`{text}` is no log format: text or json")),
    }
}

/// `cart/=siblings` or `log/=history:fail`; the prefix percent-encoded where it must be.
pub(super) fn policy(text: &str) -> Result<(Vec<u8>, Policy), String> {
    let (prefix, policy) = text.rsplit_once('=').ok_or_else(|| {
        format!("`{text}` is no policy of a prefix, such as cart/=siblings or log/=history:fail")
    })?;
    let prefix = key::decode(prefix).map_err(|error| error.to_string())?;
    let prefix = prefix.strip_prefix(b"/").unwrap_or(&prefix).to_vec();
    let (name, strategy) = policy.split_once(':').map_or((policy, None), |(name, rest)| (name, Some(rest)));
    let policy = Policy::from_names(name, strategy).map_err(|error| error.to_string())?;
    Ok((prefix, policy))
}

/// The text that [`policy`] reads.
pub(super) fn policy_text((prefix, policy): (&[u8], Policy)) -> String {
    let strategy = policy.strategy().map_or(String::new(), |strategy| format!(":{}", strategy.name()));
    format!("{}={}{strategy}", key::encode(prefix), policy.name())
}

pub(super) fn hours(text: &str) -> Result<u64, String> {
    whole(text, HOURS_MAX, "hours")
}

pub(super) fn delay_ms(text: &str) -> Result<u64, String> {
    whole(text, DELAY_MS_MAX, "milliseconds")
}

fn whole(text: &str, max: u64, unit: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if number <= max => Ok(number),
        _ => Err(format!("`{text}` is no whole number of {unit} from 0 to {max}")),
    }
}

/// A duration with a unit, within bounds that are written the same way.
pub(super) fn duration(text: &str, min: &str, max: &str) -> Result<Duration, String> {
    if text.parse::<f64>().is_ok() {
        return Err(format!("`{text}` has no unit; write a duration such as 500ms, 60s or 1h"));
    }
    let found = parsed(text).ok_or_else(|| format!("`{text}` is no duration such as 500ms, 60s or 1h"))?;
    within(text, found, min, max)
}

/// As [`duration`], and a bare number is a number of seconds, as in the seeds' files.
pub(super) fn seconds_or_duration(text: &str, min: &str, max: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let found = seconds.or_else(|| parsed(text));
    let found =
        found.ok_or_else(|| format!("`{text}` is neither a number of seconds nor a duration such as 60s"))?;
    within(text, found, min, max)
}

fn within(text: &str, found: Duration, min: &str, max: &str) -> Result<Duration, String> {
    let bound = |text| parsed(text).expect("bounds are durations");
    if found < bound(min) || found > bound(max) {
        return Err(format!("`{text}` is not between {min} and {max}"));
    }
    Ok(found)
}

fn parsed(text: &str) -> Option<Duration> {
    let duration: SignedDuration = text.parse().ok()?;
    Duration::try_from(duration).ok()
}

/// A duration as these functions read it: in seconds where it is whole seconds, else in milliseconds.
pub(super) fn duration_text(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_secs_f64() * 1000.0)
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        })
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
    }
}

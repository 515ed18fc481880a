//! Who may ask what: bearer tokens with scopes, known by their hashes.
//!
//! Once there are tokens they guard every route but the few that tell nothing about data. What a request needs is
//! read off its method and route in one place, [`needs`]; a token may be bound to a prefix of keys, and then opens
//! nothing but these. Members prove themselves to each other elsewhere, by the cluster's secret.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, RwLock};

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use subtle::ConstantTimeEq;

use super::problem::{Code, Problem};
use crate::model::key;

/// Most tokens of a node.
pub const TOKENS_MAX: usize = 1000;
/// Longest file of tokens, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 256;

/// What a token may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Read keys, watch them, see members and figures.
    Read,
    /// Write and delete keys.
    Write,
    /// Change the members, back up, import, export.
    Admin,
}

/// One token, as the file has it: `name scopes hash [prefix]`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Token {
    name: String,
    scopes: Vec<Scope>,
    hash: [u8; 32],
    prefix: Vec<u8>,
}

/// Why a file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// A line is none.
    #[error("{0}: line {1}: {2}")]
    Line(String, usize, String),
    /// It has none at all.
    #[error(
        "{0} has no token; without `tokens_file` anybody may do everything, with it somebody must be able to do something"
    )]
    Empty(String),
}

/// The tokens of a node. Cheap to clone; all clones change together.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<RwLock<Vec<Token>>>);

/// What a caller was granted. Without tokens everybody is granted everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    name: Option<String>,
    scopes: Vec<Scope>,
    prefix: Vec<u8>,
}

impl Tokens {
    /// Reads a file: one token a line, empty lines and lines with `#` left out.
    ///
    /// # Errors
    /// It cannot be read, or a line is no token.
    pub fn read(path: &Path) -> Result<Tokens, TokensError> {
        let tokens = Tokens::default();
        tokens.reload(path)?;
        Ok(tokens)
    }

    /// Reads the file again. After an error the tokens are as they were.
    ///
    /// # Errors
    /// As [`Tokens::read`].
    pub fn reload(&self, path: &Path) -> Result<(), TokensError> {
        use std::io::Read as _;
        let name = path.display().to_string();
        let unreadable = |error| TokensError::Unreadable(name.clone(), error);
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
        let tokens = parse(&text).map_err(|(line, why)| TokensError::Line(name.clone(), line, why))?;
        // Without tokens everybody may do everything: that is asked for by naming no file, never by an empty one.
        if tokens.is_empty() {
            return Err(TokensError::Empty(name));
        }
        *self.0.write().expect("nobody panics while holding it") = tokens;
        Ok(())
    }

    /// The tokens of a text in the file's form.
    ///
    /// # Errors
    /// The number of a line that is no token, and why.
    pub fn parse(text: &str) -> Result<Tokens, (usize, String)> {
        Ok(Tokens(Arc::new(RwLock::new(parse(text)?))))
    }

    /// Whether anything is guarded at all.
    pub fn is_empty(&self) -> bool {
        self.0.read().expect("nobody panics while holding it").is_empty()
    }

    /// What a request's token grants.
    ///
    /// # Errors
    /// There is none, or an unknown one.
    pub fn grant(&self, headers: &HeaderMap) -> Result<Grant, Problem> {
        let tokens = self.0.read().expect("nobody panics while holding it");
        if tokens.is_empty() {
            return Ok(Grant::everything());
        }
        let unknown = |detail: &str| Problem::new(Code::Unauthorized, detail);
        let given =
            headers.get(AUTHORIZATION).ok_or_else(|| unknown("send `Authorization: Bearer TOKEN`"))?;
        let given = given.as_bytes();
        let token = given.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        let token = token.map(|_| given[7..].trim_ascii()).filter(|token| token.len() <= TOKEN_BYTES_MAX);
        let token = token.ok_or_else(|| unknown("the header Authorization is no `Bearer TOKEN`"))?;
        let hash = hash(token);
        // Every token is compared, and each in constant time: how long this takes tells nothing.
        let mut found = None;
        for known in tokens.iter() {
            if bool::from(known.hash.ct_eq(&hash)) {
                found = Some(known);
            }
        }
        let token = found.ok_or_else(|| unknown("this token is not known here"))?;
        Ok(Grant {
            name: Some(token.name.clone()),
            scopes: token.scopes.clone(),
            prefix: token.prefix.clone(),
        })
    }
}

fn parse(text: &str) -> Result<Vec<Token>, (usize, String)> {
    let mut tokens: Vec<Token> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = Token::parse(line).map_err(|why| (index + 1, why))?;
        if tokens.iter().any(|known| known.name == token.name) {
            return Err((index + 1, format!("there are two tokens named {}", token.name)));
        }
        tokens.push(token);
        if tokens.len() > TOKENS_MAX {
            return Err((index + 1, format!("more than {TOKENS_MAX} tokens")));
        }
    }
    Ok(tokens)
}

impl Token {
    fn parse(line: &str) -> Result<Token, String> {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(scopes), Some(hash)) = (words.next(), words.next(), words.next()) else {
            return Err("a token is `name scopes hash [prefix]`".into());
        };
        let scopes: Result<Vec<_>, _> = scopes.split(',').map(Scope::parse).collect();
        let scopes = scopes?;
        let hash = blake3::Hash::from_hex(hash).map_err(|_| "the hash is not 64 hex digits".to_owned())?;
        let prefix = key::decode(words.next().unwrap_or_default()).map_err(|error| error.to_string())?;
        // Keys are written with or without it, as in a path.
        let prefix = match prefix.strip_prefix(b"/") {
            Some(rest) if !rest.is_empty() => rest.to_vec(),
            _ => prefix,
        };
        if words.next().is_some() {
            return Err("there is more than `name scopes hash [prefix]`".into());
        }
        Ok(Token { name: name.to_owned(), scopes, hash: *hash.as_bytes(), prefix })
    }
}

impl Scope {
    fn parse(name: &str) -> Result<Scope, String> {
        match name {
            "read" => Ok(Scope::Read),
            "write" => Ok(Scope::Write),
            "admin" => Ok(Scope::Admin),
            _ => Err(format!("`{name}` is no scope: read, write or admin")),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Admin => "admin",
        })
    }
}

/// The hash that stands in the file for a token. Tokens are random and long, so a plain hash is enough.
fn hash(token: &[u8]) -> [u8; 32] {
    blake3::derive_key("reknit 2026-11 hash of a bearer token", token)
}

/// A line for the file, for a token of this many random bytes, and the token itself, which is shown once.
///
/// # Errors
/// What was asked for is no token.
pub fn new_token(name: &str, scopes: &str, prefix: &str, dice: [u8; 32]) -> Result<(String, String), String> {
    use base64::Engine as _;
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(dice);
    let hash = blake3::Hash::from_bytes(hash(token.as_bytes())).to_hex();
    let line = format!("{name} {scopes} {hash} {prefix}").trim_end().to_owned();
    Token::parse(&line)?;
    Ok((token, line))
}

/// What a route needs; `None` for what anybody may see.
pub fn needs(method: &Method, route: &str) -> Option<Scope> {
    match route {
        "/health" | "/livez" | "/readyz" | "/version" | "/openapi.json" | "/ui" | "/ui/" | "/" | "/peer" => {
            None
        }
        "/members/join" | "/members/leave" | "/members/remove" | "/members/mode" => Some(Scope::Admin),
        "/backup" | "/export" | "/import" | "/sync" => Some(Scope::Admin),
        "/batch" => Some(Scope::Write),
        _ if *method == Method::GET || *method == Method::HEAD => Some(Scope::Read),
        _ => Some(Scope::Write),
    }
}

/// A page of another site must not write with what a browser on this host may do. Our own page is of this site.
///
/// # Errors
/// The request comes from such a page.
pub fn check_origin(parts: &Parts) -> Result<(), Problem> {
    if parts.method == Method::GET
        || parts.method == Method::HEAD
        || parts.headers.contains_key(AUTHORIZATION)
    {
        return Ok(());
    }
    let Some(origin) = parts.headers.get(ORIGIN) else { return Ok(()) };
    let site = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, site)| site);
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    if site.is_some() && site == host {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, "pages of other sites may not write here"))
}

impl Grant {
    /// What everybody has where there are no tokens.
    pub fn everything() -> Grant {
        Grant { name: None, scopes: vec![Scope::Read, Scope::Write, Scope::Admin], prefix: Vec::new() }
    }

    /// Whose it is, where there are tokens.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether this may do what `scope` says. An admin may do everything.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin) {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden, format!("this token has no scope `{scope}`")))
    }

    /// Whether this may touch the keys that begin with these bytes.
    ///
    /// # Errors
    /// It may not.
    pub fn check_keys(&self, begin: &[u8]) -> Result<(), Problem> {
        if begin.starts_with(&self.prefix) {
            return Ok(());
        }
        let detail = format!("this token opens keys under {} only", key::encode(&self.prefix));
        Err(Problem::new(Code::Forbidden, detail))
    }

    /// Checks a whole request, as far as its head tells.
    ///
    /// # Errors
    /// It may not be done.
    pub fn check_request(&self, parts: &Parts, route: &str) -> Result<(), Problem> {
        let Some(scope) = needs(&parts.method, route) else { return Ok(()) };
        self.check(scope)?;
        if self.prefix.is_empty() {
            return Ok(());
        }
        match route {
            "/kv/{*key}" => {
                let path = parts.uri.path().strip_prefix("/kv/").unwrap_or_default();
                let path = path.strip_prefix('/').unwrap_or(path);
                self.check_keys(&key::decode(path).unwrap_or_default())
            }
            "/kv" | "/kv/" | "/changes" | "/export" | "/conflicts" => {
                let query = parts.uri.query().unwrap_or_default();
                let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix="));
                let prefix = key::decode(&prefix.unwrap_or_default().replace('+', " ")).unwrap_or_default();
                self.check_keys(prefix.strip_prefix(b"/").unwrap_or(&prefix))
            }
            // Its operations are checked one by one.
            "/batch" => Ok(()),
            "/members" | "/members/" | "/metrics" => Ok(()),
            _ => Err(Problem::new(Code::Forbidden, "a token with a prefix opens keys only")),
        }
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;

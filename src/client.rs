//! A client of the HTTP API for `kv` and for tests: speaks to the first endpoint that answers.
//!
//! A read goes on to the next endpoint after any failure of the connection. A write only does so when no
//! connection came about: whatever else happened, the node may have stored it, and a second node would store it
//! again.

use std::io::{self, Read};
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body, SendBody};

use crate::model::Key;

/// Longest answer that is read, in bytes: a page of values and its JSON are well below it.
pub const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// How long one endpoint may take to accept a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client. Keeps its connections open.
#[derive(Debug)]
pub struct Client {
    endpoints: Vec<String>,
    agent: Agent,
    /// Sent with every request.
    authorization: Option<String>,
    timeout: Duration,
}

/// Why a request was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An endpoint that is no `http://host:port`.
    #[error("`{0}` is no endpoint such as http://127.0.0.1:8080")]
    Endpoint(String),
    /// A certificate authority that is none, or none was given for an `https://` endpoint.
    #[error("{0}")]
    Authority(String),
    /// No endpoint answered, or the answer broke off; each with its reason.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// The node answered with an error.
    #[error("{0}")]
    Refused(Problem),
    /// Several concurrent values lie under a key: the node's list of them, `tag` for all of them together.
    #[error("{count} concurrent values lie under this key; a write with --if-match {tag} replaces them")]
    Siblings {
        /// How many.
        count: usize,
        /// For `If-Match`.
        tag: String,
        /// JSON, as the node sent it.
        document: Vec<u8>,
    },
    /// The answer is not what the API gives; the other end may be no reknit node.
    #[error("the answer is not understood: {0}")]
    Answer(String),
}

/// An `application/problem+json` answer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The stable name of the error.
    pub code: String,
    /// A short name for people.
    pub title: String,
    /// What is wrong in this case.
    pub detail: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = if self.detail.is_empty() { &self.title } else { &self.detail };
        write!(f, "{text} ({}, {})", self.status, self.code)
    }
}

/// A value with what the node says about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// Their media type.
    pub content_type: String,
    /// The version's uuid.
    pub uuid: String,
    /// The version's time, in milliseconds.
    pub timestamp: u64,
}

/// What a write was stored as.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Written {
    /// The version's uuid.
    pub uuid: String,
    /// The version's time, in milliseconds.
    pub timestamp: u64,
    /// On how many nodes it is known to be durable; only if more than the one that answers were asked for.
    #[serde(default)]
    pub acked: Option<u16>,
}

/// What a write asks for beyond the bytes; pairs of a query parameter or a header and its value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Such as `("ack", "majority")`.
    pub query: Vec<(String, String)>,
    /// Such as `("If-Match", "\"…\"")`.
    pub headers: Vec<(String, String)>,
}

enum Method {
    Get,
    Put,
    Delete,
    Post,
}

struct Call<'a> {
    method: Method,
    path: String,
    headers: &'a [(String, String)],
    body: &'a [u8],
}

impl Client {
    /// A client of these endpoints, `http://host:port` or just `host:port`, asked in this order.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`]. There must be at least one.
    pub fn new(endpoints: &[String], timeout: Duration) -> Result<Client, ClientError> {
        Client::with(endpoints, timeout, None, None)
    }

    /// [`Client::new`] with a bearer token, and with the authority (PEM) that `https://` endpoints are checked
    /// against.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`] or [`ClientError::Authority`].
    pub fn with(
        endpoints: &[String],
        timeout: Duration,
        token: Option<String>,
        authority: Option<&str>,
    ) -> Result<Client, ClientError> {
        let endpoints: Result<Vec<_>, _> = endpoints.iter().map(|text| endpoint(text)).collect();
        let endpoints = endpoints?;
        if endpoints.is_empty() {
            return Err(ClientError::Endpoint(String::new()));
        }
        let secure = endpoints.iter().find(|endpoint| endpoint.starts_with("https:"));
        if let (Some(endpoint), None) = (secure, authority) {
            let why = format!("{endpoint} needs the certificate authority it is checked against (--ca)");
            return Err(ClientError::Authority(why));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT.min(timeout)))
            .timeout_global(Some(timeout))
            .proxy(None);
        if let Some(authority) = authority {
            let pem = Certificate::from_pem(authority.as_bytes());
            let pem = pem.map_err(|error| ClientError::Authority(error.to_string()))?;
            let tls = TlsConfig::builder()
                .provider(TlsProvider::Rustls)
                .unversioned_rustls_crypto_provider(std::sync::Arc::new(
                    rustls::crypto::ring::default_provider(),
                ))
                .root_certs(RootCerts::new_with_certs(&[pem]))
                .build();
            config = config.tls_config(tls);
        }
        let authorization = token.map(|token| format!("Bearer {token}"));
        Ok(Client { endpoints, agent: config.build().new_agent(), authorization, timeout })
    }

    /// The same client asking one endpoint only.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`].
    pub fn at(&self, address: &str) -> Result<Client, ClientError> {
        let scheme = self.endpoints[0].split_once("://").map_or("http", |(scheme, _)| scheme);
        let address =
            if address.contains("://") { address.to_owned() } else { format!("{scheme}://{address}") };
        Ok(Client {
            endpoints: vec![endpoint(&address)?],
            agent: self.agent.clone(),
            authorization: self.authorization.clone(),
            timeout: self.timeout,
        })
    }

    /// What this client asks, in order.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The value under a key, or `None`.
    ///
    /// # Errors
    /// The node refuses, or nobody answers.
    pub fn get(&self, key: &Key) -> Result<Option<Value>, ClientError> {
        // Several values at once can only be told as a list.
        let headers = [("Accept".to_owned(), "*/*, application/json".to_owned())];
        let call = Call { method: Method::Get, path: format!("/kv/{key}"), headers: &headers, body: &[] };
        let response = self.answered(&call)?;
        let header = |name| header_text(&response, name);
        if let Ok(count) = header("x-reknit-siblings").parse() {
            let tag = header("etag").trim_matches('"').to_owned();
            return Err(ClientError::Siblings { count, tag, document: bytes_of(response)? });
        }
        let response = match accepted(response) {
            Err(ClientError::Refused(problem)) if problem.status == 404 => return Ok(None),
            other => other?,
        };
        let header = |name| header_text(&response, name);
        Ok(Some(Value {
            content_type: header("content-type"),
            uuid: header("etag").trim_matches('"').to_owned(),
            timestamp: header("x-reknit-timestamp").parse().unwrap_or(0),
            bytes: bytes_of(response)?,
        }))
    }

    /// Writes these bytes under a key.
    ///
    /// # Errors
    /// The node refuses, or nobody answers; without an answer the write may still be stored.
    pub fn put(
        &self,
        key: &Key,
        value: &[u8],
        content_type: &str,
        options: &Options,
    ) -> Result<Written, ClientError> {
        let mut headers = options.headers.clone();
        headers.push(("Content-Type".into(), content_type.into()));
        let path = format!("/kv/{key}{}", query(&options.query));
        let call = Call { method: Method::Put, path, headers: &headers, body: value };
        json_of(&bytes_of(self.call(&call)?)?)
    }

    /// Deletes what is under a key, if anything is.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub fn delete(&self, key: &Key, options: &Options) -> Result<(), ClientError> {
        let path = format!("/kv/{key}{}", query(&options.query));
        let call = Call { method: Method::Delete, path, headers: &options.headers, body: &[] };
        self.call(&call).map(drop)
    }

    /// The answer to any other path that is read, as it came.
    ///
    /// # Errors
    /// The node refuses, or nobody answers.
    pub fn read(&self, path: &str, parameters: &[(&str, Vec<u8>)]) -> Result<Vec<u8>, ClientError> {
        let path = format!("{path}{}", query(parameters));
        bytes_of(self.call(&Call { method: Method::Get, path, headers: &[], body: &[] })?)
    }

    /// The answer to a path that something is posted to: JSON, as most of them take.
    ///
    /// # Errors
    /// The node refuses, or nobody answers; without an answer it may have been done.
    pub fn post(
        &self,
        path: &str,
        parameters: &[(&str, Vec<u8>)],
        body: &[u8],
    ) -> Result<Vec<u8>, ClientError> {
        let headers = [("Content-Type".to_owned(), "application/json".to_owned())];
        let path = format!("{path}{}", query(parameters));
        bytes_of(self.call(&Call { method: Method::Post, path, headers: &headers, body })?)
    }

    /// Sends what `body` gives, however much it is and however long it takes, to the first endpoint to which a connection
    /// comes about.
    ///
    /// # Errors
    /// As [`Client::post`]; and whatever reading `body` fails with.
    pub fn post_stream(&self, path: &str, body: &mut dyn Read) -> Result<Vec<u8>, ClientError> {
        let mut reasons = Vec::new();
        for endpoint in &self.endpoints {
            let request = self.agent.post(format!("{endpoint}{path}")).content_type("application/x-ndjson");
            let request = request.config().timeout_global(None).build();
            match self.authorized(request).send(SendBody::from_reader(&mut *body)) {
                Ok(answer) => return bytes_of(accepted(answer)?),
                Err(error) => {
                    reasons.push(format!("{endpoint}: {error}"));
                    if !never_arrived(&error) {
                        break;
                    }
                }
            }
        }
        Err(ClientError::Unreachable(reasons.join("; ")))
    }

    /// The answer to a path, to be read bit by bit: it may have any length and take any time.
    ///
    /// # Errors
    /// No node answers, or the first that does refuses.
    pub fn open(
        &self,
        path: &str,
        parameters: &[(&str, Vec<u8>)],
    ) -> Result<Box<dyn Read + Send>, ClientError> {
        let path = format!("{path}{}", query(parameters));
        let mut reasons = Vec::new();
        for endpoint in &self.endpoints {
            let request = self.agent.get(format!("{endpoint}{path}")).config().timeout_global(None);
            let request = request.timeout_recv_response(Some(self.timeout)).build();
            match self.authorized(request).call() {
                Ok(response) => return Ok(Box::new(accepted(response)?.into_body().into_reader())),
                Err(error) => reasons.push(format!("{endpoint}: {error}")),
            }
        }
        Err(ClientError::Unreachable(reasons.join("; ")))
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(authorization) => request.header(header::AUTHORIZATION, authorization),
            None => request,
        }
    }

    fn call(&self, call: &Call<'_>) -> Result<Response<Body>, ClientError> {
        accepted(self.answered(call)?)
    }

    /// The first answer, whatever its status.
    fn answered(&self, call: &Call<'_>) -> Result<Response<Body>, ClientError> {
        let mut reasons = Vec::new();
        for endpoint in &self.endpoints {
            match self.send(endpoint, call) {
                Ok(response) => return Ok(response),
                Err(error) => {
                    reasons.push(format!("{endpoint}: {error}"));
                    if !matches!(call.method, Method::Get) && !never_arrived(&error) {
                        reasons.push("it may be stored".into());
                        break;
                    }
                }
            }
        }
        Err(ClientError::Unreachable(reasons.join("; ")))
    }

    fn send(&self, endpoint: &str, call: &Call<'_>) -> Result<Response<Body>, ureq::Error> {
        let url = format!("{endpoint}{}", call.path);
        match call.method {
            Method::Get => self.authorized(with_headers(self.agent.get(&url), call.headers)).call(),
            Method::Delete => self.authorized(with_headers(self.agent.delete(&url), call.headers)).call(),
            Method::Put => self.authorized(with_headers(self.agent.put(&url), call.headers)).send(call.body),
            Method::Post => {
                self.authorized(with_headers(self.agent.post(&url), call.headers)).send(call.body)
            }
        }
    }
}

fn endpoint(text: &str) -> Result<String, ClientError> {
    let text = text.trim().trim_end_matches('/');
    let (scheme, host) = text.split_once("://").unwrap_or(("http", text));
    let is_host = !host.is_empty() && !host.contains(['/', '?', '#', ' ']);
    if !is_host || !["http", "https"].contains(&scheme) {
        return Err(ClientError::Endpoint(text.to_owned()));
    }
    Ok(format!("{scheme}://{host}"))
}

fn with_headers<B>(
    request: ureq::RequestBuilder<B>,
    headers: &[(String, String)],
) -> ureq::RequestBuilder<B> {
    headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

fn query(parameters: &[(impl AsRef<str>, impl AsRef<[u8]>)]) -> String {
    let pair = |(name, value): &(_, _)| {
        let (name, value): (&str, &[u8]) = (AsRef::as_ref(name), AsRef::as_ref(value));
        format!("{name}={}", percent_encoding::percent_encode(value, percent_encoding::NON_ALPHANUMERIC))
    };
    let pairs: Vec<_> = parameters.iter().map(pair).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// Whether a request can not have reached a node, so that another one may be asked.
fn never_arrived(error: &ureq::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
    match error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => true,
        ureq::Error::Io(error) => {
            [AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable].contains(&error.kind())
        }
        _ => false,
    }
}

fn accepted(response: Response<Body>) -> Result<Response<Body>, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = bytes_of(response)?;
    let problem = serde_json::from_slice(&body).unwrap_or_default();
    Err(ClientError::Refused(match problem {
        Problem { code, .. } if code.is_empty() => Problem {
            status: status.as_u16(),
            code: "no-problem-json".into(),
            title: status.to_string(),
            ..Problem::default()
        },
        problem => Problem { status: status.as_u16(), ..problem },
    }))
}

fn header_text(response: &Response<Body>, name: &str) -> String {
    let name = header::HeaderName::try_from(name).expect("names in this file are header names");
    let text = response.headers().get(name).and_then(|value| value.to_str().ok());
    text.unwrap_or_default().to_owned()
}

fn bytes_of(response: Response<Body>) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    let mut reader = response.into_body().into_reader().take(ANSWER_BYTES_MAX + 1);
    reader.read_to_end(&mut bytes).map_err(|error| ClientError::Unreachable(error.to_string()))?;
    if bytes.len() as u64 > ANSWER_BYTES_MAX {
        return Err(ClientError::Answer(format!("it is longer than {ANSWER_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn json_of<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(bytes).map_err(|error| ClientError::Answer(error.to_string()))
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;

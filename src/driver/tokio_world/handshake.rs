//! Who may be a peer: the headers that both sides exchange, the proofs in them, and the refusals.
//!
//! Pure. Three messages: the dialer opens with a proof that it knows the secret (so that a wrong one is refused
//! with a clear status), the server answers 101 with a proof over both sides' nonces, and the dialer's first
//! frame is its own proof over both. Roles, ids, addresses and nonces are all hashed, each with its length, so
//! no proof can stand for another. Frames themselves are not encrypted.

use std::net::IpAddr;

use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode};

use super::counters::Count;
use crate::model::{Address, NodeId};
use crate::protocol::wire::PROTOCOL_VERSION;

/// The path that is upgraded.
pub const PATH: &str = "/peer";
/// The protocol as `Upgrade` names it; the number is [`PROTOCOL_VERSION`].
pub const UPGRADE_TOKEN: &str = "reknit/1";
/// What a side that takes compressed frames says.
const ZSTD: &str = "zstd";
/// Bytes of a proof.
pub const PROOF_BYTES: usize = blake3::OUT_LEN;

const ID: HeaderName = HeaderName::from_static("reknit-id");
const ADDRESS: HeaderName = HeaderName::from_static("reknit-address");
const INSTANCE: HeaderName = HeaderName::from_static("reknit-instance");
const NONCE: HeaderName = HeaderName::from_static("reknit-nonce");
const TAKES: HeaderName = HeaderName::from_static("reknit-takes");
const PROOF: HeaderName = HeaderName::from_static("reknit-proof");
const REFUSED: HeaderName = HeaderName::from_static("reknit-refused");
const REASON: HeaderName = HeaderName::from_static("reknit-reason");

/// What one side says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Its place.
    pub id: NodeId,
    /// Where it says peers reach it.
    pub address: Address,
    /// Drawn once per process: tells a node from itself and from its next run.
    pub instance: u128,
    /// Drawn once per handshake.
    pub nonce: u128,
    /// Whether it takes frames that zstd made smaller. No part of a proof: who takes it away only makes frames longer.
    pub takes_zstd: bool,
}

/// The key that a cluster's secret stands for. Without a secret it is a key that everybody knows.
#[derive(Clone)]
pub struct Key([u8; 32]);

/// A refused upgrade, for the API to answer with.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// The kind.
    pub(super) why: Why,
    /// For people.
    pub(super) reason: String,
}

impl Refused {
    /// 400, 401, 403, 409, 426 or 503.
    pub fn status(&self) -> StatusCode {
        match self.why {
            Why::NoUpgrade | Why::Version => StatusCode::UPGRADE_REQUIRED,
            Why::Malformed => StatusCode::BAD_REQUEST,
            Why::NeedsSecret | Why::NeedsCertificate => StatusCode::FORBIDDEN,
            Why::WrongSecret => StatusCode::UNAUTHORIZED,
            Why::Own | Why::IdTaken | Why::AddressTaken => StatusCode::CONFLICT,
            Why::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        self.why.code()
    }

    /// Must be part of the answer: the dialer reads code and reason from them, whatever the body says.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static(UPGRADE_TOKEN));
        headers.insert(REFUSED, HeaderValue::from_static(self.code()));
        if let Ok(reason) = HeaderValue::from_str(&self.reason) {
            headers.insert(REASON, reason);
        }
        if self.why == Why::WrongSecret {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Reknit"));
        }
        headers
    }
}

/// Why an upgrade is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// No `Upgrade`, or not to our protocol.
    NoUpgrade,
    /// Headers are missing or make no sense.
    Malformed,
    /// Another version of the protocol.
    Version,
    /// No secret here, and the peer is not on this host.
    NeedsSecret,
    /// The connection came without a certificate of the cluster's authority.
    NeedsCertificate,
    /// The peer's secret is another one, or none.
    WrongSecret,
    /// It is this very node.
    Own,
    /// Another node has this node's id.
    IdTaken,
    /// Another node says it is reached where this one, or a connected one, is.
    AddressTaken,
    /// Too many connections, or this node is stopping.
    Busy,
}

impl Why {
    fn of_code(code: &str) -> Option<Why> {
        use Why::*;
        let plain = [NoUpgrade, Malformed, Version, NeedsSecret, NeedsCertificate, WrongSecret];
        let all = plain.into_iter().chain([Own, IdTaken, AddressTaken, Busy]);
        all.into_iter().find(|why| why.code() == code)
    }

    /// Stable, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Why::NoUpgrade => "upgrade-required",
            Why::Malformed => "malformed-handshake",
            Why::Version => "protocol-version",
            Why::NeedsSecret => "peers-need-secret",
            Why::NeedsCertificate => "peers-need-certificate",
            Why::WrongSecret => "wrong-secret",
            Why::Own => "self",
            Why::IdTaken => "id-taken",
            Why::AddressTaken => "address-taken",
            Why::Busy => "peers-busy",
        }
    }

    /// Where it is counted.
    pub fn count(self) -> Count {
        match self {
            Why::NoUpgrade | Why::Malformed => Count::RefusedMalformed,
            Why::Version => Count::RefusedVersion,
            Why::NeedsSecret => Count::RefusedNeedsSecret,
            Why::NeedsCertificate => Count::RefusedCertificate,
            Why::WrongSecret => Count::RefusedSecret,
            Why::Own => Count::RefusedSelf,
            Why::IdTaken => Count::RefusedId,
            Why::AddressTaken => Count::RefusedAddress,
            Why::Busy => Count::RefusedBusy,
        }
    }

    /// The answer to send.
    pub fn refuse(self, reason: impl Into<String>) -> Refused {
        Refused { why: self, reason: reason.into() }
    }
}

/// What a dialer reads from an answer that is no 101.
pub fn read_refusal(status: StatusCode, headers: &HeaderMap) -> (Option<Why>, String) {
    let why = headers.get(REFUSED).and_then(|code| code.to_str().ok()).and_then(Why::of_code);
    let reason = headers.get(REASON).and_then(|reason| reason.to_str().ok());
    (why, reason.map_or_else(|| format!("it answered {status}"), str::to_owned))
}

/// This node's side of every handshake.
#[derive(Clone)]
pub struct Me {
    /// Its place.
    pub id: NodeId,
    /// Where peers reach it.
    pub address: Address,
    /// This process.
    pub instance: u128,
    /// From the cluster's secret.
    pub key: Key,
    /// Whether peers on other hosts are welcome: with a secret, or when told so aloud.
    pub talks_to_other_hosts: bool,
    /// Whether frames are made smaller for peers that take it.
    pub compresses: bool,
}

impl Me {
    /// What this node says about itself.
    pub fn hello(&self, nonce: u128) -> Hello {
        Hello {
            id: self.id.clone(),
            address: self.address.clone(),
            instance: self.instance,
            nonce,
            takes_zstd: true,
        }
    }

    /// Whether a peer at `ip` may be talked to; `None` is a peer of unknown whereabouts.
    ///
    /// # Errors
    /// It may not.
    pub fn check_whereabouts(&self, ip: Option<IpAddr>) -> Result<(), Refused> {
        if self.talks_to_other_hosts || ip.is_some_and(|ip| ip.to_canonical().is_loopback()) {
            return Ok(());
        }
        let reason = "without a cluster secret a node talks to peers on its own host only; set cluster_secret \
                      on every node, or insecure_peers";
        Err(Why::NeedsSecret.refuse(reason))
    }

    /// Whether `peer` can be a peer of this node at all.
    ///
    /// # Errors
    /// It is this node, or claims its place.
    pub fn check_peer(&self, peer: &Hello) -> Result<(), Refused> {
        if peer.instance == self.instance {
            return Err(Why::Own.refuse(format!("this is {} itself", self.id)));
        }
        if peer.id == self.id {
            let reason = format!("node id {} is taken by the node at {}", self.id, self.address);
            return Err(Why::IdTaken.refuse(reason));
        }
        if peer.address == self.address {
            let reason =
                format!("address {} is the one of node {}; set advertise_address", self.address, self.id);
            return Err(Why::AddressTaken.refuse(reason));
        }
        Ok(())
    }

    /// The server's check of an upgrade request: all that can be known before it answers.
    ///
    /// # Errors
    /// The request is refused.
    pub fn check_request(
        &self,
        method: &Method,
        headers: &HeaderMap,
        remote: Option<IpAddr>,
    ) -> Result<Hello, Refused> {
        check_upgrade(method, headers)?;
        let hello = read_hello(headers).map_err(|reason| Why::Malformed.refuse(reason))?;
        self.check_whereabouts(remote)?;
        if read_proof(headers) != Some(self.key.opening(&hello)) {
            return Err(Why::WrongSecret.refuse("the cluster secrets differ"));
        }
        self.check_peer(&hello)?;
        Ok(hello)
    }

    /// The dialer's check of a 101.
    ///
    /// # Errors
    /// This node refuses to go on with it.
    pub fn check_answer(&self, mine: &Hello, headers: &HeaderMap) -> Result<Hello, Refused> {
        let hello = read_hello(headers).map_err(|reason| Why::Malformed.refuse(reason))?;
        if read_proof(headers) != Some(self.key.proof(Role::Server, mine, &hello)) {
            return Err(Why::WrongSecret.refuse("it does not know the cluster secret"));
        }
        self.check_peer(&hello)?;
        Ok(hello)
    }
}

fn check_upgrade(method: &Method, headers: &HeaderMap) -> Result<(), Refused> {
    let token = headers.get(UPGRADE).and_then(|token| token.to_str().ok()).unwrap_or_default();
    let (name, version) = token.split_once('/').unwrap_or((token, ""));
    if method != Method::GET || !name.eq_ignore_ascii_case("reknit") {
        return Err(Why::NoUpgrade.refuse(format!("{PATH} is for peers: GET with Upgrade: {UPGRADE_TOKEN}")));
    }
    if version.parse() != Ok(PROTOCOL_VERSION) {
        let reason = format!("protocol version {PROTOCOL_VERSION} is spoken here, not the one asked for");
        return Err(Why::Version.refuse(reason));
    }
    Ok(())
}

/// The headers of a request or a 101 that carry `hello` and `proof`.
pub fn headers(hello: &Hello, proof: blake3::Hash) -> HeaderMap {
    let text = |text: &str| HeaderValue::from_str(text).expect("ids, addresses and hex are printable ASCII");
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(UPGRADE_TOKEN));
    headers.insert(ID, text(hello.id.as_str()));
    headers.insert(ADDRESS, text(hello.address.as_str()));
    headers.insert(INSTANCE, text(&format!("{:032x}", hello.instance)));
    headers.insert(NONCE, text(&format!("{:032x}", hello.nonce)));
    if hello.takes_zstd {
        headers.insert(TAKES, HeaderValue::from_static(ZSTD));
    }
    headers.insert(PROOF, text(proof.to_hex().as_str()));
    headers
}

fn read_hello(headers: &HeaderMap) -> Result<Hello, String> {
    let text = |name: &HeaderName| {
        let text = headers.get(name).and_then(|value| value.to_str().ok());
        text.ok_or_else(|| format!("the header {name} is missing"))
    };
    let number = |name: &HeaderName| {
        let hex = text(name)?;
        let number = u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32);
        number.ok_or_else(|| format!("the header {name} is not 32 hex digits"))
    };
    Ok(Hello {
        id: NodeId::new(text(&ID)?).map_err(|error| error.to_string())?,
        address: Address::new(text(&ADDRESS)?).map_err(|error| error.to_string())?,
        instance: number(&INSTANCE)?,
        nonce: number(&NONCE)?,
        takes_zstd: text(&TAKES).is_ok_and(|words| words.split(',').any(|word| word.trim() == ZSTD)),
    })
}

fn read_proof(headers: &HeaderMap) -> Option<blake3::Hash> {
    blake3::Hash::from_hex(headers.get(PROOF)?.as_bytes()).ok()
}

/// Who proves something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Whoever dialed.
    Client,
    /// Whoever was dialed.
    Server,
}

impl Key {
    /// The key of a secret, or of none.
    pub fn of(secret: &[u8]) -> Key {
        Key(blake3::derive_key("reknit 2026-11 peer handshake", secret))
    }

    /// The dialer's first proof. It can be repeated by whoever overheard it, so it only earns an answer.
    pub fn opening(&self, client: &Hello) -> blake3::Hash {
        self.hash(b"opening", &[client])
    }

    /// A side's proof, over both sides. Comparing [`blake3::Hash`]es takes constant time.
    pub fn proof(&self, role: Role, client: &Hello, server: &Hello) -> blake3::Hash {
        let role: &[u8] = match role {
            Role::Client => b"client",
            Role::Server => b"server",
        };
        self.hash(role, &[client, server])
    }

    fn hash(&self, role: &[u8], sides: &[&Hello]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(role);
        add(&PROTOCOL_VERSION.to_le_bytes());
        for side in sides {
            add(side.id.as_str().as_bytes());
            add(side.address.as_str().as_bytes());
            add(&side.instance.to_le_bytes());
            add(&side.nonce.to_le_bytes());
        }
        hasher.finalize()
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;

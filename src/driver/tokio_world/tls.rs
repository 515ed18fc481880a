//! TLS on the one port: clients check the node's certificate, and peers show each other theirs.
//!
//! One authority stands for the cluster: a connection that asks to be a peer must have shown a certificate that it
//! signed, and the node that dials checks the other's name against it. Clients need no certificate. Whether TLS is
//! spoken is a matter of the whole port; there is no plain text beside it.

use std::io;
use std::path::Path;
use std::sync::{Arc, RwLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {1}")]
pub struct TlsError(String, String);

/// Certificates in use. Cheap to clone; all clones change together.
#[derive(Clone)]
pub struct Tls(Arc<RwLock<Pair>>);

#[derive(Clone)]
struct Pair {
    server: TlsAcceptor,
    client: TlsConnector,
}

/// Noted on each request that came by TLS: whether the other end has shown a certificate of the cluster's authority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Certified(pub bool);

/// Any connection, encrypted or not.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads the node's certificate (with what leads to the authority), its key, and the authority, all PEM.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub fn read(certificate: &Path, key: &Path, authority: &Path) -> Result<Tls, TlsError> {
        Ok(Tls(Arc::new(RwLock::new(Pair::read(certificate, key, authority)?))))
    }

    /// Reads the files again; open connections stay as they are. After an error nothing has changed.
    ///
    /// # Errors
    /// As [`Tls::read`].
    pub fn reload(&self, certificate: &Path, key: &Path, authority: &Path) -> Result<(), TlsError> {
        let pair = Pair::read(certificate, key, authority)?;
        *self.0.write().expect("nobody panics while holding it") = pair;
        Ok(())
    }

    /// The server's side of a connection.
    ///
    /// # Errors
    /// What came is no TLS, or a certificate that the authority did not sign.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<server::TlsStream<TcpStream>> {
        let server = self.0.read().expect("nobody panics while holding it").server.clone();
        server.accept(stream).await
    }

    /// The dialer's side of a connection to a peer at this `host:port`.
    ///
    /// # Errors
    /// The other side's certificate is not for this host, or not the authority's.
    pub async fn connect(&self, to: &str, stream: TcpStream) -> io::Result<client::TlsStream<TcpStream>> {
        let client = self.0.read().expect("nobody panics while holding it").client.clone();
        let host = to.rsplit_once(':').map_or(to, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        client.connect(name, stream).await
    }
}

/// Whether the other end of this connection has shown a certificate; the handshake has checked it, then.
pub fn certified(stream: &server::TlsStream<TcpStream>) -> Certified {
    Certified(stream.get_ref().1.peer_certificates().is_some_and(|shown| !shown.is_empty()))
}

impl Pair {
    fn read(certificate: &Path, key: &Path, authority: &Path) -> Result<Pair, TlsError> {
        let chain = certificates(certificate)?;
        let key = {
            let read = PrivateKeyDer::from_pem_file(key);
            read.map_err(|error| failed(key, error))?
        };
        let mut roots = RootCertStore::empty();
        for root in certificates(authority)? {
            roots.add(root).map_err(|error| failed(authority, error))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());

        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let verifier = verifier.allow_unauthenticated().build().map_err(|error| failed(authority, error))?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder.with_client_cert_verifier(verifier).with_single_cert(chain.clone(), key.clone_key())
            });
        let mut server = server.map_err(|error| failed(certificate, error))?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];

        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_root_certificates(roots).with_client_auth_cert(chain, key));
        let client = client.map_err(|error| failed(certificate, error))?;
        Ok(Pair { server: TlsAcceptor::from(Arc::new(server)), client: TlsConnector::from(Arc::new(client)) })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| failed(path, error))?;
    let all: Result<Vec<_>, _> = read.collect();
    let all = all.map_err(|error| failed(path, error))?;
    if all.is_empty() { Err(failed(path, "there is no certificate in it")) } else { Ok(all) }
}

fn failed(path: &Path, why: impl std::fmt::Display) -> TlsError {
    TlsError(path.display().to_string(), why.to_string())
}

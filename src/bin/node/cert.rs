//! `node cert dev`: an authority for a cluster and a certificate per node, for trying TLS out.
//!
//! The authority's key is thrown away, so nobody can sign with it later; run it again for another set.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// Names that every certificate holds, so that all nodes may run on one machine.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Writes `ca.pem`, and `NODE.pem` with `NODE-key.pem` for each node, into a directory.
pub fn write_dev(directory: &Path, nodes: &[String], hosts: &[String]) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let authority = authority().map_err(io::Error::other)?;
    File::create_new(directory.join("ca.pem"))?.write_all(authority.pem().as_bytes())?;
    for node in nodes {
        let names =
            LOCAL.iter().map(|&name| name.to_owned()).chain([node.clone()]).chain(hosts.iter().cloned());
        let (certificate, key) = signed(node, names.collect(), &authority).map_err(io::Error::other)?;
        File::create_new(directory.join(format!("{node}.pem")))?.write_all(certificate.as_bytes())?;
        let secret = OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
        secret.open(directory.join(format!("{node}-key.pem")))?.write_all(key.as_bytes())?;
    }
    Ok(())
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "reknit development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn signed(
    node: &str,
    names: Vec<String>,
    authority: &CertifiedIssuer<'static, KeyPair>,
) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, node);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Each node is a server to some of its peers and a client to others.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

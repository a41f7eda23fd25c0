//! Certificates, made anew for every pool.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::error::{LabError, Result, Tried};

/// Who signs what a pool's servers and clients show each other.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Who a certificate is for.
pub(super) enum Subject<'a> {
    /// All servers of a pool, by the addresses that clients may dial.
    Server(&'a [IpAddr]),
    /// A client, by its name.
    Client(&'a str),
}

/// A certificate and its key, PEM and DER.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) certificate_der: Vec<u8>,
    pub(super) key: String,
    pub(super) key_der: Vec<u8>,
}

impl Authority {
    /// A new authority.
    pub(super) fn new() -> Result<Self> {
        let mut params = named("Fernpass lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer =
            key().and_then(|key| CertifiedIssuer::self_signed(params, key).map_err(unmade))?;
        Ok(Self { issuer })
    }

    /// Its own certificate, PEM.
    pub(super) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// Its own certificate, DER.
    pub(super) fn certificate_der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    /// Signs a certificate for a new key.
    pub(super) fn issue(&self, subject: Subject<'_>) -> Result<Identity> {
        let mut params = match subject {
            Subject::Server(addresses) => {
                let mut params = named("server");
                params.subject_alt_names =
                    addresses.iter().copied().map(rcgen::SanType::IpAddress).collect();
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                params
            }
            Subject::Client(name) => {
                let mut params = named(name);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                params
            }
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement];
        let key = key()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(unmade)?;
        Ok(Identity {
            certificate: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            key: key.serialize_pem(),
            key_der: key.serialize_der(),
        })
    }
}

impl Identity {
    /// Writes `NAME.crt` and `NAME.key` into a directory; where they are.
    pub(super) fn write(&self, dir: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        write(&certificate, &self.certificate)?;
        write(&key, &self.key)?;
        Ok((certificate, key))
    }
}

/// Writes a file of a peer's configuration, for root alone.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .tried(|| format!("writing {}", path.display()))
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn key() -> Result<KeyPair> {
    KeyPair::generate().map_err(unmade)
}

fn unmade(e: rcgen::Error) -> LabError {
    LabError::Scenario(format!("a certificate cannot be made: {e}"))
}

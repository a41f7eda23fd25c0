//! Files that the configuration names: keys and certificates of probes. They are read with it, where they are to be used; what is
//! wrong with one is a mistake at the line that names it. The configuration itself keeps the path alone.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Serialize, Serializer};

use super::health::hexadecimal;

/// A file and what is in it, if it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOf<T> {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it; `None` where configurations are only looked at.
    pub contents: Option<T>,
}

impl<T> Serialize for FileOf<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.path.serialize(to)
    }
}

/// What can be in a file.
pub(crate) trait Contents: Sized {
    /// What it is, with its article.
    const EXPECTED: &'static str;
    /// How to come by such a file.
    const MEND: &'static str;
    /// Whether it is nobody else's business.
    const IS_SECRET: bool = true;

    /// Reads it; `None` if it is something else.
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// A private or preshared key of WireGuard.
#[derive(Clone, PartialEq, Eq)]
pub struct WireGuardKey(pub [u8; 32]);

impl fmt::Debug for WireGuardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WireGuardKey(…)")
    }
}

impl Contents for WireGuardKey {
    const EXPECTED: &'static str = "a key of WireGuard";
    const MEND: &'static str =
        "write one of 44 characters into it, as `wg genkey` and `wg genpsk` print them";

    fn read(bytes: &[u8]) -> Option<Self> {
        key_of(bytes.trim_ascii()).map(Self)
    }
}

/// A key in the form that `wg` prints.
pub(super) fn key_of(text: &[u8]) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// A static key of OpenVPN: 2,048 bits.
#[derive(Clone, PartialEq, Eq)]
pub struct ControlKey(pub [u8; 256]);

impl fmt::Debug for ControlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ControlKey(…)")
    }
}

impl Contents for ControlKey {
    const EXPECTED: &'static str = "a static key of OpenVPN";
    const MEND: &'static str =
        "write the servers' `tls-crypt` key into it, as `openvpn --genkey tls-crypt` made it";

    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (_, rest) = text.split_once("-----BEGIN OpenVPN Static key V1-----")?;
        let (body, _) = rest.split_once("-----END OpenVPN Static key V1-----")?;
        let digits: String = body.split_whitespace().collect();
        hexadecimal(&digits)?.try_into().ok().map(Self)
    }
}

/// Certificates of who signs those of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities(pub Vec<CertificateDer<'static>>);

impl Contents for Authorities {
    const EXPECTED: &'static str = "a certificate in PEM";
    const MEND: &'static str =
        "write the certificate of who signs the servers' into it: `-----BEGIN CERTIFICATE-----` …";
    const IS_SECRET: bool = false;

    fn read(bytes: &[u8]) -> Option<Self> {
        let all = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>().ok()?;
        let mut roots = rustls::RootCertStore::empty();
        let usable = all.iter().all(|certificate| roots.add(certificate.clone()).is_ok());
        (usable && !all.is_empty()).then_some(Self(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_their_programs_write_them() {
        let text = b"yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n";
        assert_eq!(WireGuardKey::read(text).unwrap().0[..2], [0xc8, 0x09]);
        for wrong in [&b""[..], b"yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBm", &text[..20], b"\xff"]
        {
            assert_eq!(WireGuardKey::read(wrong), None);
        }
        let line = "0123456789abcdef0123456789abcdef\n";
        let key = |lines| {
            format!(
                "#\n# 2048 bit OpenVPN static key\n#\n-----BEGIN OpenVPN Static key V1-----\n{}-----END OpenVPN Static key V1-----\n",
                line.repeat(lines)
            )
        };
        assert_eq!(ControlKey::read(key(16).as_bytes()).unwrap().0[254..], [0xcd, 0xef]);
        for wrong in [key(15), key(17), line.repeat(16)] {
            assert_eq!(ControlKey::read(wrong.as_bytes()), None);
        }
        assert_eq!(Authorities::read(b""), None);
        assert_eq!(
            Authorities::read(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            None
        );
        // Nothing secret is in what is printed for debugging.
        assert_eq!(format!("{:?}", WireGuardKey([7; 32])), "WireGuardKey(…)");
    }
}

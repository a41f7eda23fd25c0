//! WireGuard keys, in the hexadecimal form of its control socket.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x25519_dalek::{PublicKey, StaticSecret};

/// A private key.
#[derive(Clone)]
pub struct Secret(StaticSecret);

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Public([u8; 32]);

impl Secret {
    /// A new random key.
    pub fn generate() -> Self {
        Self(StaticSecret::random())
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> Public {
        Public(PublicKey::from(&self.0).to_bytes())
    }

    pub(super) fn hex(&self) -> String {
        hex(self.0.as_bytes())
    }

    /// As `wg genkey` prints it.
    pub fn base64(&self) -> String {
        STANDARD.encode(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(of {:?})", self.public())
    }
}

impl Public {
    /// 64 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// As `wg` prints it.
    pub fn base64(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Public({}…)", &self.hex()[..8])
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

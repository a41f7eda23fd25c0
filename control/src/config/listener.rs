//! A service's listener: `203.0.113.10:51820/udp`, `[2001:db8::10]:51820/udp`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A transport protocol a listener can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl Protocol {
    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// An address, port and protocol that clients send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listener {
    /// The service's address (VIP).
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl Listener {
    /// The family of the address.
    pub const fn family(&self) -> Family {
        Family::of(self.address)
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.address, self.port), self.protocol)
    }
}

impl Serialize for Listener {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a text is no listener.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenerError {
    /// There is no `/protocol`.
    #[error("the protocol is missing")]
    NoProtocol,
    /// The protocol exists, but no profile of this version carries it.
    #[error("protocol `{0}` is not yet supported in this version")]
    NotYet(String),
    /// The protocol is not one.
    #[error("`{0}` is not a protocol")]
    UnknownProtocol(String),
    /// What stands before the `/` is not an address with a port.
    #[error("`{0}` is not an address with a port")]
    NoAddress(String),
}

impl FromStr for Listener {
    type Err = ListenerError;

    fn from_str(text: &str) -> Result<Self, ListenerError> {
        let (address, protocol) = text.rsplit_once('/').ok_or(ListenerError::NoProtocol)?;
        let protocol = match protocol {
            "udp" => Protocol::Udp,
            "tcp" => Protocol::Tcp,
            "esp" => return Err(ListenerError::NotYet(protocol.to_owned())),
            _ => return Err(ListenerError::UnknownProtocol(protocol.to_owned())),
        };
        let socket: SocketAddr =
            address.parse().map_err(|_| ListenerError::NoAddress(address.to_owned()))?;
        Ok(Self { address: socket.ip(), port: socket.port(), protocol })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_both_families() {
        for text in ["203.0.113.10:51820/udp", "[2001:db8::10]:51820/udp", "203.0.113.10:443/tcp"] {
            let listener: Listener = text.parse().expect("valid");
            assert_eq!(listener.to_string(), text);
        }
    }

    #[test]
    fn refuses_by_name() {
        let refuse = |text: &str| text.parse::<Listener>().expect_err("refused");
        assert_eq!(refuse("203.0.113.10:51820"), ListenerError::NoProtocol);
        assert_eq!(refuse("203.0.113.10:0/esp"), ListenerError::NotYet("esp".into()));
        assert_eq!(refuse("203.0.113.10:443/sctp"), ListenerError::UnknownProtocol("sctp".into()));
        assert_eq!(refuse("203.0.113.10/udp"), ListenerError::NoAddress("203.0.113.10".into()));
        assert_eq!(refuse("2001:db8::1/udp"), ListenerError::NoAddress("2001:db8::1".into()));
    }
}

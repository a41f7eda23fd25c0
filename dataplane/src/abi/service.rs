//! What a service is to the kernel program.

/// What the gateway does with a protocol; `Directory::profile`, `Endpoint::profile`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Profile {
    /// The flow alone.
    Udp = 1,
    /// WireGuard: sessions known by receiver index.
    WireGuard = 2,
    /// OpenVPN: sessions known by peer-id.
    OpenVpn = 3,
    /// TCP connections.
    Tcp = 4,
    /// IKEv2 alone, without a marker (port 500).
    Ike = 5,
    /// ESP in UDP, and IKEv2 behind a marker (port 4500).
    Ipsec = 6,
    /// QUIC: sessions known by the server's connection id.
    Quic = 7,
    /// DTLS: sessions known by the server's connection id, if it chose one.
    Dtls = 8,
}

impl Profile {
    /// All.
    pub const ALL: [Self; 8] = [
        Self::Udp,
        Self::WireGuard,
        Self::OpenVpn,
        Self::Tcp,
        Self::Ike,
        Self::Ipsec,
        Self::Quic,
        Self::Dtls,
    ];
}

/// Set in [`Directory::service`](super::Directory::service) and in flows if the protocol is TCP: a service may have listeners of both, and
/// a client the same port in both.
pub const SERVICE_TCP: u16 = 1 << 15;

/// The index in a service with its [`SERVICE_TCP`].
#[inline(always)]
pub const fn service_index(service: u16) -> u16 {
    service & !SERVICE_TCP
}

/// How packets reach a backend; `Endpoint::encapsulation`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encapsulation {
    /// They are translated, and so are the answers, which come back through the gateway.
    Nat = 0,
    /// As they are, to the backend's link layer address.
    None = 1,
    /// Inside another IP packet (RFC 2003, RFC 2473, RFC 4213).
    IpIp = 2,
    /// Inside a datagram, with no header between: Generic UDP Encapsulation, variant 1 (draft-ietf-intarea-gue, 4).
    Gue = 3,
}

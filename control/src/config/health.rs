//! `health` of a pool: how its backends are found to be up or down.

use std::fmt;
use std::str::FromStr;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::probe_files::{Authorities, ControlKey, FileOf, WireGuardKey};
use super::{Backend, Config, Pool, Protocol, Timing};

/// How the backends of a pool are found to be up or down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not at all: they count as up.
    None,
    /// By probes.
    Probed(Box<Probing>),
}

impl Health {
    /// What is known of the probes; `None` if there are none.
    pub const fn probing(&self) -> Option<&Probing> {
        match self {
            Self::None => None,
            Self::Probed(probing) => Some(probing),
        }
    }
}

impl Serialize for Health {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => {
                let mut map = to.serialize_map(Some(1))?;
                map.serialize_entry("probe", "none")?;
                map.end()
            }
            Self::Probed(probing) => probing.serialize(to),
        }
    }
}

/// Which probes, how often, and how far they are believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probing {
    /// What is asked.
    #[serde(flatten)]
    pub probe: Probe,
    /// How often, how patiently.
    #[serde(flatten)]
    pub timing: Timing,
    /// How much of the pool they may take down at once.
    pub max_down: Share,
}

/// What is asked of a backend, and what counts as an answer. Without a port it is the service's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "probe", rename_all = "lowercase")]
pub enum Probe {
    /// An echo request, and its reply.
    Icmp,
    /// A connection.
    Tcp(Port),
    /// A datagram, and another one.
    Udp(Udp),
    /// A handshake of WireGuard.
    WireGuard(WireGuard),
    /// The beginning of a session of OpenVPN over UDP.
    OpenVpn(OpenVpn),
    /// The beginning of an exchange of IKEv2.
    Ike(Port),
    /// A handshake of TLS.
    Tls(Tls),
    /// A request of HTTP.
    Http(Http),
    /// The same over TLS.
    Https(Https),
}

/// A port, or the service's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Port {
    /// The port; the service's if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// `probe = "udp"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Udp {
    /// Where.
    #[serde(flatten)]
    pub to: Port,
    /// What is sent.
    pub send: Payload,
    /// What the answer begins with; anything if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Payload>,
}

/// `probe = "wireguard"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WireGuard {
    /// Where.
    #[serde(flatten)]
    pub to: Port,
    /// The servers' key.
    pub public_key: PublicKey,
    /// The probe's own, which is a peer of the servers'.
    pub private_key_file: FileOf<WireGuardKey>,
    /// What the servers have in common with this peer beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preshared_key_file: Option<FileOf<WireGuardKey>>,
}

/// `probe = "openvpn"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenVpn {
    /// Where.
    #[serde(flatten)]
    pub to: Port,
    /// The key of servers with `tls-crypt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_crypt_file: Option<FileOf<ControlKey>>,
}

/// `probe = "tls"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// Where.
    #[serde(flatten)]
    pub to: Port,
    /// Whom to believe.
    #[serde(flatten)]
    pub trust: Trust,
}

/// What is asked for in a handshake of TLS, and who is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Trust {
    /// The server's name; its address if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Who must have signed its certificate; nobody if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<FileOf<Authorities>>,
}

/// `probe = "http"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Http {
    /// Where.
    #[serde(flatten)]
    pub to: Port,
    /// What is asked for.
    pub path: String,
    /// Of which host; the address if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What the answer's status may be.
    pub status: StatusRange,
}

/// `probe = "https"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Https {
    /// The request.
    #[serde(flatten)]
    pub http: Http,
    /// Whom to believe.
    #[serde(flatten)]
    pub trust: Trust,
}

impl Probe {
    /// Its name in the configuration.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp(_) => "tcp",
            Self::Udp(_) => "udp",
            Self::WireGuard(_) => "wireguard",
            Self::OpenVpn(_) => "openvpn",
            Self::Ike(_) => "ike",
            Self::Tls(_) => "tls",
            Self::Http(_) => "http",
            Self::Https(_) => "https",
        }
    }

    /// Whether an answer shows that the service itself is there, and not only its machine or something beside it.
    pub const fn is_of_service(&self) -> bool {
        match self {
            Self::Icmp | Self::Tcp(_) | Self::Http(_) | Self::Https(_) => false,
            Self::Udp(_) | Self::WireGuard(_) | Self::OpenVpn(_) | Self::Ike(_) | Self::Tls(_) => {
                true
            }
        }
    }

    /// The port that is configured for it.
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Icmp => None,
            Self::Tcp(to) | Self::Ike(to) => to.port,
            Self::Udp(Udp { to, .. })
            | Self::WireGuard(WireGuard { to, .. })
            | Self::OpenVpn(OpenVpn { to, .. })
            | Self::Tls(Tls { to, .. })
            | Self::Http(Http { to, .. })
            | Self::Https(Https { http: Http { to, .. }, .. }) => to.port,
        }
    }

    /// What it is carried by, if by something with ports.
    pub const fn protocol(&self) -> Option<Protocol> {
        match self {
            Self::Icmp => None,
            Self::Udp(_) | Self::WireGuard(_) | Self::OpenVpn(_) | Self::Ike(_) => {
                Some(Protocol::Udp)
            }
            Self::Tcp(_) | Self::Tls(_) | Self::Http(_) | Self::Https(_) => Some(Protocol::Tcp),
        }
    }
}

/// The one port of a service, of those that its listeners have: of IKE's two the first, which the other begins at.
pub(super) fn service_port(ports: impl IntoIterator<Item = u16>, is_ike: bool) -> Option<u16> {
    let mut ports: Vec<u16> = ports.into_iter().collect();
    ports.sort_unstable();
    ports.dedup();
    match ports[..] {
        [port] => Some(port),
        [port, _] if is_ike && port == super::types::IKE_PORT => Some(port),
        _ => None,
    }
}

impl Config {
    /// Where a backend is probed: the probe's port, else its own, else its service's. `None` for probes without ports.
    pub fn probe_port(&self, pool: &Pool, backend: &Backend) -> Option<u16> {
        let probe = &pool.health.probing()?.probe;
        let protocol = probe.protocol()?;
        let own = probe.port().or(backend.port);
        own.or_else(|| {
            let services = self.services.iter().filter(|service| service.pool == pool.name);
            let listeners = services.flat_map(|service| &service.listen);
            let ports = listeners.filter(|l| l.protocol == protocol).map(|l| l.port);
            service_port(ports, matches!(probe, Probe::Ike(_)))
        })
    }
}

/// A share of a pool, in per cent. Written with the sign: `75%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u8);

impl Share {
    /// So many per cent, of up to a hundred.
    pub const fn percent(percent: u8) -> Option<Self> {
        if percent <= 100 { Some(Self(percent)) } else { None }
    }

    /// How many of so many it lets go: none at zero, all at a hundred; else at least one, as long as another one is left.
    pub fn of(self, all: usize) -> usize {
        match self.0 {
            0 => 0,
            100.. => all,
            percent => (all * usize::from(percent) / 100).max(1).min(all.saturating_sub(1)),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl FromStr for Share {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let percent = text.strip_suffix('%').ok_or(())?.trim_end();
        percent.parse().ok().and_then(Self::percent).ok_or(())
    }
}

/// Bytes of a datagram. Written as text, or in hexadecimal digits after `0x`.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    bytes: Vec<u8>,
    /// As it was written.
    text: String,
}

impl Payload {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

/// Most that is sent: what every path carries in one packet (RFC 8200, 5, less headers).
const LONGEST: usize = 1232;

/// Why a text is no payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// `0x` and something else than pairs of digits.
    #[error("after `0x` there are other characters than pairs of hexadecimal digits")]
    NotHexadecimal,
    /// Nothing, or more than a packet carries.
    #[error("it has {0} bytes, not 1 to {LONGEST}")]
    Length(usize),
}

impl FromStr for Payload {
    type Err = PayloadError;

    fn from_str(text: &str) -> Result<Self, PayloadError> {
        let bytes = match text.strip_prefix("0x") {
            None => text.as_bytes().to_vec(),
            Some(digits) => hexadecimal(digits).ok_or(PayloadError::NotHexadecimal)?,
        };
        if !(1..=LONGEST).contains(&bytes.len()) {
            return Err(PayloadError::Length(bytes.len()));
        }
        Ok(Self { bytes, text: text.to_owned() })
    }
}

/// Bytes from pairs of digits.
pub(super) fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok().filter(|text| !text.starts_with('+'))?;
        u8::from_str_radix(text, 16).ok()
    };
    let digits = digits.as_bytes();
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(pair).collect())?
}

/// What a status of HTTP may be. Written as one, or as the first and the last: `200-299`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

impl StatusRange {
    /// That all is well.
    pub const GOOD: Self = Self { first: 200, last: 299 };

    /// From one to another, if a status can be so.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (100 <= first && first <= last && last <= 599).then_some(Self { first, last })
    }

    /// Whether a status is one of them.
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl FromStr for StatusRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.trim().parse().map_err(drop);
        Self::new(number(first)?, number(last)?).ok_or(())
    }
}

/// A public key of WireGuard, as `wg` prints it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use base64::Engine as _;
        f.write_str(&base64::engine::general_purpose::STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl FromStr for PublicKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        super::probe_files::key_of(text.as_bytes()).map(Self).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_lets_at_least_one_go_and_never_the_last() {
        let default = Share::percent(75).unwrap();
        let of = |n| default.of(n);
        assert_eq!([1, 2, 3, 4, 5, 10, 100].map(of), [0, 1, 2, 3, 3, 7, 75]);
        assert_eq!([1, 2, 3, 10].map(|n| Share::percent(1).unwrap().of(n)), [0, 1, 1, 1]);
        assert_eq!([1, 2, 10].map(|n| Share::percent(99).unwrap().of(n)), [0, 1, 9]);
        assert_eq!((Share(0).of(10), Share(100).of(10), Share(100).of(1)), (0, 10, 1));
        assert_eq!("75%".parse(), Ok(default));
        for text in ["75", "101%", "-1%", "%", "7.5%", "x%"] {
            assert_eq!(text.parse::<Share>(), Err(()), "{text}");
        }
    }

    #[test]
    fn payloads_are_text_or_digits() {
        let bytes = |text: &str| text.parse::<Payload>().map(|payload| payload.bytes);
        assert_eq!(bytes("ping\n"), Ok(b"ping\n".to_vec()));
        assert_eq!(bytes("0x00ffA0"), Ok(vec![0, 255, 160]));
        for text in ["0x0", "0xzz", "0x+1", "0x00 1"] {
            assert_eq!(bytes(text), Err(PayloadError::NotHexadecimal), "{text}");
        }
        assert_eq!(bytes(""), Err(PayloadError::Length(0)));
        assert_eq!(bytes(&"a".repeat(1233)), Err(PayloadError::Length(1233)));
    }

    #[test]
    fn statuses_are_one_or_a_range() {
        let range = |text: &str| text.parse::<StatusRange>();
        assert_eq!(range("200-299"), Ok(StatusRange::GOOD));
        assert_eq!(range("204").unwrap().to_string(), "204");
        assert!(range("200 - 399").unwrap().contains(301));
        for text in ["", "-", "99", "600", "299-200", "2xx", "200-"] {
            assert_eq!(range(text), Err(()), "{text}");
        }
    }

    #[test]
    fn a_service_has_one_port_and_ikes_first_is_its() {
        assert_eq!(service_port([51820, 51820], false), Some(51820));
        assert_eq!(service_port([1194, 443], false), None);
        assert_eq!(service_port([4500, 500], true), Some(500));
        assert_eq!(service_port([4500], true), Some(4500));
        assert_eq!(service_port([4500, 4501], true), None);
    }
}

//! How single values are read: from a TOML value to a type, or a complaint.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::suggest::{did_you_mean, one_of};
use super::{
    Affinity, Encapsulation, Listener, ListenerError, Mode, Payload, PayloadError, Profile,
    PublicKey, ServerId, ServerIdError, Share, StatusRange, Sysctl, XdpMode,
};

/// Why a value cannot be read.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    /// What is wrong; `None`: it is of the wrong type.
    pub(super) message: Option<String>,
    /// How to mend it.
    pub(super) help: Option<String>,
}

impl Complaint {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: Some(message.into()), help: Some(help.into()) }
    }

    fn wrong_type(help: impl Into<String>) -> Self {
        Self { message: None, help: Some(help.into()) }
    }
}

/// A type that can stand in the configuration.
pub(super) trait FromValue: Sized {
    /// What is expected, with its article.
    const EXPECTED: &'static str;

    /// Reads it.
    fn from_value(value: &DeValue<'_>) -> Result<Self, Complaint>;
}

impl FromValue for String {
    const EXPECTED: &'static str = "a string";

    fn from_value(value: &DeValue<'_>) -> Result<Self, Complaint> {
        match value {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                Err(Complaint::wrong_type("put it in quotes"))
            }
            _ => Err(Complaint::default()),
        }
    }
}

impl FromValue for bool {
    const EXPECTED: &'static str = "`true` or `false`";

    fn from_value(value: &DeValue<'_>) -> Result<Self, Complaint> {
        match value {
            DeValue::Boolean(value) => Ok(*value),
            DeValue::String(text) if text == "true" || text == "false" => {
                Err(Complaint::wrong_type("leave the quotes out"))
            }
            _ => Err(Complaint::default()),
        }
    }
}

impl FromValue for u64 {
    const EXPECTED: &'static str = "a whole number";

    fn from_value(value: &DeValue<'_>) -> Result<Self, Complaint> {
        match value {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| {
                    Complaint::new(
                        format!("{number} is not a number that can be used here"),
                        "it must be zero or more, and less than 2^64",
                    )
                }),
            DeValue::String(text) if text.parse::<u64>().is_ok() => {
                Err(Complaint::wrong_type("leave the quotes out"))
            }
            _ => Err(Complaint::default()),
        }
    }
}

/// A value that is written as a string; `parse` says what is wrong with it.
macro_rules! from_text {
    ($type:ty, $expected:literal, $parse:expr) => {
        impl FromValue for $type {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: &DeValue<'_>) -> Result<Self, Complaint> {
                let parse: fn(&str) -> Result<Self, Complaint> = $parse;
                match value {
                    DeValue::String(text) => parse(text),
                    _ => Err(Complaint::wrong_type(concat!("write ", $expected))),
                }
            }
        }
    };
}

from_text!(Duration, "a duration in quotes, such as \"5m\"", |text| {
    humantime::parse_duration(text).map_err(|error| {
        let help = match text.trim().parse::<u64>() {
            Ok(number) => format!("add the unit: \"{number}s\" or \"{number}ms\""),
            Err(_) => "write a number and its unit: \"500ms\", \"30s\", \"5m\", \"1h\"".to_owned(),
        };
        Complaint::new(format!("`{text}` is not a duration: {error}"), help)
    })
});

from_text!(IpAddr, "an address in quotes, such as \"10.20.0.11\"", |text| {
    text.parse().map_err(|_| {
        let help = if text.contains('/') {
            "write one address without a prefix length"
        } else if text.parse::<SocketAddr>().is_ok() {
            "write the address alone; the port has a key of its own"
        } else {
            "write an IPv4 or IPv6 address; names are not looked up"
        };
        Complaint::new(format!("`{text}` is not an address"), help)
    })
});

from_text!(Ipv4Addr, "an IPv4 address in quotes, such as \"10.20.0.1\"", |text| {
    text.parse().map_err(|_| {
        let help = if text.parse::<IpAddr>().is_ok() {
            "an IPv6 address belongs into the key with the `6`"
        } else {
            "write four numbers with dots between"
        };
        Complaint::new(format!("`{text}` is not an IPv4 address"), help)
    })
});

from_text!(Ipv6Addr, "an IPv6 address in quotes, such as \"2001:db8::11\"", |text| {
    text.parse().map_err(|_| {
        let help = if text.parse::<IpAddr>().is_ok() {
            "an IPv4 address belongs into the key without the `6`"
        } else {
            "write an IPv6 address without brackets"
        };
        Complaint::new(format!("`{text}` is not an IPv6 address"), help)
    })
});

from_text!(SocketAddr, "an address and port in quotes, such as \"127.0.0.1:9477\"", |text| {
    text.parse().map_err(|_| {
        Complaint::new(
            format!("`{text}` is not an address with a port"),
            "write it as \"127.0.0.1:9477\" or \"[::1]:9477\"",
        )
    })
});

from_text!(PathBuf, "an absolute path in quotes", |text| {
    let path = PathBuf::from(text);
    if path.is_absolute() && !text.contains('\0') {
        Ok(path)
    } else {
        Err(Complaint::new(format!("`{text}` is not an absolute path"), "begin it with `/`"))
    }
});

from_text!(Listener, "an address, port and protocol, such as \"203.0.113.10:51820/udp\"", |text| {
    text.parse().map_err(|error: ListenerError| {
        let help = match &error {
            ListenerError::NoProtocol => format!("write `{text}/udp` or `{text}/tcp`"),
            ListenerError::NotYet(_) => "listeners are `/udp` or `/tcp` so far".to_owned(),
            ListenerError::UnknownProtocol(_) => "write `/udp` or `/tcp`".to_owned(),
            ListenerError::NoAddress(address) if address.parse::<IpAddr>().is_ok() => {
                "add the port: \"203.0.113.10:51820/udp\" or \"[2001:db8::10]:51820/udp\""
                    .to_owned()
            }
            ListenerError::NoAddress(_) => {
                "write \"203.0.113.10:51820/udp\" or \"[2001:db8::10]:51820/udp\"".to_owned()
            }
        };
        Complaint::new(format!("`{text}` is not a listener: {error}"), help)
    })
});

from_text!(ServerId, "a server's id in quotes, in hexadecimal digits, such as \"0a01\"", |text| {
    text.parse().map_err(|error: ServerIdError| {
        let help = match error {
            ServerIdError::NotHexadecimal if text.starts_with("0x") => "leave `0x` out",
            _ => "write two hexadecimal digits for each byte: \"0a01\" has two bytes",
        };
        Complaint::new(format!("`{text}` is not a server's id: {error}"), help)
    })
});

/// One word out of a few; those that are planned are refused by name.
fn word<T: Copy>(what: &str, text: &str, known: &[(&str, T)]) -> Result<T, Complaint> {
    if let Some((_, value)) = known.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
    let help = did_you_mean(text, words.iter().copied())
        .unwrap_or_else(|| format!("write {}", one_of(&words)));
    Err(Complaint::new(format!("there is no {what} `{text}`"), help))
}

from_text!(XdpMode, "\"native\" or \"generic\"", |text| {
    word("xdp_mode", text, &[("native", XdpMode::Native), ("generic", XdpMode::Generic)])
});

from_text!(Sysctl, "\"check\" or \"set\"", |text| {
    word("sysctl policy", text, &[("check", Sysctl::Check), ("set", Sysctl::Set)])
});

from_text!(Affinity, "\"source\" or \"flow\"", |text| {
    word("affinity", text, &[("source", Affinity::Source), ("flow", Affinity::Flow)])
});

from_text!(Mode, "\"nat\", \"tunnel\" or \"dsr\"", |text| {
    word("mode", text, &[("nat", Mode::Nat), ("tunnel", Mode::Tunnel), ("dsr", Mode::Dsr)])
});

from_text!(Encapsulation, "\"ipip\" or \"gue\"", |text| {
    let known = [("ipip", Encapsulation::IpIp), ("gue", Encapsulation::Gue)];
    word("encapsulation", text, &known)
});

from_text!(
    Profile,
    "\"wireguard\", \"openvpn\", \"ipsec\", \"quic\", \"dtls\", \"udp\" or \"tcp\"",
    |text| {
        word(
            "profile",
            text,
            &[
                ("wireguard", Profile::WireGuard),
                ("openvpn", Profile::OpenVpn),
                ("ipsec", Profile::Ipsec),
                ("quic", Profile::Quic),
                ("dtls", Profile::Dtls),
                ("udp", Profile::Udp),
                ("tcp", Profile::Tcp),
            ],
        )
    }
);

/// The kinds of health probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeKind {
    Icmp,
    Tcp,
    Udp,
    WireGuard,
    OpenVpn,
    Ike,
    Tls,
    Http,
    Https,
    None,
}

impl ProbeKind {
    const ALL: [(&'static str, Self); 10] = [
        ("icmp", Self::Icmp),
        ("tcp", Self::Tcp),
        ("udp", Self::Udp),
        ("wireguard", Self::WireGuard),
        ("openvpn", Self::OpenVpn),
        ("ike", Self::Ike),
        ("tls", Self::Tls),
        ("http", Self::Http),
        ("https", Self::Https),
        ("none", Self::None),
    ];

    /// Its name in the configuration.
    pub(super) fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("?", |(name, _)| name)
    }
}

from_text!(ProbeKind, "a probe in quotes, such as \"icmp\"", |text| {
    word("probe", text, &ProbeKind::ALL)
});

from_text!(Share, "a share in per cent in quotes, such as \"75%\"", |text| {
    text.parse().map_err(|()| {
        let help = match text.parse::<u8>() {
            Ok(number) if number <= 100 => format!("add the sign: \"{number}%\""),
            _ => "write a whole number from 0 to 100 and the sign: \"75%\"".to_owned(),
        };
        Complaint::new(format!("`{text}` is not a share"), help)
    })
});

from_text!(Payload, "the bytes in quotes, as text or as \"0x0a0b\"", |text| {
    text.parse().map_err(|error: PayloadError| {
        let help = match error {
            PayloadError::NotHexadecimal => {
                "write two hexadecimal digits for each byte: \"0x0a0b\""
            }
            PayloadError::Length(_) => "write what is sent in one packet",
        };
        Complaint::new(format!("`{text}` cannot be the bytes of a datagram: {error}"), help)
    })
});

from_text!(PublicKey, "a key of WireGuard in quotes, as `wg show` prints it", |text| {
    text.parse().map_err(|()| {
        Complaint::new(
            format!("`{text}` is not a key of WireGuard"),
            "write the 44 characters that `wg show` prints, with the `=` at their end",
        )
    })
});

impl FromValue for StatusRange {
    const EXPECTED: &'static str = "a status or a range of them in quotes, such as \"200-299\"";

    fn from_value(value: &DeValue<'_>) -> Result<Self, Complaint> {
        let text = match value {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            _ => return Err(Complaint::default()),
        };
        text.parse().map_err(|()| {
            Complaint::new(
                format!("`{text}` is not a range of statuses"),
                "write the first and the last of them, from 100 to 599: \"200-299\"",
            )
        })
    }
}

//! Rules for single values: what a name may look like, which address can be used.

use std::net::IpAddr;

use dataplane::abi::MAX_NAME;
use toml::Spanned;

use super::finding::Findings;
use super::reader::Field;

/// Takes a name, or complains that it cannot be used in tables, listings and on command lines.
pub(super) fn name(field: Field<String>, out: &mut Findings) -> Field<String> {
    let field = field?;
    let (span, name) = (field.span(), field.get_ref());
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c));
    if name.is_empty() {
        out.error(span, "a name must not be empty")
            .help("it is what listings and metrics show: name = \"justiz\"");
    } else if name.len() > MAX_NAME {
        out.error(span, format!("the name is {} bytes long", name.len()))
            .help(format!("a name has at most {MAX_NAME} bytes"));
    } else if let Some(c) = name.chars().find(|&c| odd(c)) {
        out.error(span, format!("the name {name:?} contains {c:?}"))
            .help("use letters a to z, digits, `-`, `_` and `.`");
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        out.error(span, format!("the name `{name}` begins with `{}`", &name[..1]))
            .help("begin it with a letter or a digit");
    } else {
        return Some(field);
    }
    None
}

/// Complains of an interface name that the kernel would not take.
pub(super) fn interface(field: &Spanned<String>, out: &mut Findings) {
    /// IFNAMSIZ without the terminating zero.
    const LONGEST: usize = 15;
    let (span, name) = (field.span(), field.get_ref());
    if name.is_empty() {
        out.error(span, "an interface's name must not be empty");
    } else if name.len() > LONGEST {
        out.error(span, format!("`{name}` is too long for an interface's name"))
            .help(format!("the kernel allows {LONGEST} bytes"));
    } else if name == "."
        || name == ".."
        || name.contains(['/', ':', '\0'])
        || name.contains(char::is_whitespace)
    {
        out.error(span, format!("{name:?} cannot be an interface's name"));
    }
}

/// Why packets can neither be sent to nor come from an address, and the mend.
pub(super) fn unusable(address: IpAddr) -> Option<(&'static str, String)> {
    let say = |what, help: &str| Some((what, help.to_owned()));
    if address.is_unspecified() {
        return say("is the unspecified address", "write the address itself");
    }
    if address.is_multicast() {
        return say("is a multicast address", "write a unicast address");
    }
    if address.is_loopback() {
        return say(
            "is a loopback address, which no interface carries",
            "write an address that is reached through one of the interfaces",
        );
    }
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => {
            say("is the broadcast address", "write a unicast address")
        }
        IpAddr::V4(v4) if v4.octets()[0] == 0 => {
            say("is not a host's address (0.0.0.0/8)", "write a unicast address")
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Some(("is an IPv4 address in IPv6 form", format!("write it as \"{v4}\""))),
            None if v6.is_unicast_link_local() => say(
                "is link-local, and means another host on each interface",
                "write a global or unique local address",
            ),
            None => None,
        },
        IpAddr::V4(_) => None,
    }
}

/// Takes an address, or complains that it cannot be used.
pub(super) fn address(field: Field<IpAddr>, out: &mut Findings) -> Field<IpAddr> {
    let field = field?;
    let Some((what, help)) = unusable(*field.get_ref()) else { return Some(field) };
    out.error(field.span(), format!("{} {what}", field.get_ref())).help(help);
    None
}

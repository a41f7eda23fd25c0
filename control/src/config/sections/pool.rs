//! `[[pool]]` with its backends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use dataplane::abi::{POOL_STRIDE, REPORT_PORT};
use dataplane::profile::quic_lb as ids;
use toml::Spanned;

use super::health;
use super::rate::{EVENTS, rate};
use crate::config::draft::{DraftBackend, DraftPool, DraftTunnel};
use crate::config::finding::Findings;
use crate::config::reader::{Field, Section};
use crate::config::{Encapsulation, HIGHEST_WEIGHT, Mode, QuicLb, ServerId, rules};

/// Most sessions a backend can be limited to; the gateway's own limit is compared elsewhere.
const MOST_SESSIONS: u64 = u32::MAX as u64;

/// Reads one pool.
pub(super) fn pool(mut section: Section<'_, '_>, out: &mut Findings) -> DraftPool {
    let name = rules::name(section.required("name", out), out);
    // Of a mode that is wrong it is not known what belongs to it.
    let unread_mode = section.has("mode");
    let mode: Field<Mode> = section.optional("mode", out);
    let unread_mode = unread_mode && mode.is_none();
    let mode = mode.map_or(Mode::Nat, Spanned::into_inner);
    let tunnel = if unread_mode {
        section.known("tunnel");
        None
    } else {
        tunnel(&mut section, mode, out)
    };
    let agent = if mode.is_direct() || unread_mode {
        section.optional("agent", out).is_some_and(Spanned::into_inner)
    } else {
        section.pointless("agent", "mode = \"nat\"", out);
        false
    };
    let (idle_least, idle_most) = (Duration::from_secs(1), Duration::from_secs(7 * 86_400));
    let idle_timeout = duration(&mut section, "idle_timeout", idle_least..=idle_most, out)
        .unwrap_or(Duration::from_secs(300));
    // Of one that is wrong it is not known what belongs to it.
    let has_quic_lb = section.has("quic_lb");
    let quic_lb =
        section.table("quic_lb", "`quic_lb`", out).and_then(|section| quic_lb(section, out));
    let health = match section.table("health", "`health`", out) {
        Some(section) => {
            let span = section.span();
            health::health(section, out).map(|health| Spanned::new(span, health))
        }
        None => Some(Spanned::new(0..0, health::default())),
    };
    let handshakes = rate(&mut section, "handshakes", &EVENTS, out);
    let backends: Vec<_> = section
        .tables("backend", "[[pool.backend]]", out)
        .into_iter()
        .map(|section| {
            let named = match &quic_lb {
                None if has_quic_lb => Named::Unread,
                None => Named::No,
                Some(lb) => Named::By(lb.get_ref().server_id_length, lb.span()),
            };
            backend(section, &named, out)
        })
        .collect();
    if backends.is_empty() && !section.has("backend") {
        out.error(section.span(), "the pool has no backend")
            .help("add `[[pool.backend]]` with `name` and `address` below it")
            .absence();
    }
    if backends.len() > POOL_STRIDE as usize {
        let message = format!("the pool has {} backends", backends.len());
        out.error(section.span(), message)
            .help(format!("a pool has at most {POOL_STRIDE}; make two pools and two services"));
    }
    let span = section.span();
    section.finish(out);
    DraftPool {
        span,
        name,
        mode: (!unread_mode).then_some(mode),
        tunnel,
        agent,
        idle_timeout: Some(idle_timeout),
        quic_lb,
        health,
        handshakes,
        backends,
    }
}

/// The port that IANA gave to Generic UDP Encapsulation.
const GUE_PORT: u16 = 6080;

/// What packets are put into, where a pool's mode says that they are.
fn tunnel(section: &mut Section<'_, '_>, mode: Mode, out: &mut Findings) -> Option<DraftTunnel> {
    if mode != Mode::Tunnel {
        section.pointless("tunnel", &format!("mode = \"{}\"", mode.as_str()), out);
        return None;
    }
    if !section.has("tunnel") {
        section.missing(
            "tunnel",
            "say which of the gateway's addresses its tunnels come from: `tunnel = { source = \"10.20.0.1\" }`",
        );
    }
    let mut section = section.table("tunnel", "`tunnel`", out)?;
    let encapsulation: Field<Encapsulation> = section.optional("encapsulation", out);
    let encapsulation = encapsulation.map_or(Encapsulation::IpIp, Spanned::into_inner);
    let source: Field<Ipv4Addr> = section.optional("source", out);
    let source6: Field<Ipv6Addr> = section.optional("source6", out);
    let any = |field: Field<IpAddr>, out: &mut Findings| rules::address(field, out);
    let source = any(source.map(|f| Spanned::new(f.span(), f.into_inner().into())), out);
    let source6 = any(source6.map(|f| Spanned::new(f.span(), f.into_inner().into())), out);
    let port = if encapsulation == Encapsulation::Gue {
        let port = section.number("port", 1..=65_535, out);
        if let Some(port) = port.as_ref().filter(|port| *port.get_ref() == u64::from(REPORT_PORT)) {
            out.error(port.span(), format!("{REPORT_PORT} is the port that agents report to"))
                .help("choose another; usual is 6080");
        }
        Some(port.map_or(GUE_PORT, |port| *port.get_ref() as u16))
    } else {
        section.pointless("port", "encapsulation = \"ipip\"", out);
        None
    };
    let unread =
        source.is_none() && section.has("source") || source6.is_none() && section.has("source6");
    if !section.has("source") && !section.has("source6") {
        out.error(section.span(), "the tunnel has no address that it comes from")
            .help("write `source`, or `source6` for backends with IPv6 addresses: an address of the gateway's")
            .absence();
    }
    let span = section.span();
    section.finish(out);
    Some(DraftTunnel { span, encapsulation, source, source6, unread, port })
}

/// A duration within limits, if it is there and right.
pub(super) fn duration(
    section: &mut Section<'_, '_>,
    key: &'static str,
    range: RangeInclusive<Duration>,
    out: &mut Findings,
) -> Option<Duration> {
    let field: Spanned<Duration> = section.optional(key, out)?;
    if range.contains(field.get_ref()) {
        return Some(field.into_inner());
    }
    let show = humantime::format_duration;
    let message = format!("`{key}` must not be {}", show(*field.get_ref()));
    let help = format!("it goes from {} to {}", show(*range.start()), show(*range.end()));
    out.error(field.span(), message).help(help);
    None
}

/// How connection ids name the servers.
fn quic_lb(mut section: Section<'_, '_>, out: &mut Findings) -> Field<QuicLb> {
    if !section.has("config_id") {
        section.missing("config_id", "write the one that the servers have: `config_id = 0`");
    }
    if !section.has("server_id_length") {
        section.missing(
            "server_id_length",
            "write how many bytes name a server: `server_id_length = 2`",
        );
    }
    let config_id = section.number("config_id", 0..=u64::from(ids::LAST_CONFIG), out);
    let length = section.number("server_id_length", 1..=u64::from(ids::LONGEST), out);
    let span = section.span();
    section.finish(out);
    let quic_lb = QuicLb {
        config_id: *config_id?.get_ref() as u8,
        server_id_length: *length?.get_ref() as u8,
    };
    Some(Spanned::new(span, quic_lb))
}

/// Whether a pool's backends are named in connection ids.
enum Named {
    No,
    /// In so many bytes, as is said there.
    By(u8, Range<usize>),
    /// It is said wrongly.
    Unread,
}

/// What connection ids call a backend.
fn server_id(section: &mut Section<'_, '_>, named: &Named, out: &mut Findings) -> Field<ServerId> {
    if let Named::No = named
        && section.has("server_id")
    {
        section.pointless("server_id", "a pool without `quic_lb`", out);
        return None;
    }
    if let Named::By(..) = named
        && !section.has("server_id")
    {
        section.missing(
            "server_id",
            "the pool has `quic_lb`: write what its connection ids call it, as `server_id = \"0a01\"`",
        );
    }
    let id: Spanned<ServerId> = section.optional("server_id", out)?;
    if let Named::By(length, place) = named
        && id.get_ref().length != *length
    {
        let found = id.get_ref().length;
        let message = format!("`server_id` has {found} bytes, and the pool's have {length}");
        out.error(id.span(), message)
            .also(place.clone(), "the pool's")
            .help(format!("write {} hexadecimal digits, or change `server_id_length`", 2 * length));
        return None;
    }
    Some(id)
}

fn backend(mut section: Section<'_, '_>, named: &Named, out: &mut Findings) -> DraftBackend {
    let name = rules::name(section.required("name", out), out);
    let address = rules::address(section.required("address", out), out);
    let address6: Field<Ipv6Addr> = section.optional("address6", out);
    let address6 = address6.map(|field| Spanned::new(field.span(), IpAddr::V6(field.into_inner())));
    let address6 = rules::address(address6, out);
    if let (Some(address), Some(address6)) = (&address, &address6)
        && address.get_ref().is_ipv6()
    {
        out.error(address6.span(), "the backend has two IPv6 addresses")
            .also(address.span(), "the first")
            .help("leave `address6` out, or make `address` the IPv4 address");
    }
    let unread6 = address6.is_none() && section.has("address6");
    let port = section.number("port", 1..=65_535, out);
    let port = match port {
        Some(port) => Ok(Some(Spanned::new(port.span(), *port.get_ref() as u16))),
        None if section.has("port") => Err(()),
        None => Ok(None),
    };
    let weight: Field<u64> = section.optional("weight", out);
    if let Some(weight) = &weight
        && !(1..=u64::from(HIGHEST_WEIGHT)).contains(weight.get_ref())
    {
        out.error(weight.span(), format!("`weight` must not be {}", weight.get_ref())).help(
            if *weight.get_ref() == 0 {
                "to keep new sessions away, drain it: `fernpass backend drain NAME`".to_owned()
            } else {
                format!("it goes from 1 to {HIGHEST_WEIGHT}")
            },
        );
    }
    let max_sessions = section.number("max_sessions", 1..=MOST_SESSIONS, out);
    let server_id = server_id(&mut section, named, out);
    let handshakes = rate(&mut section, "handshakes", &EVENTS, out);
    let span = section.span();
    section.finish(out);
    DraftBackend {
        span,
        name,
        address,
        address6,
        unread6,
        port,
        weight: Some(weight.map_or(100, |weight| *weight.get_ref() as u32)),
        max_sessions,
        server_id,
        handshakes,
    }
}

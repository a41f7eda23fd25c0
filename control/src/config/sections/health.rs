//! `health` of a pool: a probe, what belongs to it, and how often.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boringtun::x25519;
use toml::Spanned;

use super::pool::duration;
use crate::config::finding::Findings;
use crate::config::probe_files::Contents;
use crate::config::reader::{Field, Section};
use crate::config::value::ProbeKind;
use crate::config::{
    FileOf, Health, Http, Https, OpenVpn, Payload, Port, Probe, Probing, PublicKey, Share,
    StatusRange, Timing, Tls, Trust, Udp, WireGuard,
};

/// Of probes of which nothing is said.
const TIMING: Timing = Timing {
    interval: Duration::from_secs(1),
    timeout: Duration::from_millis(500),
    rise: 2,
    fall: 3,
};
/// While a quarter of a pool answers, the way there is not what is broken.
const MAX_DOWN: Share = Share::percent(75).expect("up to a hundred");
/// Servers of WireGuard take one handshake of a peer in 20 ms, and a backend has two addresses.
const SHORTEST_WIREGUARD: Duration = Duration::from_millis(100);
const SHORTEST: Duration = Duration::from_millis(10);
/// Much more than a file of keys has.
const LARGEST: u64 = 1 << 20;

/// Keys beside `probe`, `interval` and the like, and the probes that they belong to.
const OF_PROBES: &[(&str, &[ProbeKind])] = {
    use ProbeKind as P;
    &[
        ("port", &[P::Tcp, P::Udp, P::WireGuard, P::OpenVpn, P::Ike, P::Tls, P::Http, P::Https]),
        ("send", &[P::Udp]),
        ("expect", &[P::Udp]),
        ("public_key", &[P::WireGuard]),
        ("private_key_file", &[P::WireGuard]),
        ("preshared_key_file", &[P::WireGuard]),
        ("tls_crypt_file", &[P::OpenVpn]),
        ("server_name", &[P::Tls, P::Https]),
        ("ca_file", &[P::Tls, P::Https]),
        ("path", &[P::Http, P::Https]),
        ("host", &[P::Http, P::Https]),
        ("status", &[P::Http, P::Https]),
    ]
};

/// As it is where nothing is said.
pub(super) fn default() -> Health {
    Health::Probed(Box::new(Probing { probe: Probe::Icmp, timing: TIMING, max_down: MAX_DOWN }))
}

/// Reads it.
pub(super) fn health(mut section: Section<'_, '_>, out: &mut Findings) -> Option<Health> {
    let kind: Field<ProbeKind> = section.required("probe", out);
    let kind = kind.map(Spanned::into_inner);
    for (key, of) in OF_PROBES {
        if let Some(kind) = kind.filter(|kind| !of.contains(kind)) {
            section.pointless(key, &format!("probe = \"{}\"", kind.as_str()), out);
        }
    }
    if kind.is_none() {
        every_key(&mut section, out);
    }
    let health = match kind {
        Some(ProbeKind::None) => {
            for key in ["interval", "timeout", "rise", "fall", "max_down"] {
                section.pointless(key, "probe = \"none\"", out);
            }
            Some(Health::None)
        }
        _ => {
            let timing = timing(&mut section, kind, out);
            let share: Field<Share> = section.optional("max_down", out);
            let max_down = share.map_or(MAX_DOWN, Spanned::into_inner);
            let probe = kind.and_then(|kind| probe(kind, &mut section, out));
            probe.map(|probe| Health::Probed(Box::new(Probing { probe, timing, max_down })))
        }
    };
    section.finish(out);
    health
}

/// Without a readable probe it is not known what belongs here; what cannot be read at all is told nevertheless.
fn every_key(section: &mut Section<'_, '_>, out: &mut Findings) {
    port(section, out);
    for key in ["send", "expect"] {
        section.optional::<Payload>(key, out);
    }
    section.optional::<PublicKey>("public_key", out);
    for key in ["private_key_file", "preshared_key_file", "tls_crypt_file"] {
        section.optional::<PathBuf>(key, out);
    }
    let _ = http(Port::default(), section, out);
    let _ = trust(section, out);
}

fn timing(section: &mut Section<'_, '_>, kind: Option<ProbeKind>, out: &mut Findings) -> Timing {
    let most = Duration::from_secs(3600);
    let shortest = if kind == Some(ProbeKind::WireGuard) { SHORTEST_WIREGUARD } else { SHORTEST };
    let interval = duration(section, "interval", shortest..=most, out);
    let timeout = duration(section, "timeout", SHORTEST..=most, out);
    let rise = section.number("rise", 1..=100, out);
    let fall = section.number("fall", 1..=100, out);
    let place = fall.as_ref().map_or_else(|| section.span(), Spanned::span);
    let count = |field: Field<u64>, default| field.map_or(default, |n| *n.get_ref() as u32);
    let interval = interval.unwrap_or(TIMING.interval);
    let timing = Timing {
        interval,
        timeout: timeout.unwrap_or(TIMING.timeout.min(interval)),
        rise: count(rise, TIMING.rise),
        fall: count(fall, TIMING.fall),
    };
    if timing.timeout > timing.interval {
        out.error(section.span(), "the probe's timeout is longer than its interval")
            .help("probes do not overlap: lower `timeout` or raise `interval`");
    } else if timing.patience() > timing.expected() {
        late(&timing, place, out);
    }
    timing
}

/// Who writes these numbers expects the dead to be found sooner.
fn late(timing: &Timing, place: Range<usize>, out: &mut Findings) {
    // People do not count microseconds.
    let text = |time: Duration| {
        humantime::format_duration(Duration::from_millis(time.as_millis() as u64)).to_string()
    };
    let enough = timing.prompt_timeout();
    let mend = match (enough >= SHORTEST, timing.fall) {
        (true, ..3) => format!(
            "lower `timeout` to {}, or raise `fall` to 3: from then on failed probes are repeated sooner",
            text(enough)
        ),
        (true, _) => format!("lower `timeout` to {}", text(enough)),
        (false, ..3) => {
            "raise `fall` to 3: from then on failed probes are repeated sooner".to_owned()
        }
        (false, _) => "raise `interval`, so that it is longer than `timeout`".to_owned(),
    };
    let (most, hoped) = (text(timing.patience()), text(timing.interval * timing.fall));
    let message = format!(
        "a dead backend may be found down after {most} only: `interval` × `fall` is {hoped}"
    );
    out.warn(place, message).help(mend);
}

fn probe(kind: ProbeKind, section: &mut Section<'_, '_>, out: &mut Findings) -> Option<Probe> {
    let to = if kind == ProbeKind::Icmp { Port::default() } else { port(section, out)? };
    Some(match kind {
        ProbeKind::None => return None,
        ProbeKind::Icmp => Probe::Icmp,
        ProbeKind::Tcp => Probe::Tcp(to),
        ProbeKind::Ike => Probe::Ike(to),
        ProbeKind::Udp => {
            if !section.has("send") {
                section.missing(
                    "send",
                    "write what the backends answer to: `send = \"ping\"`, or `send = \"0x0a0b\"`",
                );
            }
            let send = section.optional("send", out);
            let expect = section.optional("expect", out).map(Spanned::into_inner);
            Probe::Udp(Udp { to, send: send?.into_inner(), expect })
        }
        ProbeKind::WireGuard => Probe::WireGuard(wireguard(to, section, out)?),
        ProbeKind::OpenVpn => {
            Probe::OpenVpn(OpenVpn { to, tls_crypt_file: file(section, "tls_crypt_file", out) })
        }
        ProbeKind::Tls => Probe::Tls(Tls { to, trust: trust(section, out) }),
        ProbeKind::Http => Probe::Http(http(to, section, out)),
        ProbeKind::Https => {
            Probe::Https(Https { http: http(to, section, out), trust: trust(section, out) })
        }
    })
}

/// `None` if it is there and wrong.
fn port(section: &mut Section<'_, '_>, out: &mut Findings) -> Option<Port> {
    let port = section.number("port", 1..=65_535, out).map(|port| *port.get_ref() as u16);
    (port.is_some() || !section.has("port")).then_some(Port { port })
}

fn wireguard(to: Port, section: &mut Section<'_, '_>, out: &mut Findings) -> Option<WireGuard> {
    if !section.has("public_key") {
        section.missing("public_key", "write the servers' public key, as `wg show` prints it");
    }
    if !section.has("private_key_file") {
        section.missing(
            "private_key_file",
            "make the probe a peer of its own: write its private key, as `wg genkey` makes it, into a file, and the file's name here",
        );
    }
    let public_key: Field<PublicKey> = section.optional("public_key", out);
    let private_key_file = file(section, "private_key_file", out);
    let preshared_key_file = file(section, "preshared_key_file", out);
    let (public_key, private_key_file) = (public_key?, private_key_file?);
    let own = private_key_file.contents.as_ref().map(public_of);
    if own == Some(*public_key.get_ref()) {
        out.error(public_key.span(), "`public_key` is the probe's own key")
            .help("write the servers' public key, which `wg show` prints there");
    }
    let public_key = public_key.into_inner();
    Some(WireGuard { to, public_key, private_key_file, preshared_key_file })
}

fn public_of(key: &crate::config::WireGuardKey) -> PublicKey {
    PublicKey(x25519::PublicKey::from(&x25519::StaticSecret::from(key.0)).to_bytes())
}

fn trust(section: &mut Section<'_, '_>, out: &mut Findings) -> Trust {
    let name: Field<String> = section.optional("server_name", out);
    let server_name = name.and_then(|name| {
        if rustls::pki_types::ServerName::try_from(name.get_ref().as_str()).is_ok() {
            return Some(name.into_inner());
        }
        out.error(name.span(), format!("`{}` is no server's name", name.get_ref()))
            .help("write a name as it stands in certificates: `server_name = \"vpn.example.org\"`");
        None
    });
    Trust { server_name, ca_file: file(section, "ca_file", out) }
}

fn http(to: Port, section: &mut Section<'_, '_>, out: &mut Findings) -> Http {
    let path: Field<String> = section.optional("path", out);
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(path) = &path
        && !(path.get_ref().starts_with('/') && visible(path.get_ref()))
    {
        out.error(path.span(), format!("{:?} is no path", path.get_ref()))
            .help("begin it with `/`, and write everything but visible ASCII as `%20`");
    }
    let host: Field<String> = section.optional("host", out);
    if let Some(host) = &host
        && (host.get_ref().is_empty() || !visible(host.get_ref()))
    {
        out.error(host.span(), format!("{:?} is no host", host.get_ref()))
            .help("write what clients have in their `Host` header: `host = \"vpn.example.org\"`");
    }
    let status: Field<StatusRange> = section.optional("status", out);
    Http {
        to,
        path: path.map_or_else(|| "/".to_owned(), Spanned::into_inner),
        host: host.map(Spanned::into_inner),
        status: status.map_or(StatusRange::GOOD, Spanned::into_inner),
    }
}

/// A file that is named here: read, and complained of, where the configuration is to be used.
fn file<T: Contents>(
    section: &mut Section<'_, '_>,
    key: &'static str,
    out: &mut Findings,
) -> Option<FileOf<T>> {
    let field: Spanned<PathBuf> = section.optional(key, out)?;
    let (span, path) = (field.span(), field.into_inner());
    if !out.reads_files() {
        return Some(FileOf { path, contents: None });
    }
    let shown = path.display();
    let (bytes, mode) = match read(&path) {
        Ok(read) => read,
        Err(e) => {
            let help = match e.kind() {
                io::ErrorKind::PermissionDenied => {
                    "let the daemon's group read it: `chgrp fernpass FILE; chmod 640 FILE`"
                }
                _ => T::MEND,
            };
            out.error(span, format!("`{shown}` cannot be read: {e}")).help(help);
            return None;
        }
    };
    let Some(contents) = T::read(&bytes) else {
        out.error(span, format!("there is not {} in `{shown}`", T::EXPECTED)).help(T::MEND);
        return None;
    };
    if T::IS_SECRET && mode & 0o007 != 0 {
        out.warn(span, format!("everybody on this machine can get at `{shown}`"))
            .help("keep it for the daemon: `chgrp fernpass FILE; chmod 640 FILE`");
    }
    Some(FileOf { path, contents: Some(contents) })
}

/// What is in a file, and who may do what with it.
fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    // A pipe would be waited for.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok((bytes, mode))
}

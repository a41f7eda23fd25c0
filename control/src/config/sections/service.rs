//! `[[tenant]]` and `[[service]]`.

use toml::Spanned;

use super::rate::{BITS, EVENTS, PACKETS, rate};
use crate::config::draft::{DraftService, DraftTenant};
use crate::config::finding::Findings;
use crate::config::reader::{Field, Section};
use crate::config::types::MSS;
use crate::config::{Listener, TenantRates, rules};

/// Reads one tenant.
pub(super) fn tenant(mut section: Section<'_, '_>, out: &mut Findings) -> DraftTenant {
    let name = rules::name(section.required("name", out), out);
    if !section.has("max_sessions") {
        section.missing("max_sessions", "add the tenant's quota: `max_sessions = 1000`");
    }
    let max_sessions = section.number("max_sessions", 1..=u64::from(u32::MAX), out);
    let guaranteed = section.number("guaranteed_sessions", 0..=u64::from(u32::MAX), out);
    let rates = TenantRates {
        handshakes: rate(&mut section, "handshakes", &EVENTS, out),
        new_sessions: rate(&mut section, "new_sessions", &EVENTS, out),
        packets_in: rate(&mut section, "packets_in", &PACKETS, out),
        packets_out: rate(&mut section, "packets_out", &PACKETS, out),
        bits_in: rate(&mut section, "bits_in", &BITS, out),
        bits_out: rate(&mut section, "bits_out", &BITS, out),
    };
    let span = section.span();
    section.finish(out);
    DraftTenant { span, name, max_sessions, guaranteed, rates }
}

/// Reads one service.
pub(super) fn service(mut section: Section<'_, '_>, out: &mut Findings) -> DraftService {
    let name = rules::name(section.required("name", out), out);
    let tenant = section.required("tenant", out);
    let profile = section.required("profile", out).map(Spanned::into_inner);
    let affinity = section.optional("affinity", out);
    let tcp_mss = mss(section.optional("tcp_mss", out), out);
    let listen = listen(&mut section, out);
    let pool = section.required("pool", out);
    let span = section.span();
    section.finish(out);
    DraftService { span, name, tenant, profile, affinity, tcp_mss, listen, pool }
}

fn mss(field: Field<u64>, out: &mut Findings) -> Field<u64> {
    field.filter(|mss| {
        let is_good = MSS.contains(mss.get_ref());
        if !is_good {
            out.error(mss.span(), format!("`tcp_mss` must not be {}", mss.get_ref())).help(
                format!(
                    "write a number from {} to {}, in bytes: the MTU less 40, over IPv6 less 60",
                    MSS.start(),
                    MSS.end()
                ),
            );
        }
        is_good
    })
}

fn listen(section: &mut Section<'_, '_>, out: &mut Findings) -> Vec<Spanned<Listener>> {
    const HELP: &str = "say what clients dial: listen = [\"203.0.113.10:51820/udp\"]";
    if !section.has("listen") {
        section.missing("listen", HELP);
    }
    let Some(list) = section.list::<Listener>("listen", out) else { return Vec::new() };
    if !section.has_elements("listen") {
        out.error(list.span(), "a service needs at least one listener").help(HELP).absence();
    }
    for listener in list.get_ref() {
        let Listener { address, port, .. } = *listener.get_ref();
        if let Some((what, help)) = rules::unusable(address) {
            out.error(listener.span(), format!("{address} {what}")).help(help);
        }
        if port == 0 {
            out.error(listener.span(), "a listener's port must not be 0")
                .help("write the port that clients dial");
        }
    }
    list.into_inner()
}

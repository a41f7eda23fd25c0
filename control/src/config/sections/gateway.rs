//! `[gateway]`, `[api]` and `[limits]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use crate::config::finding::Findings;
use crate::config::reader::{Field, Section};
use crate::config::value::{Complaint, FromValue};
use crate::config::{Api, Budget, Gateway, Limits, Sysctl, XdpMode, rules};

/// Most sessions of one table: 2 GiB of slots.
const MOST_SESSIONS: u64 = 1 << 24;
/// Most packets a second that a budget can tell from no limit: its clock ticks in 2^10 ns.
const HIGHEST_RATE: u64 = 100_000;
/// Longest time a burst may be ahead, in seconds: half of what the budget's clock can tell.
const LONGEST_BURST: u64 = 1_000;

/// An optional value with its default. A wrong one was complained of, so that
/// the default does no harm.
fn or<T>(field: Field<T>, default: T) -> T {
    field.map_or(default, Spanned::into_inner)
}

/// `[gateway]`, and `max_sessions` with its place.
pub(super) fn gateway(
    mut section: Section<'_, '_>,
    out: &mut Findings,
) -> (Option<Gateway>, Field<u64>) {
    let interfaces = interfaces(&mut section, out);
    let xdp_mode = section.optional("xdp_mode", out);
    let max_sessions = section.number("max_sessions", 1..=MOST_SESSIONS, out);
    let bpffs = section.optional("bpffs", out);
    let state_dir = section.optional("state_dir", out);
    let sysctl = section.optional("sysctl", out);
    let manage_vips = section.optional("manage_vips", out);
    let table = max_sessions.clone().unwrap_or_else(|| Spanned::new(section.span(), 131_072));
    section.finish(out);
    let gateway = Gateway {
        interfaces,
        xdp_mode: or(xdp_mode, XdpMode::Native),
        max_sessions: *table.get_ref(),
        bpffs: or(bpffs, PathBuf::from("/sys/fs/bpf/fernpass")),
        state_dir: or(state_dir, PathBuf::from("/var/lib/fernpass")),
        sysctl: or(sysctl, Sysctl::Check),
        manage_vips: or(manage_vips, false),
    };
    (Some(gateway), Some(table))
}

fn interfaces(section: &mut Section<'_, '_>, out: &mut Findings) -> Vec<String> {
    const HELP: &str =
        "name the interfaces that packets come in by: interfaces = [\"wan0\", \"lan0\"]";
    if !section.has("interfaces") {
        section.missing("interfaces", HELP);
    }
    let Some(list) = section.list::<String>("interfaces", out) else { return Vec::new() };
    if !section.has_elements("interfaces") {
        out.error(list.span(), "there must be at least one interface").help(HELP).absence();
    }
    let mut seen = BTreeMap::new();
    for name in list.get_ref() {
        rules::interface(name, out);
        if let Some(first) = seen.insert(name.get_ref().as_str(), name.span()) {
            out.error(name.span(), format!("interface `{}` is named twice", name.get_ref()))
                .also(first, "first here")
                .help("leave one out");
        }
    }
    list.into_inner().into_iter().map(Spanned::into_inner).collect()
}

/// `[api]`.
pub(super) fn api(mut section: Section<'_, '_>, out: &mut Findings) -> Option<Api> {
    let socket = section.optional("socket", out);
    let metrics = section.optional("metrics", out);
    let web = section.optional("web", out);
    section.finish(out);
    if let (Some(metrics), Some(web)) = (&metrics, &web)
        && metrics.get_ref() == web.get_ref()
    {
        out.error(web.span(), "`web` and `metrics` are on the same address and port")
            .also(metrics.span(), "metrics")
            .help("give them different ports");
    }
    if let Some(web) = &web {
        out.warn(web.span(), "there is no dashboard in this version: nothing is served here")
            .help("leave `web` out until there is");
    }
    Some(Api {
        socket: or(socket, PathBuf::from("/run/fernpass/api.sock")),
        metrics: metrics.map(Spanned::into_inner),
        web: web.map(Spanned::into_inner),
    })
}

/// `"unlimited"`; anything else of this type is wrong.
struct Unlimited;

impl FromValue for Unlimited {
    const EXPECTED: &'static str = "`{ rate = 200, burst = 400 }` or \"unlimited\"";

    fn from_value(value: &DeValue<'_>) -> Result<Self, Complaint> {
        match value {
            DeValue::String(text) if text == "unlimited" => Ok(Self),
            _ => Err(Complaint::default()),
        }
    }
}

/// `[limits]`, and the limit of tentative sessions with its place.
pub(super) fn limits(
    mut section: Section<'_, '_>,
    out: &mut Findings,
) -> (Option<Limits>, Field<u64>) {
    const KEY: &str = "unestablished_per_source";
    let budget = if section.is_table(KEY) {
        section.table(KEY, KEY, out).and_then(|section| budget(section, out))
    } else if section.has(KEY) {
        section.optional::<Unlimited>(KEY, out);
        None
    } else {
        section.known(KEY);
        Some(Budget { rate: 200, burst: 400 })
    };
    let tentative = section.number("tentative_per_tenant", 1..=MOST_SESSIONS, out);
    section.finish(out);
    let limits = Limits {
        unestablished_per_source: budget,
        tentative_per_tenant: tentative.as_ref().map(|field| *field.get_ref()),
    };
    (Some(limits), tentative)
}

fn budget(mut section: Section<'_, '_>, out: &mut Findings) -> Option<Budget> {
    for key in ["rate", "burst"] {
        if !section.has(key) {
            section
                .missing(key, "write { rate = 200, burst = 400 }: packets a second, and at once");
        }
    }
    let rate = section.number("rate", 1..=HIGHEST_RATE, out);
    let burst = section.number("burst", 1..=HIGHEST_RATE * LONGEST_BURST, out);
    section.finish(out);
    let (rate, burst) = (rate?, burst?);
    if *burst.get_ref() > rate.get_ref() * LONGEST_BURST {
        out.error(burst.span(), format!("a burst of {} packets is too much", burst.get_ref()))
            .help(format!("at most {LONGEST_BURST} times the rate"));
    }
    Some(Budget { rate: *rate.get_ref() as u32, burst: *burst.get_ref() as u32 })
}

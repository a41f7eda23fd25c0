//! Answers for people.

use std::time::Duration;

use super::output::{Column, table};
use crate::daemon::view::{
    Backend, BackendState, Counter, Difference, Drift, NextHop, Pool, Reloaded, Route, Service,
    Session, SessionState, Status, Tenant, Verified,
};

const fn text(head: &'static str) -> Column {
    (head, false)
}

const fn number(head: &'static str) -> Column {
    (head, true)
}

pub(super) fn status(s: &Status) -> String {
    let interfaces: Vec<_> =
        s.interfaces.iter().map(|i| format!("{} ({})", i.name, i.mode)).collect();
    let mut out = format!(
        "fernpass {}  pid {}  up {}{}\n\
         config      {}\n\
         interfaces  {}\n\
         sessions    {} open, {} tentative, room for {}\n\
         packets     {} received: {} forwarded, {} to the host's stack, {} dropped{}\n\
         now         {} received/s, {} dropped/s\n",
        s.version,
        s.pid,
        duration(s.uptime),
        if s.adopted { ", adopted running tables" } else { "" },
        s.config,
        interfaces.join(", "),
        s.sessions,
        s.tentative,
        s.max_sessions,
        s.received,
        s.forwarded,
        s.passed,
        s.dropped,
        if s.taken == 0 { String::new() } else { format!(", {} reports of agents", s.taken) },
        s.rx_pps,
        s.drop_pps,
    );
    for warning in &s.warnings {
        out += &format!("warning: {warning}\n");
    }
    out
}

pub(super) fn tenants(rows: &[Tenant]) -> String {
    let columns = [
        text("TENANT"),
        number("SESSIONS"),
        number("QUOTA"),
        number("GUARANTEED"),
        number("TENTATIVE"),
        number("OPENED"),
        number("REFUSED"),
        number("LIMITED"),
        number("RX"),
        number("TX"),
    ];
    let row = |t: &Tenant| {
        vec![
            t.name.clone(),
            t.sessions.to_string(),
            t.max_sessions.to_string(),
            t.guaranteed_sessions.to_string(),
            t.tentative.to_string(),
            t.opened.to_string(),
            t.refused.to_string(),
            t.limited.total().to_string(),
            bytes(t.rx_bytes),
            bytes(t.tx_bytes),
        ]
    };
    table(&columns, rows.iter().map(row))
}

pub(super) fn services(rows: &[Service]) -> String {
    let columns = [
        text("SERVICE"),
        text("TENANT"),
        text("PROFILE"),
        text("POOL"),
        number("SESSIONS"),
        number("TENTATIVE"),
        text("LISTEN"),
    ];
    let row = |s: &Service| {
        vec![
            s.name.clone(),
            s.tenant.clone(),
            s.profile.clone(),
            s.pool.clone(),
            s.sessions.to_string(),
            s.tentative.to_string(),
            s.listen.join(" "),
        ]
    };
    table(&columns, rows.iter().map(row))
}

pub(super) fn pools(rows: &[Pool]) -> String {
    let columns = [
        text("POOL"),
        text("MODE"),
        number("BACKENDS"),
        number("ACCEPTING"),
        number("SESSIONS"),
        number("IDLE TIMEOUT"),
        text("SERVICES"),
    ];
    let row = |p: &Pool| {
        vec![
            p.name.clone(),
            p.mode.clone(),
            p.backends.to_string(),
            p.accepting.to_string(),
            p.sessions.to_string(),
            duration(p.idle_timeout as f64),
            p.services.join(" "),
        ]
    };
    table(&columns, rows.iter().map(row))
}

pub(super) fn backends(rows: &[Backend]) -> String {
    let columns = [
        text("BACKEND"),
        text("POOL"),
        text("STATE"),
        number("WEIGHT"),
        number("SESSIONS"),
        number("MAX"),
        text("ADDRESS"),
        text("NOTE"),
    ];
    let row = |b: &Backend| {
        let mut notes = Vec::new();
        if let Some(deadline) = &b.drain_deadline {
            notes.push(format!("until {deadline}"));
        }
        let rate = b.drain_rate.map(|rate| format!("{rate} fewer a minute"));
        let empty = b.drain_empty_at.as_ref().map(|at| format!("empty about {at}"));
        let drain: Vec<_> = rate.into_iter().chain(empty).collect();
        if !drain.is_empty() {
            notes.push(drain.join(", "));
        }
        if b.weight != b.configured_weight {
            notes.push(format!("configured weight {}", b.configured_weight));
        }
        if b.drained && b.state != BackendState::Draining {
            notes.push("drained".to_owned());
        }
        if b.silent && b.state != BackendState::Silent {
            notes.push("silent".to_owned());
        }
        if b.held && b.state != BackendState::Held {
            notes.push("held in service".to_owned());
        }
        notes.extend(b.last_error.clone());
        let addresses: Vec<_> = std::iter::once(b.address).chain(b.address6).collect();
        vec![
            b.name.clone(),
            b.pool.clone(),
            state(b.state).to_owned(),
            b.weight.to_string(),
            b.sessions.to_string(),
            b.max_sessions.map_or("-".to_owned(), |max| max.to_string()),
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            notes.join("; "),
        ]
    };
    table(&columns, rows.iter().map(row))
}

const fn state(state: BackendState) -> &'static str {
    match state {
        BackendState::Active => "active",
        BackendState::Draining => "draining",
        BackendState::Silent => "silent",
        BackendState::Held => "held",
        BackendState::Full => "full",
        BackendState::Impaired => "impaired",
        BackendState::Down => "down",
    }
}

const fn session_state(state: SessionState) -> &'static str {
    match state {
        SessionState::Tentative => "tentative",
        SessionState::Open => "open",
        SessionState::Aside => "aside",
    }
}

pub(super) fn sessions(rows: &[Session]) -> String {
    let columns = [
        text("ID"),
        text("CLIENT"),
        text("TENANT"),
        text("BACKEND"),
        text("STATE"),
        number("IDLE"),
        number("RX"),
        number("TX"),
        number("MOVES"),
    ];
    let row = |s: &Session| {
        vec![
            s.id.clone(),
            s.client.to_string(),
            s.tenant.clone(),
            s.backend.clone(),
            session_state(s.state).to_owned(),
            duration(s.idle),
            bytes(s.rx_bytes),
            bytes(s.tx_bytes),
            s.moves.to_string(),
        ]
    };
    table(&columns, rows.iter().map(row))
}

pub(super) fn session(s: &Session) -> String {
    format!(
        "session   {}  {}\n\
         client    {}, moved {} times\n\
         service   {} ({}) of {}\n\
         backend   {}/{}\n\
         opened    {}\n\
         last seen {}, {} ago\n\
         rx        {} packets, {}\n\
         tx        {} packets, {}\n",
        s.id,
        session_state(s.state),
        s.client,
        s.moves,
        s.service,
        s.profile,
        s.tenant,
        s.pool,
        s.backend,
        s.opened,
        s.last_seen,
        duration(s.idle),
        s.rx_packets,
        bytes(s.rx_bytes),
        s.tx_packets,
        bytes(s.tx_bytes),
    )
}

pub(super) fn routes(rows: &[Route]) -> String {
    let columns = [text("PREFIX"), text("VIA"), text("DEV"), text("BY")];
    let row = |r: &Route| {
        let by = if r.resolved { "xdp" } else { "stack" };
        vec![r.prefix.clone(), r.via.clone(), r.interface.clone(), by.to_owned()]
    };
    table(&columns, rows.iter().map(row))
}

pub(super) fn nexthops(rows: &[NextHop]) -> String {
    let columns = [
        text("NEIGHBOUR"),
        text("DEV"),
        text("MAC"),
        number("VLAN"),
        number("MTU"),
        number("BACKENDS"),
        text("BY"),
    ];
    let dash = || "-".to_owned();
    let row = |h: &NextHop| {
        vec![
            h.neighbour.to_string(),
            h.interface.clone(),
            h.mac.clone().unwrap_or_else(dash),
            h.vlan.map_or_else(dash, |vlan| vlan.to_string()),
            h.mtu.to_string(),
            h.backends.to_string(),
            if h.resolved { "xdp" } else { "stack" }.to_owned(),
        ]
    };
    table(&columns, rows.iter().map(row))
}

pub(super) fn counters(rows: &[Counter], all: bool) -> String {
    let columns = [number("PACKETS"), text("KIND"), text("REASON"), text("MEANING")];
    let row = |c: &Counter| {
        vec![c.packets.to_string(), c.kind.clone(), c.name.clone(), c.description.clone()]
    };
    table(&columns, rows.iter().filter(|c| all || c.packets > 0).map(row))
}

pub(super) fn reloaded(r: &Reloaded) -> String {
    let mut out = String::new();
    if r.changes.is_empty() {
        out += "nothing has changed\n";
    }
    for change in &r.changes {
        out += &format!("{change}\n");
    }
    for warning in &r.warnings {
        out += &format!("warning: {warning}\n");
    }
    if let Some(at) = &r.confirm_by {
        out += &format!("it is taken back at {at}, unless `fernpass confirm` comes before\n");
    }
    out
}

pub(super) fn verified(v: &Verified) -> String {
    if v.drift.is_empty() {
        return "the tables hold what was written to them\n".to_owned();
    }
    let columns = [text("TABLE"), number("MISSING"), number("FOREIGN"), number("DIFFERENT")];
    let row = |d: &Drift| {
        let counts = [d.missing, d.foreign, d.different].map(|count| count.to_string());
        std::iter::once(d.table.clone()).chain(counts).collect::<Vec<_>>()
    };
    let mut out = table(&columns, v.drift.iter().map(row));
    for drift in &v.drift {
        drift.entries.iter().for_each(|entry| out += &format!("{} {entry}\n", drift.table));
    }
    // Of interfaces each line says what became of it.
    if v.writes > 0 || v.drift.iter().any(|drift| drift.table != "interfaces") {
        out += &format!("mended: {} written\n", entries(v.writes));
    }
    out
}

pub(super) fn difference(d: &Difference) -> String {
    let mut out = String::new();
    for change in &d.changes {
        out += &format!("{change}\n");
    }
    if let Some(growth) = &d.growth {
        out += &format!("{growth}\n");
    }
    match (&d.restart[..], d.changes.is_empty()) {
        ([], true) => out += "the configuration in force is the file's\n",
        ([], false) => out += &format!("a reload would write {}\n", entries(d.writes)),
        (keys, _) => {
            out += &format!("a reload would be refused: {} needs a restart\n", keys.join(", "));
        }
    }
    out
}

fn entries(count: u64) -> String {
    if count == 1 { "1 table entry".to_owned() } else { format!("{count} table entries") }
}

/// Seconds as people say them: two units at most.
fn duration(seconds: f64) -> String {
    let whole = Duration::from_secs(seconds.max(0.0) as u64);
    if whole.is_zero() {
        return format!("{}ms", (seconds.max(0.0) * 1000.0) as u64);
    }
    let text = humantime::format_duration(whole).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Bytes with a binary unit.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(duration(0.25), "250ms");
        assert_eq!(duration(61.9), "1m 1s");
        assert_eq!(duration(90_061.0), "1day 1h");
    }

    #[test]
    fn tables_are_aligned_and_leave_out_what_never_happened() {
        let counter = |name: &str, packets| Counter {
            name: name.to_owned(),
            kind: "dropped".to_owned(),
            packets,
            description: "What.".to_owned(),
        };
        let rows = [counter("a", 12_345), counter("never", 0), counter("long_name", 7)];
        assert_eq!(
            counters(&rows, false),
            "PACKETS  KIND     REASON     MEANING\n\
             \x20 12345  dropped  a          What.\n\
             \x20     7  dropped  long_name  What.\n"
        );
        assert!(counters(&rows, true).contains("never"));
    }
}

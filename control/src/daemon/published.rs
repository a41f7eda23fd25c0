//! What the daemon last published of its state; every read is answered from it and
//! from the shared memory of the tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dataplane::abi::{self, ABI_VERSION, Tenant};
use dataplane::reason::Kind;

use super::direct;
use super::forecast::{Forecast, empty_at};
use super::handle::Refusal;
use super::held;
use super::links::LinkNames;
use super::time::time;
use super::view;
use crate::clock::Clock;
use crate::config::{BackendId, Config, Family, Pool, Profile, did_you_mean};
use crate::loader::{Count, Tables};
use crate::model::{
    AddressHealth, Drain, EndpointNames, HealthView, Held, Load, Overrides, ProbedView, Registry,
    RouteView, Status, Wanted,
};
use crate::sessions::{Memory, Reader, Record};

/// The traffic of tenants that was told last: packets and bytes from clients, and to them. A sum that is taken while sessions end and move may be too
/// low, and readers take a count that falls for one that began anew.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashMap<String, [u64; 4]>>);

impl Told {
    /// What is to be told, if this was counted now: never less than before.
    fn at_least(&self, tenant: &str, now: [u64; 4]) -> [u64; 4] {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = told.entry(tenant.to_owned()).or_default();
        told.iter_mut().zip(now).for_each(|(told, now)| *told = now.max(*told));
        *told
    }

    /// Forgets all tenants but these.
    pub(super) fn keep<'a>(&self, tenants: impl Iterator<Item = &'a String>) {
        let tenants: BTreeSet<_> = tenants.collect();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|tenant, _| tenants.contains(tenant));
    }
}

/// Packets and bytes from the clients of tenants, and to them, of all sessions that are or were open.
fn traffic<'a, 't>(
    memory: impl Into<Memory<'a>>,
    endpoints: &Endpoints,
    tenants: impl Iterator<Item = &'t u32>,
) -> HashMap<u32, [u64; 4]> {
    let memory = memory.into();
    // First, so that a session that ends meanwhile is missing for a moment rather than counted twice.
    let ended = |index: &u32| {
        let t = &memory.tenants[*index as usize];
        let all = [&t.ended_rx_packets, &t.ended_rx_bytes, &t.ended_tx_packets, &t.ended_tx_bytes];
        (*index, all.map(|count| count.get()))
    };
    let mut traffic: HashMap<_, _> = tenants.map(ended).collect();
    // Those that never open leave nothing in the sums when they end.
    for s in Reader::new(memory).list().into_iter().filter(Record::is_open) {
        let of = endpoints.get(&s.endpoint).and_then(|info| traffic.get_mut(&info.tenant));
        let more = [s.rx_packets, s.rx_bytes, s.tx_packets, s.tx_bytes];
        of.into_iter().flatten().zip(more).for_each(|(sum, more)| *sum += more);
    }
    traffic
}

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub(super) struct Birth {
    pub(super) config_file: PathBuf,
    pub(super) clock: Clock,
    pub(super) instant: Instant,
    pub(super) adopted: bool,
}

/// An endpoint, for people.
#[derive(Clone, Debug)]
pub(super) struct EndpointInfo {
    pub(super) names: EndpointNames,
    pub(super) tenant: u32,
    profile: &'static str,
    /// It gets new sessions.
    accepts: bool,
}

/// Endpoints by index.
pub(super) type Endpoints = HashMap<u32, EndpointInfo>;

/// Who all endpoints of the tables are.
pub(super) fn endpoints(tables: &Wanted) -> Endpoints {
    let registry = Registry::of(tables);
    let info = |(index, row): (&u32, &abi::Endpoint)| {
        let known = abi::Profile::ALL.into_iter().find(|known| *known as u8 == row.profile);
        let profile = known.map_or("unknown", |known| Profile::of_table(known).as_str());
        let (tenant, accepts) = (row.tenant.into(), row.flags & abi::ENDPOINT_ACCEPTS != 0);
        let names = registry.endpoint(*index)?;
        Some((*index, EndpointInfo { names, tenant, profile, accepts }))
    };
    tables.endpoints.iter().filter_map(info).collect()
}

/// The daemon's state, as readers see it.
#[derive(Clone, Debug)]
pub struct Published {
    pub(super) birth: Arc<Birth>,
    /// Those in use: others since sessions were moved.
    pub(super) tables: Arc<Tables>,
    /// The configuration in force.
    pub config: Arc<Config>,
    pub(super) overrides: Overrides,
    pub(super) health: HealthView,
    pub(super) probed: ProbedView,
    pub(super) held: Held,
    pub(super) probe_errors: Arc<BTreeMap<BackendId, String>>,
    pub(super) load: Load,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) tenants: Arc<BTreeMap<u32, String>>,
    pub(super) told: Arc<Told>,
    pub(super) routes: Arc<RouteView>,
    pub(super) interfaces: Vec<view::Interface>,
    pub(super) rates: Rates,
    /// What drains make expect.
    pub(super) forecasts: BTreeMap<BackendId, Forecast>,
    pub(super) warnings: Vec<String>,
}

/// Packets a second, lately.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) rx: f64,
    pub(super) drop: f64,
}

/// Packets by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) forwarded: u64,
    pub(super) passed: u64,
    pub(super) dropped: u64,
    pub(super) taken: u64,
}

impl Totals {
    pub(super) fn of(counts: &[Count]) -> Self {
        let sum =
            |kind: Kind| counts.iter().filter(|c| c.reason.kind() == kind).map(|c| c.packets).sum();
        Self {
            forwarded: sum(Kind::Forwarded),
            passed: sum(Kind::Passed),
            dropped: sum(Kind::Dropped),
            taken: sum(Kind::Taken),
        }
    }

    pub(super) fn received(&self) -> u64 {
        self.forwarded + self.passed + self.dropped + self.taken
    }
}

/// Sessions by some key: open and tentative.
type Tally<K> = BTreeMap<K, (u64, u64)>;

fn tally<K: Ord>(
    published: &Published,
    tables: &Tables,
    key: impl Fn(&EndpointInfo) -> K,
) -> Tally<K> {
    let mut tally = Tally::new();
    for session in Reader::new(tables).list() {
        if let Some(info) = published.endpoints.get(&session.endpoint) {
            let (open, tentative) = tally.entry(key(info)).or_default();
            *(if session.is_open() { open } else { tentative }) += 1;
        }
    }
    tally
}

pub(super) fn not_found(what: &str, name: &str, mut all: Vec<String>) -> Refusal {
    let hint = match did_you_mean(name, all.iter().map(String::as_str)) {
        Some(question) => format!("; {question}"),
        None if all.is_empty() => String::new(),
        None if all.len() <= 12 => format!("; there are {}", all.join(", ")),
        None => {
            all.truncate(12);
            format!("; there are {} and others", all.join(", "))
        }
    };
    Refusal::NotFound(format!("there is no {what} `{name}`{hint}"))
}

/// The backend that a person means.
pub(super) fn find_backend(config: &Config, name: &str) -> Result<BackendId, Refusal> {
    use crate::config::BackendIdError as E;
    BackendId::find(config, name).map_err(|e| match e {
        E::Ambiguous { .. } => Refusal::Invalid(e.to_string()),
        E::Unknown(_) | E::NotAnId(_) => {
            let names = config.backends().map(|(id, ..)| id.name).collect();
            not_found("backend", name, names)
        }
    })
}

impl Published {
    pub(super) fn status(&self, tables: &Tables) -> Result<view::Status, Refusal> {
        let counts = tables.counts().map_err(|e| Refusal::Failed(e.to_string()))?;
        let totals = Totals::of(&counts);
        let (mut sessions, mut tentative) = (0, 0);
        for session in Reader::new(tables).all() {
            *(if session.is_open() { &mut sessions } else { &mut tentative }) += 1;
        }
        let mut warnings = self.warnings.clone();
        let all = self.config.backends().count();
        let is_down = |health: &&AddressHealth| health.overall() == Status::Down;
        let down = self.health.values().filter(is_down).count();
        let impaired = self.health.values().filter(|health| health.is_impaired()).count() - down;
        let said = [(down, ""), (impaired, " at one of their addresses")];
        for (count, where_) in said.into_iter().filter(|(count, _)| *count > 0) {
            warnings.push(format!(
                "{count} of {all} backends do not answer{where_}; see `fernpass backend list`"
            ));
        }
        warnings.extend(held::warnings(&self.config, &self.held));
        warnings.extend(self.routes.excess());
        warnings.extend(direct::warnings(&self.config, &self.routes));
        Ok(view::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: ABI_VERSION,
            pid: std::process::id(),
            started: rfc3339(&self.birth.clock, Duration::ZERO),
            uptime: seconds(self.birth.instant.elapsed()),
            adopted: self.birth.adopted,
            config: self.birth.config_file.display().to_string(),
            interfaces: self.interfaces.clone(),
            sessions,
            tentative,
            max_sessions: tables.settings().max_sessions.get(),
            rx_pps: self.rates.rx,
            drop_pps: self.rates.drop,
            received: totals.received(),
            forwarded: totals.forwarded,
            passed: totals.passed,
            dropped: totals.dropped,
            taken: totals.taken,
            warnings,
        })
    }

    pub(super) fn tenants(&self, tables: &Tables) -> Vec<view::Tenant> {
        let traffic = traffic(tables, &self.endpoints, self.tenants.keys());
        let row = |(index, name): (&u32, &String)| {
            let t = &tables.tenants[*index as usize];
            let [rx_packets, rx_bytes, tx_packets, tx_bytes] =
                self.told.at_least(name, traffic[index]);
            view::Tenant {
                name: name.clone(),
                sessions: t.sessions.load(),
                max_sessions: t.max_sessions.get(),
                guaranteed_sessions: t.guaranteed.get(),
                tentative: t.tentative.load(),
                max_tentative: t.max_tentative.get(),
                opened: t.opened.load(),
                refused: t.refused.load(),
                limited: limited(t),
                rx_packets,
                rx_bytes,
                tx_packets,
                tx_bytes,
            }
        };
        let mut rows: Vec<_> = self.tenants.iter().map(row).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    pub(super) fn services(&self, tables: &Tables) -> Vec<view::Service> {
        let tally = tally(self, tables, |info| info.names.service.clone());
        let row = |service: &crate::config::Service| {
            let (sessions, tentative) = tally.get(&service.name).copied().unwrap_or_default();
            view::Service {
                name: service.name.clone(),
                tenant: service.tenant.clone(),
                profile: service.profile.as_str().to_owned(),
                listen: service.listen.iter().map(ToString::to_string).collect(),
                pool: service.pool.clone(),
                sessions,
                tentative,
            }
        };
        self.config.services.iter().map(row).collect()
    }

    pub(super) fn pools(&self, tables: &Tables) -> Vec<view::Pool> {
        let tally = tally(self, tables, |info| info.names.backend.pool.clone());
        let row = |pool: &Pool| {
            let services = self.config.services.iter().filter(|s| s.pool == pool.name);
            let of_pool =
                |info: &&EndpointInfo| info.accepts && info.names.backend.pool == pool.name;
            let accepting = self.endpoints.values().filter(of_pool);
            let accepting: BTreeSet<_> = accepting.map(|info| &info.names.backend).collect();
            view::Pool {
                name: pool.name.clone(),
                mode: pool.mode.as_str().to_owned(),
                services: services.map(|s| s.name.clone()).collect(),
                backends: pool.backends.len() as u64,
                accepting: accepting.len() as u64,
                sessions: tally.get(&pool.name).map_or(0, |(open, _)| *open),
                idle_timeout: pool.idle_timeout.as_secs(),
            }
        };
        self.config.pools.iter().map(row).collect()
    }

    pub(super) fn backends(&self, tables: &Tables) -> Vec<view::Backend> {
        let tally = tally(self, tables, |info| info.names.backend.clone());
        let now = Clock::now();
        let row = |(id, pool, backend): (BackendId, &Pool, &crate::config::Backend)| {
            let drain = self.overrides.drained.get(&id);
            let forecast = drain.and_then(|_| self.forecasts.get(&id).copied());
            let sessions = tally.get(&id).map_or(0, |(open, _)| *open);
            // Where nobody tells of answers, it is not known who is left: but when all go, at once.
            let forecast = forecast.filter(|_| pool.knows_sessions());
            let empty_at = drain.and_then(|drain| {
                if pool.knows_sessions() {
                    empty_at(&now, sessions, forecast, drain)
                } else {
                    empty_at(&now, 1, None, &Drain { spread: 0, ..*drain })
                }
            });
            let health = self.probed.get(&id).map(|probed| probed.status).unwrap_or_default();
            let health_of = |family| backend.address_of(family).map(|_| health.of(family));
            view::Backend {
                name: backend.name.clone(),
                pool: id.pool.clone(),
                address: backend.address,
                address6: backend
                    .address_of(Family::V6)
                    .filter(|address| *address != backend.address),
                state: self.backend_state(&id),
                drained: self.overrides.drained.contains_key(&id),
                silent: self.load.silent().all.contains(&id),
                held: held::is_held(&self.held, &id),
                health: health.overall(),
                health4: health_of(Family::V4),
                health6: health_of(Family::V6),
                last_error: self.probe_errors.get(&id).cloned(),
                weight: self.overrides.weights.get(&id).copied().unwrap_or(backend.weight),
                configured_weight: backend.weight,
                sessions,
                max_sessions: backend.max_sessions,
                drain_deadline: drain
                    .and_then(|drain| drain.deadline)
                    .map(|at| time(at.wall(&now))),
                drain_rate: forecast.map(|forecast| forecast.rate),
                drain_empty_at: empty_at.map(time),
            }
        };
        self.config.backends().map(row).collect()
    }

    fn backend_state(&self, id: &BackendId) -> view::BackendState {
        use view::BackendState as S;
        let health = self.health.get(id).copied().unwrap_or_default();
        if health.overall() == Status::Down {
            S::Down
        } else if self.overrides.drained.contains_key(id) {
            S::Draining
        } else if self.load.silent().all.contains(id) {
            S::Silent
        } else if self.load.is_full(id) {
            S::Full
        } else if held::is_held(&self.held, id) {
            S::Held
        } else if health.is_impaired() {
            S::Impaired
        } else {
            S::Active
        }
    }

    pub(super) fn session(&self, tables: &Tables, id: &str) -> Result<view::Session, Refusal> {
        let session = find_session(tables, id)?;
        let unknown = unknown();
        let info = self.endpoints.get(&session.endpoint).unwrap_or(&unknown);
        Ok(row(&session, info, &Clock::now()))
    }

    pub(super) fn nexthops(&self) -> Vec<view::NextHop> {
        let mut links = LinkNames::default();
        let row = |(key, hop): (&crate::model::HopKey, &crate::model::NextHop)| view::NextHop {
            neighbour: key.neighbour,
            interface: links.name(key.interface),
            mac: hop.resolved.then(|| mac(hop.dst_mac)),
            vlan: hop.vlan.map(|vlan| vlan.tci & 0xfff),
            mtu: hop.mtu,
            resolved: hop.resolved,
            backends: self.routes.backends.values().filter(|to| *to == key).count() as u64,
        };
        self.routes.hops.iter().map(row).collect()
    }

    pub(super) fn counters(tables: &Tables) -> Result<Vec<view::Counter>, Refusal> {
        let counts = tables.counts().map_err(|e| Refusal::Failed(e.to_string()))?;
        let row = |count: Count| view::Counter {
            name: count.reason.as_str().to_owned(),
            kind: match count.reason.kind() {
                Kind::Forwarded => "forwarded",
                Kind::Passed => "passed",
                Kind::Dropped => "dropped",
                Kind::Taken => "taken",
                Kind::Event => "event",
            }
            .to_owned(),
            packets: count.packets,
            description: count.reason.describe().to_owned(),
        };
        Ok(counts.into_iter().map(row).collect())
    }
}

/// The session that a person means: its identity, or the beginning of it.
pub(super) fn find_session(tables: &Tables, id: &str) -> Result<Record, Refusal> {
    let hex = id.trim_start_matches("0x").to_ascii_lowercase();
    if hex.is_empty() || hex.len() > 16 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Refusal::Invalid(format!(
            "`{id}` is no session id: those are up to 16 hexadecimal digits, see `fernpass session list`"
        )));
    }
    let mut found = Reader::new(tables)
        .list()
        .into_iter()
        .filter(|session| identity(session.identity).starts_with(&hex));
    match (found.next(), found.next()) {
        (None, _) => Err(Refusal::NotFound(format!("there is no session `{id}`"))),
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            Err(Refusal::Invalid(format!("several sessions begin with `{id}`; give more digits")))
        }
    }
}

/// An identity as it is printed.
pub(super) fn identity(identity: u64) -> String {
    format!("{identity:016x}")
}

pub(super) fn unknown() -> EndpointInfo {
    let names = EndpointNames {
        tenant: String::new(),
        service: String::new(),
        backend: BackendId::new("", ""),
        listener: String::new(),
    };
    EndpointInfo { names, tenant: 0, profile: "unknown", accepts: false }
}

pub(super) fn row(session: &Record, info: &EndpointInfo, now: &Clock) -> view::Session {
    let silence = session.silence(now);
    view::Session {
        id: identity(session.identity),
        tenant: info.names.tenant.clone(),
        service: info.names.service.clone(),
        profile: info.profile.to_owned(),
        pool: info.names.backend.pool.clone(),
        backend: info.names.backend.name.clone(),
        client: session.client,
        state: match (session.is_open(), session.is_aside()) {
            (false, _) => view::SessionState::Tentative,
            (true, false) => view::SessionState::Open,
            (true, true) => view::SessionState::Aside,
        },
        opened: rfc3339(now, now.since(session.opened)),
        last_seen: rfc3339(now, silence),
        idle: seconds(silence),
        rx_packets: session.rx_packets,
        rx_bytes: session.rx_bytes,
        tx_packets: session.tx_packets,
        tx_bytes: session.tx_bytes,
        moves: session.moves.into(),
    }
}

fn rfc3339(now: &Clock, elapsed: Duration) -> String {
    humantime::format_rfc3339_seconds(now.wall_before(elapsed)).to_string()
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// What a tenant's rates refused.
fn limited(tenant: &Tenant) -> view::Limited {
    view::Limited {
        handshakes: tenant.handshakes.refused.load(),
        new_sessions: tenant.new_sessions.refused.load(),
        packets_in: tenant.packets_in.refused.load(),
        bits_in: tenant.bytes_in.refused.load(),
        packets_out: tenant.packets_out.refused.load(),
        bits_out: tenant.bytes_out.refused.load(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use dataplane::abi::{Slot, ticks};
    use dataplane::table::host::{HostTables, Sizes};
    use dataplane::table::slot;

    use super::*;
    use crate::sessions::{Fate, Keeper, Policy};

    struct All(Fate);

    impl Policy for All {
        fn fate(&self, _: u32) -> Fate {
            self.0
        }

        fn tenant(&self, endpoint: u32) -> Option<u32> {
            Some(endpoint)
        }
    }

    /// One endpoint for each of two tenants.
    fn endpoints() -> Endpoints {
        let names = |n: u32| EndpointNames {
            tenant: format!("t{n}"),
            service: format!("s{n}"),
            backend: BackendId::new("p", &format!("b{n}")),
            listener: String::new(),
        };
        let info = |n| EndpointInfo { names: names(n), tenant: n, profile: "udp", accepts: true };
        (0..2).map(|n| (n, info(n))).collect()
    }

    #[test]
    fn the_traffic_of_a_tenant_is_the_same_before_and_after_sessions_end() {
        const SECOND: u64 = 1_000_000_000;
        let t = HostTables::new(Sizes::default());
        let at = |seconds: u64| Clock {
            monotonic: 1000 * SECOND + seconds * SECOND,
            wall: SystemTime::now(),
        };
        for (index, (state, endpoint)) in
            [(slot::OPEN, 0), (slot::TENTATIVE, 0), (slot::TENTATIVE, 1)].into_iter().enumerate()
        {
            let slot: &Slot = &t.slots[index];
            slot.endpoint.set(endpoint);
            slot.port_service.set(1000 + index as u32);
            slot.rx_packets.set(10);
            slot.rx_bytes.set(1000);
            slot.tx_packets.set(7);
            slot.tx_bytes.set(700);
            slot.last_seen.set(ticks(at(0).monotonic));
            t.details[index].opened.set(at(0).monotonic);
            let word = 1 << 32 | u64::from(state);
            t.details[index].identity.set(slot::identity(index as u32, word));
            slot.state.store(word);
        }
        let traffic = || {
            let sums = traffic(&t, &endpoints(), [0, 1].iter());
            (sums[&0], sums[&1])
        };
        let open = ([10, 1000, 7, 700], [0; 4]);
        assert_eq!(traffic(), open, "handshakes are nobody's traffic yet");
        let mut keeper = Keeper::default();
        let idle = All(Fate::Idle(Duration::from_secs(60)));
        assert_eq!((keeper.scan(&t, &at(16), &idle).ended, traffic()), (2, open));
        assert_eq!((keeper.scan(&t, &at(17), &All(Fate::End)).ended, traffic()), (1, open));
    }

    #[test]
    fn what_was_told_of_a_tenant_never_becomes_less() {
        let told = Told::default();
        assert_eq!(told.at_least("a", [5, 50, 5, 50]), [5, 50, 5, 50]);
        assert_eq!(told.at_least("a", [4, 60, 5, 0]), [5, 60, 5, 50]);
        assert_eq!(told.at_least("b", [1; 4]), [1; 4]);
        // Another one of the same name, later.
        told.keep(std::iter::once(&"b".to_owned()));
        assert_eq!(told.at_least("a", [0; 4]), [0; 4]);
        assert_eq!(told.at_least("b", [0; 4]), [1; 4]);
    }
}

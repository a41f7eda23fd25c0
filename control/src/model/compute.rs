//! The pure function from everything that is known to what the tables should hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dataplane::abi::{
    self, Address, AddressKey, Directory, ENDPOINT_ACCEPTS, ENDPOINT_DIRECT, ENDPOINT_LIVE,
    ENDPOINT_METERED_IN, ENDPOINT_METERED_OUT, ENDPOINT_PACED, ENDPOINT_RELEASED, Endpoint,
    KIND_AGENT, KIND_BACKEND, KIND_ENDPOINT, KIND_HOST, KIND_LISTENER, KIND_SERVER, KIND_TUNNEL,
    KIND_VIP, LISTENER_BLIND, LISTENER_BY_FLOW, LISTENER_DIRECT, NO_NEXTHOP, NO_RING, POOL_STRIDE,
    REPORT_PORT, SERVICE_TCP, listener_server_id, pace_index, service_index, share_index,
    source_index,
};
use dataplane::checksum;
use dataplane::header::{PROTO_ESP, PROTO_IPV4, PROTO_IPV6, PROTO_UDP};
use dataplane::profile::quic_lb;
use dataplane::table::hints::Hint;

use super::indexes::{Held, Indexes, ModelError, assign, encapsulation, names, target};
use super::paths::Paths;
use super::wanted::{Live, MeterLimits, Ring, TenantLimits, Wanted, ring_number};
use super::{Inputs, Status, maglev};
use crate::config::{
    Affinity, Backend, BackendId, Budget, Config, Encapsulation, Family, Listener, Mode, Pool,
    Profile, Protocol, Rate, Service,
};

/// What the tables should hold.
///
/// # Errors
/// There is no index left for something; the tables stay as they are.
pub fn compute(inputs: &Inputs<'_>) -> Result<Wanted, ModelError> {
    let held = Held::new(inputs.current, inputs.released);
    let indexes = assign(inputs.config, &held)?;
    let paths = Paths::new(inputs.routes, inputs.current);
    let mut work = Work { inputs, indexes: &indexes, paths: &paths, wanted: Wanted::default() };
    for service in &inputs.config.services {
        for listener in &service.listen {
            work.listener(service, listener);
        }
    }
    work.keep_retired(&held);
    for address in &inputs.routes.own {
        let own = Directory { kind: KIND_HOST, ..Directory::default() };
        work.wanted.directory.insert(AddressKey::of_host((*address).into()), own);
    }
    let mut wanted = work.wanted;
    wanted.names = names(inputs.config, &indexes, &wanted.endpoints, &held);
    wanted.tenants = tenants(inputs.config, &indexes, &wanted.endpoints);
    wanted.live = live(inputs.config);
    wanted.devices = paths.devices;
    wanted.nexthops = paths.nexthops;
    wanted.routes = paths.routes;
    Ok(wanted)
}

/// What tells flows of a service's protocols apart.
const fn scope(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Udp => 0,
        Protocol::Tcp => SERVICE_TCP,
    }
}

struct Work<'a> {
    inputs: &'a Inputs<'a>,
    indexes: &'a Indexes,
    paths: &'a Paths,
    wanted: Wanted,
}

impl Work<'_> {
    /// A listener's entry and its address', its ring, and its endpoints with their entries.
    fn listener(&mut self, service: &Service, listener: &Listener) {
        let config = self.inputs.config;
        let Some(pool) = config.pool(&service.pool) else { return };
        let index = self.indexes.listeners[listener];
        let profile = service.profile.of_listener(listener);
        let named = pool.quic_lb.filter(|_| profile == abi::Profile::Quic);
        let entry = Directory {
            kind: KIND_LISTENER,
            profile: profile as u8,
            service: self.indexes.services[&service.name] as u16 | scope(listener.protocol),
            tenant: self.indexes.tenants[&service.tenant] as u16,
            ring: self.ring(pool, listener.family()),
            index: match service.affinity {
                Affinity::Source => index,
                Affinity::Flow => index | LISTENER_BY_FLOW,
            } | if pool.mode.is_direct() { LISTENER_DIRECT } else { 0 }
                | if pool.knows_sessions() { 0 } else { LISTENER_BLIND }
                | named.map_or(0, |lb| listener_server_id(lb.server_id_length)),
            zero: 0,
        };
        let key = |address, port: u16| AddressKey {
            address,
            port: port.to_be(),
            protocol: listener.protocol.number(),
            zero: 0,
        };
        self.wanted.directory.insert(key(listener.address.into(), listener.port), entry);
        // One for all listeners at the address: what has no ports to read is known by it, and placed if
        // they are of one service.
        let nobody = Directory {
            kind: KIND_VIP,
            ring: NO_RING,
            index: LISTENER_BY_FLOW,
            ..Directory::default()
        };
        let vip = Directory { kind: KIND_VIP, ..entry };
        self.without_port(key(listener.address.into(), 0), vip, nobody);
        if service.profile == Profile::Ipsec {
            let esp = AddressKey { protocol: PROTO_ESP, ..key(listener.address.into(), 0) };
            // Agents tell nothing of it: it stays with its client's backend by the hint alone.
            let blind = if pool.mode.is_direct() { LISTENER_BLIND } else { 0 };
            self.without_port(esp, Directory { index: vip.index | blind, ..vip }, nobody);
        }
        for backend in &pool.backends {
            let Some((address, port)) = target(pool, backend, listener) else { continue };
            let id = BackendId::new(&pool.name, &backend.name);
            let ordinal = self.indexes.backends[&id];
            let at = index * POOL_STRIDE + ordinal;
            if let (Some(lb), Some(server)) = (named, backend.server_id) {
                let name = quic_lb::name_of(lb.config_id, server.number, server.length);
                let key = AddressKey::of_server(service_index(entry.service), name);
                let server =
                    Directory { kind: KIND_SERVER, index: ordinal, ..Directory::default() };
                self.wanted.directory.insert(key, server);
            }
            let (paced, share) = self.pace(service, pool, backend, ordinal);
            let plain = self.endpoint(listener, &entry, &id, backend, (address, port));
            let endpoint = Endpoint {
                flags: plain.flags | self.metered(service) | paced,
                share,
                mss: match listener.protocol {
                    Protocol::Tcp => service.tcp_mss.unwrap_or_default(),
                    Protocol::Udp => 0,
                },
                ..plain
            };
            if pool.mode.is_direct() {
                self.direct(pool, at, (address, port), endpoint);
                if pool.agent {
                    self.agent(pool, &id, backend);
                }
                continue;
            }
            let nexthop = self.paths.towards(address).unwrap_or(NO_NEXTHOP);
            self.wanted.endpoints.insert(at, Endpoint { nexthop, ..endpoint });
            let entry = Directory { kind: KIND_ENDPOINT, ring: 0, index: at, ..entry };
            self.wanted.directory.insert(key(address.into(), port), entry);
            let nobody = Directory { kind: KIND_BACKEND, index: u32::MAX, ..Directory::default() };
            self.without_port(
                key(address.into(), 0),
                Directory { kind: KIND_BACKEND, ..entry },
                nobody,
            );
        }
    }

    /// The flags of the rates that a service's tenant has.
    fn metered(&self, service: &Service) -> u8 {
        let Some(tenant) = self.inputs.config.tenant(&service.tenant) else { return 0 };
        let rates = &tenant.rates;
        let mut flags = 0;
        if rates.packets_in.or(rates.bits_in).is_some() {
            flags |= ENDPOINT_METERED_IN;
        }
        if rates.packets_out.or(rates.bits_out).is_some() {
            flags |= ENDPOINT_METERED_OUT;
        }
        flags
    }

    /// Writes what a backend is given of handshakes, and its service's tenant's share of it; returns the endpoint's flag and where the share is.
    fn pace(
        &mut self,
        service: &Service,
        pool: &Pool,
        backend: &Backend,
        ordinal: u32,
    ) -> (u8, u16) {
        let Some(rate) = backend.pace(pool) else { return (0, 0) };
        let at_pool = || self.inputs.config.services.iter().filter(|s| s.pool == pool.name);
        let tenants: BTreeSet<_> = at_pool().map(|service| &service.tenant).collect();
        let share = at_pool()
            .filter(|other| other.tenant == service.tenant)
            .map(|other| self.indexes.services[&other.name] as u16)
            .min()
            .unwrap_or_default();
        let part = |number: u64| number.div_ceil(tenants.len().max(1) as u64);
        let own = Rate { rate: part(rate.rate), burst: part(rate.burst) };
        let all = pace_index(self.indexes.pools[&pool.name], ordinal);
        self.wanted.paces.insert(all, MeterLimits::new(rate, 1));
        self.wanted.paces.insert(share_index(share, ordinal), MeterLimits::new(own, 1));
        (ENDPOINT_PACED, share)
    }

    /// An endpoint whose answers do not come through the gateway, so that nothing is known by their source; with its tunnel.
    fn direct(&mut self, pool: &Pool, at: u32, (address, port): (IpAddr, u16), e: Endpoint) {
        // What a router got, it would send back: the VIP is the gateway's.
        let nexthop = match pool.mode {
            Mode::Dsr => self.paths.on_link(address),
            _ => self.paths.towards(address),
        };
        let idle = pool.idle_timeout.as_nanos().div_ceil(1 << 30);
        let endpoint = Endpoint {
            flags: e.flags | ENDPOINT_DIRECT,
            encapsulation: encapsulation(pool) as u8,
            nexthop: nexthop.unwrap_or(NO_NEXTHOP),
            idle: u16::try_from(idle).unwrap_or(u16::MAX).min(Hint::OLDEST),
            address_delta: 0,
            transport_delta: 0,
            ..e
        };
        let family = Family::of(address);
        if let Some(tunnel) = pool.tunnel
            && let Some(source) = tunnel.source_of(family)
        {
            self.wanted.sources.insert(endpoint.source, source.into());
            let (protocol, port) = match tunnel.encapsulation {
                Encapsulation::Gue => (PROTO_UDP, port.to_be()),
                Encapsulation::IpIp if endpoint.vip.is_v4() => (PROTO_IPV4, 0),
                Encapsulation::IpIp => (PROTO_IPV6, 0),
            };
            let key = AddressKey { address: address.into(), port, protocol, zero: 0 };
            let entry = Directory { kind: KIND_TUNNEL, index: at, ..Directory::default() };
            self.wanted.directory.entry(key).or_insert(entry);
        }
        self.wanted.endpoints.insert(at, endpoint);
    }

    /// Where a backend's agent reports from.
    fn agent(&mut self, pool: &Pool, id: &BackendId, backend: &Backend) {
        let index = self.indexes.pools[&pool.name] * POOL_STRIDE + self.indexes.backends[id];
        for address in [Some(backend.address), backend.address6.map(IpAddr::V6)] {
            let Some(address) = address else { continue };
            let key = AddressKey {
                address: address.into(),
                port: REPORT_PORT.to_be(),
                protocol: PROTO_UDP,
                zero: 0,
            };
            let entry = Directory { kind: KIND_AGENT, index, ..Directory::default() };
            self.wanted.directory.insert(key, entry);
        }
    }

    /// Adds the entry of an address for what has no port: the first one's, while all that share the address are of one service,
    /// and, of a backend, stand for one of its addresses; else `nobody`.
    fn without_port(&mut self, key: AddressKey, entry: Directory, nobody: Directory) {
        let vip = |at: &u32| self.wanted.endpoints.get(at).map(|endpoint| endpoint.vip);
        let is_alike = |other: &Directory| {
            other.service == entry.service
                && (entry.kind == KIND_VIP || vip(&other.index) == vip(&entry.index))
        };
        let entry = match self.wanted.directory.get(&key) {
            None => entry,
            Some(first) if is_alike(first) => return,
            Some(_) => nobody,
        };
        self.wanted.directory.insert(key, entry);
    }

    fn endpoint(
        &self,
        listener: &Listener,
        entry: &Directory,
        id: &BackendId,
        backend: &Backend,
        (address, port): (IpAddr, u16),
    ) -> Endpoint {
        let family = Family::of(address);
        let address = Address::from(address);
        let vip = Address::from(listener.address);
        let (vip_port, backend_port) = (listener.port.to_be(), port.to_be());
        let (address_delta, transport_delta) =
            checksum::endpoint_delta(vip, vip_port, address, backend_port);
        let mut flags = 0;
        if self.is_live(id, family) {
            flags |= ENDPOINT_LIVE;
        }
        let share = self.weight(id, backend, family);
        if share > 0 && !self.is_avoided(id, Family::of(listener.address)) {
            flags |= ENDPOINT_ACCEPTS;
        }
        if self.inputs.overrides.drained.get(id).is_some_and(|drain| drain.released) {
            flags |= ENDPOINT_RELEASED;
        }
        Endpoint {
            backend: address,
            vip,
            backend_port,
            vip_port,
            protocol: listener.protocol.number(),
            profile: entry.profile,
            flags,
            encapsulation: abi::Encapsulation::Nat as u8,
            service: service_index(entry.service),
            tenant: entry.tenant,
            nexthop: NO_NEXTHOP,
            address_delta,
            transport_delta,
            mss: 0,
            source: source_index(self.indexes.pools[&id.pool], family == Family::V6),
            idle: 0,
            share: 0,
        }
    }

    /// Whether the backend is not known to be dead at its address of a family.
    fn is_live(&self, id: &BackendId, family: Family) -> bool {
        self.inputs.health.get(id).is_none_or(|health| health.of(family) != Status::Down)
    }

    /// Whether new sessions of a listener's family go to others, because the backend does not answer those that it has. Not if there is no other
    /// one that could take them.
    fn is_avoided(&self, id: &BackendId, family: Family) -> bool {
        let avoided = &self.inputs.load.silent().avoided;
        if !avoided.contains(id) {
            return false;
        }
        let Some(pool) = self.inputs.config.pool(&id.pool) else { return false };
        let takes_new = |backend: &Backend| {
            let other = BackendId::new(&pool.name, &backend.name);
            !avoided.contains(&other)
                && pool
                    .address_for(backend, family)
                    .is_some_and(|at| self.weight(&other, backend, Family::of(at)) > 0)
        };
        pool.backends.iter().any(takes_new)
    }

    /// The backend's share of a family's new sessions, were it to answer those that it has: zero if it is to get none.
    fn weight(&self, id: &BackendId, backend: &Backend, family: Family) -> u32 {
        let overrides = self.inputs.overrides;
        let placeable = self.is_live(id, family)
            && !overrides.drained.contains_key(id)
            && !self.inputs.load.is_full(id);
        if placeable { overrides.weights.get(id).copied().unwrap_or(backend.weight) } else { 0 }
    }

    /// The number of the pool's ring for a family, which is built if it was not yet.
    fn ring(&mut self, pool: &Pool, family: Family) -> u16 {
        let index = self.indexes.pools[&pool.name];
        let numbers = [0, 1].map(|buffer| ring_number(index, family, buffer));
        if let Some(done) = numbers.into_iter().find(|n| self.wanted.rings.contains_key(n)) {
            return done;
        }
        let ids: Vec<_> = pool
            .backends
            .iter()
            .filter_map(|backend| Some((backend, pool.address_for(backend, family)?)))
            .map(|(backend, address)| (BackendId::new(&pool.name, &backend.name), backend, address))
            .collect();
        let candidates: Vec<_> = ids
            .iter()
            .map(|(id, backend, address)| maglev::Candidate {
                name: &id.name,
                ordinal: self.indexes.backends[id] as u8,
                weight: if self.is_avoided(id, family) {
                    0
                } else {
                    self.weight(id, backend, Family::of(*address))
                },
            })
            .collect();
        let Some(ring) = maglev::ring(&candidates) else { return NO_RING };
        let number = self.buffer(numbers, &ring);
        self.wanted.rings.insert(number, ring);
        number
    }

    /// The buffer to hold a ring: the one that does already, else one that is not in use.
    fn buffer(&self, numbers: [u16; 2], ring: &Ring) -> u16 {
        let current = self.inputs.current;
        let holds = |number: &u16| current.rings.get(number) == Some(ring);
        let in_use = |number: u16| {
            current.directory.values().any(|entry| entry.places() && entry.ring == number)
        };
        match numbers.into_iter().find(holds) {
            Some(number) => number,
            None => numbers.into_iter().find(|number| !in_use(*number)).unwrap_or(numbers[0]),
        }
    }

    /// Endpoints that are no longer configured, but to which slots may still
    /// refer: they forward nothing, and tell whose the sessions were.
    fn keep_retired(&mut self, held: &Held<'_>) {
        for (index, endpoint) in &held.tables.endpoints {
            if !held.released.contains(index) {
                let retired = Endpoint { flags: 0, nexthop: NO_NEXTHOP, ..*endpoint };
                self.wanted.endpoints.entry(*index).or_insert(retired);
            }
        }
    }
}

fn tenants(
    config: &Config,
    indexes: &Indexes,
    endpoints: &BTreeMap<u32, Endpoint>,
) -> BTreeMap<u32, TenantLimits> {
    let used: BTreeSet<u16> = endpoints.values().map(|endpoint| endpoint.tenant).collect();
    let retired = used.into_iter().map(|index| (u32::from(index), TenantLimits::default()));
    let mut tenants: BTreeMap<_, _> = retired.collect();
    for tenant in &config.tenants {
        let limits = TenantLimits {
            max_sessions: tenant.max_sessions,
            max_tentative: config.tentative_limit(tenant),
            guaranteed: tenant.guaranteed_sessions,
            handshakes: meter(tenant.rates.handshakes, 1),
            new_sessions: meter(tenant.rates.new_sessions, 1),
            packets_in: meter(tenant.rates.packets_in, 1),
            bytes_in: meter(tenant.rates.bits_in, 8),
            packets_out: meter(tenant.rates.packets_out, 1),
            bytes_out: meter(tenant.rates.bits_out, 8),
        };
        tenants.insert(indexes.tenants[&tenant.name], limits);
    }
    tenants
}

fn live(config: &Config) -> Live {
    let (budget_cost, budget_burst) = config.limits.unestablished_per_source.map_or((0, 0), budget);
    Live {
        budget_cost,
        budget_burst,
        max_sessions: config.gateway.max_sessions,
        guaranteed: config.guaranteed(),
        tentative: config.tentative(),
    }
}

/// The limits of a rate, if there is one, whose unit has so many parts.
fn meter(rate: Option<Rate>, parts: u64) -> MeterLimits {
    rate.map_or(MeterLimits::default(), |rate| MeterLimits::new(rate, parts))
}

/// A budget in units of 2^10 ns: what a packet costs, and how far ahead a source may be.
fn budget(budget: Budget) -> (u32, u32) {
    let rate = u64::from(budget.rate).max(1);
    // Half of the divisor is added so that it rounds.
    let cost = ((1_000_000_000 + 512 * rate) / (1024 * rate)).max(1);
    let ahead = cost * u64::from(budget.burst.saturating_sub(1));
    (cost as u32, u32::try_from(ahead).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_in_the_tables_units() {
        // 5 ms are 4882.8 units.
        assert_eq!(budget(Budget { rate: 200, burst: 400 }), (4883, 4883 * 399));
        assert_eq!(budget(Budget { rate: 1, burst: 1 }), (976_563, 0));
        assert_eq!(budget(Budget { rate: 100_000, burst: 2 }), (10, 10));
    }
}

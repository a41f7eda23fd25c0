//! Small configurations, and what may happen to a gateway that has one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use proptest::prelude::*;

use super::World;
use crate::config::{BackendId, Config, Family};
use crate::model::{Drain, HopKey, NextHop, Prefix, Registry, RouteView, Status};

const POOLS: usize = 2;
const BACKENDS: usize = 3;
const SERVICES: usize = 3;

/// A configuration without errors.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pools: [PoolPlan; POOLS],
    services: [ServicePlan; SERVICES],
}

#[derive(Clone, Debug)]
struct PoolPlan {
    /// Its backends, and which of two addresses each has. The first is always there.
    backends: [Option<bool>; BACKENDS],
    /// They serve IPv6, too.
    dual: bool,
    /// Whether backends answer by themselves: no, on the link, in tunnels of two kinds, with agents.
    mode: u8,
    /// Handshakes that backends are given.
    pace: Option<u8>,
}

#[derive(Clone, Debug)]
struct ServicePlan {
    present: bool,
    tenant: bool,
    pool: usize,
    port: bool,
    /// It listens on IPv6, too, if its pool can.
    dual: bool,
    /// Its tenant's packets are limited, if it is the first.
    limited: bool,
}

pub(super) fn any_plan() -> impl Strategy<Value = Plan> {
    let pool = (any::<[Option<bool>; BACKENDS]>(), any::<bool>(), 0..7_u8, any::<Option<u8>>())
        .prop_map(|(backends, dual, mode, pace)| PoolPlan { backends, dual, mode, pace });
    let service = (any::<[bool; 5]>(), 0..POOLS).prop_map(
        |([present, tenant, port, dual, limited], pool)| ServicePlan {
            present,
            tenant,
            pool,
            port,
            dual,
            limited,
        },
    );
    (proptest::array::uniform(pool), proptest::array::uniform(service))
        .prop_map(|(pools, services)| Plan { pools, services })
}

impl PoolPlan {
    fn is_direct(&self) -> bool {
        (1..=4).contains(&self.mode)
    }
}

impl Plan {
    /// As a file has it.
    pub(super) fn text(&self) -> String {
        let mut text = "[gateway]\ninterfaces = [\"eth0\"]\n".to_owned();
        for tenant in [false, true] {
            let used = self.services.iter().any(|s| s.present && s.tenant == tenant);
            if used || !tenant {
                write!(text, "[[tenant]]\nname = \"t-{tenant}\"\nmax_sessions = 10\n").unwrap();
                if self.services[usize::from(tenant)].limited {
                    text += "guaranteed_sessions = 3\npackets_in = { rate = 1000 }\n";
                }
            }
        }
        for (p, pool) in self.pools.iter().enumerate() {
            write!(text, "[[pool]]\nname = \"p-{p}\"\n").unwrap();
            let tunnel = |kind| {
                format!(
                    "mode = \"tunnel\"\ntunnel = {{ encapsulation = \"{kind}\", source = \"192.0.2.77\", source6 = \"2001:db8:77::1\" }}\n"
                )
            };
            text += &match pool.mode {
                1 => "mode = \"dsr\"\n".to_owned(),
                2 => tunnel("ipip"),
                3 => tunnel("gue"),
                4 => tunnel("ipip") + "agent = true\n",
                _ => String::new(),
            };
            if let Some(pace) = pool.pace {
                writeln!(text, "handshakes = {{ rate = {} }}", u32::from(pace) + 1).unwrap();
            }
            for (b, backend) in pool.backends.iter().enumerate() {
                let Some(other) = backend.or((b == 0).then_some(false)) else { continue };
                let net = u8::from(other);
                write!(text, "[[pool.backend]]\nname = \"wg-{b}\"\n").unwrap();
                if !pool.is_direct() {
                    text += "max_sessions = 10\n";
                }
                writeln!(text, "address = \"10.{p}.{net}.{b}\"").unwrap();
                if pool.dual {
                    writeln!(text, "address6 = \"2001:db8:{p}:{net}::{b}\"").unwrap();
                }
            }
        }
        for (s, service) in self.services.iter().enumerate().filter(|(_, s)| s.present) {
            // Two services have an address in common.
            let (vip, port) = (s / 2, 1000 + 10 * usize::from(service.port) + s);
            let mut listen = format!("\"203.0.113.{vip}:{port}/udp\"");
            let pool = &self.pools[service.pool];
            if service.dual && (pool.dual || pool.is_direct()) {
                write!(listen, ", \"[2001:db8:f::{vip}]:{port}/udp\"").unwrap();
            }
            write!(
                text,
                "[[service]]\nname = \"s-{s}\"\ntenant = \"t-{}\"\nprofile = \"udp\"\n\
                 listen = [{listen}]\npool = \"p-{}\"\n",
                service.tenant, service.pool
            )
            .unwrap();
        }
        text
    }
}

/// A backend, whether it is there or not.
type Who = (usize, usize);

/// What may happen.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The daemon tries again.
    Nothing,
    /// A new configuration.
    Configure(Plan),
    /// An operator drains a backend, or ceases to.
    Drain(Who, bool),
    /// An operator gives a backend a weight, or takes it back.
    Weight(Who, Option<u32>),
    /// A backend comes or goes at the address of a family.
    Health(Who, bool, bool),
    /// All backends become full, or cease to be.
    Full(bool),
    /// The kernel's routes are other ones.
    Routes([u8; 4]),
    /// No session refers to retired endpoints any more.
    Release,
}

pub(super) fn any_event() -> impl Strategy<Value = Event> {
    let who = || (0..POOLS, 0..BACKENDS);
    let weight = prop_oneof![Just(None), Just(Some(0)), Just(Some(7))];
    prop_oneof![
        4 => any_plan().prop_map(Event::Configure),
        1 => (who(), any::<bool>()).prop_map(|(who, on)| Event::Drain(who, on)),
        1 => (who(), weight).prop_map(|(who, weight)| Event::Weight(who, weight)),
        2 => (who(), any::<bool>(), any::<bool>()).prop_map(|(w, v6, up)| Event::Health(w, v6, up)),
        1 => any::<bool>().prop_map(Event::Full),
        2 => any::<[u8; 4]>().prop_map(Event::Routes),
        2 => Just(Event::Release),
    ]
}

fn id((pool, backend): Who) -> BackendId {
    BackendId::new(&format!("p-{pool}"), &format!("wg-{backend}"))
}

impl Event {
    /// Lets it happen: the tables stay as they are.
    pub(super) fn happen(&self, world: &mut World) {
        match self {
            Self::Nothing => {}
            Self::Configure(plan) => {
                world.config = Config::parse(&plan.text(), "plan").expect("without errors");
            }
            Self::Drain(who, true) => {
                world.overrides.drained.insert(id(*who), Drain::default());
            }
            Self::Drain(who, false) => drop(world.overrides.drained.remove(&id(*who))),
            Self::Weight(who, Some(weight)) => {
                world.overrides.weights.insert(id(*who), *weight);
            }
            Self::Weight(who, None) => drop(world.overrides.weights.remove(&id(*who))),
            Self::Health(who, v6, up) => {
                let family = Family::ALL[usize::from(*v6)];
                let status = if *up { Status::Up } else { Status::Down };
                world.health.entry(id(*who)).or_default().set(family, status);
            }
            Self::Full(full) => {
                let sessions: BTreeMap<_, _> =
                    world.config.backends().map(|(id, ..)| (id, 10 * u64::from(*full))).collect();
                world.load.observe(&world.config, &sessions);
            }
            Self::Routes(bits) => world.routes = routes(&world.config, *bits),
            Self::Release => world.released = Registry::of(&world.tables).retired(),
        }
    }
}

/// Two routers on two interfaces, of which not all may be there, resolved or used.
fn routes(config: &Config, [there, resolved, mac, used]: [u8; 4]) -> RouteView {
    let bit = |bits: u8, n: u32| bits >> n & 1 == 1;
    let mut view = RouteView::default();
    let keys = [0, 1]
        .map(|n| HopKey { interface: 2 + n, neighbour: IpAddr::from([192, 0, 2, n as u8 + 1]) });
    for (n, key) in (0..).zip(keys) {
        if bit(there, n) {
            let hop = NextHop {
                ifindex: key.interface,
                mtu: 1500,
                dst_mac: [2, 0, 0, 0, 0, mac >> (4 * n) & 3],
                src_mac: [2; 6],
                vlan: None,
                resolved: bit(resolved, n),
            };
            view.hops.insert(key, hop);
        }
        if bit(there, 2 + n) {
            view.devices.insert(key.interface);
        }
        if bit(there, 4 + n) {
            let address = IpAddr::from([198, 51, n as u8, 0]);
            view.routes.insert(Prefix { address, length: 24 }, keys[usize::from(bit(used, n))]);
        }
    }
    for (n, (_, _, backend)) in (2..8).zip(config.backends()) {
        view.backends.insert(backend.address, keys[usize::from(bit(used, n))]);
    }
    view
}

//! Whatever changes, and wherever it is interrupted: the tables never refer to what is not
//! there, and an index never means another thing while a session may refer to it.

use std::collections::BTreeSet;

use dataplane::abi::{
    ENDPOINT_ACCEPTS, ENDPOINT_DIRECT, ENDPOINT_LIVE, Encapsulation, Endpoint, KIND_AGENT,
    KIND_BACKEND, KIND_ENDPOINT, KIND_LISTENER, KIND_SERVER, KIND_TUNNEL, KIND_VIP, NAME_LISTENER,
    NAME_POOL, NAME_SERVICE, NAME_TENANT, NO_NEXTHOP, NO_RING, POOL_STRIDE,
};
use proptest::prelude::*;
use proptest::sample::Index;

use super::World;
use super::events::{Event, Plan, any_event, any_plan};
use crate::config::{BackendId, Config};
use crate::model::{Registry, Wanted, apply};

/// Flags of an endpoint that gets new sessions.
const LIVES: u8 = ENDPOINT_LIVE | ENDPOINT_ACCEPTS;

/// What is referred to is there; also the names of what a session may refer to.
fn complete(tables: &Wanted, released: &BTreeSet<u32>) -> Result<(), TestCaseError> {
    let registry = Registry::of(tables);
    for (key, entry) in &tables.directory {
        match entry.kind {
            KIND_LISTENER | KIND_VIP => {
                prop_assert!((entry.kind == KIND_VIP) == (key.port == 0));
                if entry.ring == NO_RING {
                    continue;
                }
                let ring = tables.rings.get(&entry.ring);
                prop_assert!(ring.is_some(), "no ring for {:?}", entry);
                let ordinals: BTreeSet<_> =
                    ring.into_iter().flat_map(|ring| ring.ordinals()).collect();
                for ordinal in ordinals {
                    let at = entry.listener() * POOL_STRIDE + u32::from(*ordinal);
                    let flags =
                        tables.endpoints.get(&at).map(|row| row.flags & (LIVES | ENDPOINT_DIRECT));
                    // Never translated where answers go another way, or the other way around.
                    let kind = if entry.is_direct() { ENDPOINT_DIRECT } else { 0 };
                    let good = Some(LIVES | kind);
                    prop_assert_eq!(flags, good, "endpoint {} in ring {}", at, entry.ring);
                }
            }
            KIND_ENDPOINT => {
                let row = tables.endpoints.get(&entry.index);
                let is = row.map(|row| (row.backend, row.backend_port));
                prop_assert_eq!(is, Some((key.address, key.port)), "endpoint {}", entry.index);
            }
            KIND_BACKEND => {
                prop_assert_eq!(key.port, 0);
                let row = tables.endpoints.get(&entry.index);
                let is_it = row.is_some_and(|row| row.backend == key.address);
                prop_assert!(is_it || entry.index == u32::MAX, "endpoint {}", entry.index);
            }
            KIND_TUNNEL => {
                let row = tables.endpoints.get(&entry.index);
                let is_it = row.is_some_and(|row| row.backend == key.address);
                prop_assert!(is_it, "endpoint {}", entry.index);
            }
            KIND_AGENT => {
                let of_pool =
                    |row: &Endpoint| u32::from(row.source) / 2 == entry.index / POOL_STRIDE;
                prop_assert!(tables.endpoints.values().any(of_pool), "agent {}", entry.index);
            }
            KIND_SERVER => {
                let is_it = |(at, row): (&u32, &Endpoint)| {
                    at % POOL_STRIDE == entry.index && row.service == key.port
                };
                prop_assert!(tables.endpoints.iter().any(is_it), "server {:?}", key);
            }
            kind => prop_assert!(false, "an entry of kind {}", kind),
        }
    }
    for (index, row) in &tables.endpoints {
        let hop = row.nexthop;
        prop_assert!(hop == NO_NEXTHOP || tables.nexthops.contains_key(&hop), "{:?}", row);
        let is_tunnel =
            row.encapsulation > Encapsulation::None as u8 && row.flags & ENDPOINT_LIVE != 0;
        prop_assert!(!is_tunnel || tables.sources.contains_key(&row.source), "{:?}", row);
        prop_assert!(tables.tenants.contains_key(&row.tenant.into()), "{:?}", row);
        let names = registry.endpoint(*index).expect("it is there");
        let all = [&names.tenant, &names.service, &names.listener, &names.backend.name];
        let is_known = all.iter().all(|name| !name.is_empty());
        prop_assert!(is_known || released.contains(index), "{}: {:?}", index, names);
    }
    for (prefix, hop) in &tables.routes {
        prop_assert!(tables.nexthops.contains_key(hop), "{:?}", prefix);
    }
    for known in tables.nexthops.values().filter(|known| known.hop.resolved) {
        prop_assert!(tables.devices.contains(&known.hop.ifindex), "{:?}", known);
    }
    Ok(())
}

/// Endpoints that no session refers to mean nothing; all others mean what they did.
fn same_meaning(
    before: &Wanted,
    after: &Wanted,
    released: &BTreeSet<u32>,
) -> Result<(), TestCaseError> {
    let identity = |row: &Endpoint| {
        (row.backend, row.backend_port, row.vip, row.vip_port, row.tenant, row.service, row.profile)
    };
    for (index, row) in before.endpoints.iter().filter(|(index, _)| !released.contains(index)) {
        let now = after.endpoints.get(index).map(identity);
        prop_assert_eq!(now, Some(identity(row)), "endpoint {}", index);
        let names = [before, after].map(|tables| Registry::of(tables).endpoint(*index));
        prop_assert_eq!(&names[0], &names[1], "endpoint {}", index);
    }
    Ok(())
}

/// What stays configured as it is keeps its index.
fn same_indexes(
    (old, before): (&Config, &Wanted),
    (new, after): (&Config, &Wanted),
) -> Result<(), TestCaseError> {
    let (before, after) = (Registry::of(before), Registry::of(after));
    for kind in [NAME_TENANT, NAME_SERVICE, NAME_POOL] {
        for (index, name) in before.live(kind) {
            let now = after.index(kind, name);
            prop_assert!(now.is_none_or(|now| now == index), "{}: {} -> {:?}", name, index, now);
        }
    }
    for service in &old.services {
        let same = |new: &crate::config::Service| {
            (&new.tenant, &new.pool) == (&service.tenant, &service.pool)
        };
        let Some(new) = new.service(&service.name).filter(|new| same(new)) else { continue };
        for listener in service.listen.iter().filter(|listener| new.listen.contains(listener)) {
            let name = listener.to_string();
            let indexes = [before, after].map(|r| r.index(NAME_LISTENER, &name));
            prop_assert!(
                indexes[0].is_none() || indexes[0] == indexes[1],
                "{}: {:?}",
                name,
                indexes
            );
        }
    }
    for (id, pool, backend) in old.backends() {
        let same = |(new_pool, new): (&crate::config::Pool, &crate::config::Backend)| {
            new == backend && (new_pool.mode, new_pool.tunnel) == (pool.mode, pool.tunnel)
        };
        if new.backend(&id).is_some_and(same) {
            let live = |registry: &Registry<'_>| -> BTreeSet<u32> {
                let all = registry.endpoints_of(&id);
                all.difference(&registry.retired()).map(|index| index % POOL_STRIDE).collect()
            };
            let (was, is) = (live(&before), live(&after));
            prop_assert!(
                was.is_empty() || is.is_empty() || was == is,
                "{}: {:?} {:?}",
                id,
                was,
                is
            );
        }
    }
    Ok(())
}

/// Lets something happen, and carries out the steps, all or the first of them.
fn live_through(
    world: &mut World,
    event: &Event,
    stop: Option<Index>,
) -> Result<(), TestCaseError> {
    let (old, before) = (world.config.clone(), world.tables.clone());
    let was_settled = world.steps().is_empty();
    event.happen(world);
    let released = &world.released & &Registry::of(&before).retired();
    let wanted = world.wanted().expect("there is room");
    let steps = world.steps();
    let count = stop.map_or(steps.len(), |stop| stop.index(steps.len() + 1));
    let mut written = world.tables.clone();
    for (done, step) in steps[..count].iter().enumerate() {
        apply(&mut world.tables, std::slice::from_ref(step), &mut written).expect("in memory");
        let place = |e: TestCaseError| {
            TestCaseError::fail(format!("after step {done} of {}, {step:?}: {e}", steps.len()))
        };
        complete(&world.tables, &released).map_err(place)?;
        same_meaning(&before, &world.tables, &released).map_err(place)?;
    }
    // As the daemon does: what is in use again was not released.
    world.released = &world.released & &Registry::of(&world.tables).retired();
    prop_assert_eq!(&world.tables, &written, "what the daemon takes for written is");
    if count == steps.len() {
        prop_assert_eq!(&world.tables, &wanted);
        prop_assert_eq!(world.steps(), Vec::new(), "it is what it should be");
        if was_settled {
            same_indexes((&old, &before), (&world.config, &world.tables))?;
        }
    }
    Ok(())
}

fn lives(plan: &Plan, events: &[(Event, Option<Index>)]) -> Result<(), TestCaseError> {
    let mut world = World::new(&plan.text());
    live_through(&mut world, &Event::Configure(plan.clone()), None)?;
    for (event, stop) in events {
        live_through(&mut world, event, *stop)?;
    }
    // Whatever was interrupted is made good, and all that is gone is let go of in the end.
    live_through(&mut world, &Event::Nothing, None)?;
    live_through(&mut world, &Event::Release, None)?;
    prop_assert_eq!(Registry::of(&world.tables).retired(), BTreeSet::new());
    let known = |id: &BackendId| world.config.backend(id).is_some();
    for index in world.tables.endpoints.keys() {
        let names = Registry::of(&world.tables).endpoint(*index).expect("it is there");
        prop_assert!(known(&names.backend), "{:?}", names);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_prefix_of_every_change_is_safe(
        plan in any_plan(),
        events in proptest::collection::vec((any_event(), any::<Option<Index>>()), 0..12),
    ) {
        lives(&plan, &events)?;
    }
}

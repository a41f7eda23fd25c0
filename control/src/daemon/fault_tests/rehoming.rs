//! The end of a drain, and a backend's death: sessions are ended, so that their clients come back on others.

use std::time::Duration;

use dataplane::fault;

use super::world::World;
use crate::clock::Moment;
use crate::config::BackendId;
use crate::daemon::state::State;
use crate::model::{AddressHealth, Drain, Probed, ProbedView, Status};

/// Sessions on the backend that is left, and on the other.
const LEFT: usize = 2;
const OTHERS: usize = 3;
/// Over how long a drain's end is spread.
const SPREAD: u64 = 10;

fn backend() -> BackendId {
    BackendId::new("wg", "wg-1")
}

/// What becomes of a backend: how it begins, and how it is taken back.
trait Event {
    /// What led to it, before anybody dies.
    fn prepare(&self, world: &World, state: &mut State);
    /// What a daemon does of it, and how long that takes. Another begins again, or goes on.
    fn happen(&self, world: &World, state: &mut State);
    /// Whether it is known to have happened.
    fn has_happened(&self, state: &State) -> bool;
    /// Looks where a client gets to that was left.
    fn is_elsewhere(&self, world: &World, client: usize);
    /// It is as before.
    fn over(&self, world: &World, state: &mut State);
}

/// The deadline of a drain, which comes after five seconds.
struct Deadline;

impl Event for Deadline {
    fn prepare(&self, world: &World, state: &mut State) {
        let deadline = Some(Moment::after(&world.now.borrow(), Duration::from_secs(5)));
        let drain = Drain { deadline, spread: SPREAD, released: false };
        state.overrides.drained.insert(backend(), drain);
        world.save(state);
        state.reconcile().unwrap();
        world.pass(5);
    }

    fn happen(&self, world: &World, state: &mut State) {
        world.tick(state);
        world.pass(SPREAD / 2);
        world.tick(state);
        world.pass(SPREAD / 2 + 1);
        world.tick(state);
    }

    fn has_happened(&self, state: &State) -> bool {
        state.overrides.drained[&backend()].released
    }

    fn is_elsewhere(&self, world: &World, client: usize) {
        assert_eq!(world.lead(client), Some(1));
        assert!(!world.answers(client), "its old backend does not get it back");
    }

    fn over(&self, world: &World, state: &mut State) {
        state.overrides.drained.clear();
        world.save(state);
    }
}

/// Its probes find it dead.
struct Death;

impl Death {
    fn learn(state: &mut State, status: Status, fails: bool) {
        let mut found = Probed::known(AddressHealth::default());
        found.set(crate::config::Family::V4, status, fails);
        if state.learn(ProbedView::from([(backend(), found)])) {
            state.reconcile().unwrap();
        }
    }
}

impl Event for Death {
    fn prepare(&self, _: &World, _: &mut State) {}

    fn happen(&self, world: &World, state: &mut State) {
        Self::learn(state, Status::Down, true);
        world.tick(state);
        world.pass(1);
        world.tick(state);
    }

    fn has_happened(&self, state: &State) -> bool {
        state.health.get(&backend()).is_some_and(|h| h.overall() == Status::Down)
    }

    fn is_elsewhere(&self, world: &World, client: usize) {
        assert_eq!(world.lead(client), Some(1));
    }

    fn over(&self, _: &World, state: &mut State) {
        Self::learn(state, Status::Up, false);
    }
}

/// Lets a daemon die before each of its writes.
fn die_everywhere(world: &mut World, event: &dyn Event) {
    let mut state = world.start();
    let others = sessions_of(&state);
    for writes in 0.. {
        (0..LEFT).for_each(|_| world.join(0));
        world.tick(&mut state);
        world.talk_on(0);
        event.prepare(world, &mut state);
        let lived = fault::within(writes, || event.happen(world, &mut state)).is_some();
        drop(state);
        // Nobody is there, and the others' packets go on.
        world.talk_on(1);

        state = world.start();
        event.happen(world, &mut state);
        assert!(event.has_happened(&state));
        // The rest of quarantine.
        world.pass(1);
        world.tick(&mut state);
        world.talk_on(1);
        world.is_settled(&mut state);
        world.is_accounted(&state);
        assert_eq!(sessions_of(&state), others, "after {writes} writes");
        for n in (0..world.clients.len()).filter(|n| world.clients[*n].backend == 0) {
            event.is_elsewhere(world, n);
        }
        world.clients.retain(|client| client.backend == 1);
        event.over(world, &mut state);
        state.reconcile().unwrap();
        if lived {
            assert!(writes > 20 * LEFT, "{writes}");
            assert_eq!(state.verify().unwrap(), (Vec::new(), 0));
            break;
        }
    }
}

/// Identities of the open sessions, and where they are.
fn sessions_of(state: &State) -> Vec<(u64, u32)> {
    let all = crate::sessions::Reader::new(&*state.tables).list();
    all.into_iter().map(|s| (s.identity, s.endpoint)).collect()
}

#[test]
fn a_daemon_that_dies_at_any_write_of_a_drains_end_or_a_backends_death_is_made_good_by_the_next() {
    let mut world = World::new("rehoming");
    drop(world.start());
    (0..OTHERS).for_each(|_| world.join(1));
    die_everywhere(&mut world, &Deadline);
    die_everywhere(&mut world, &Death);
    world.pins.remove().unwrap();
}

//! Sessions moved to other tables: what happened while two programs were at work is carried over, under packets.

use std::collections::BTreeSet;
use std::sync::Arc;

use aya::programs::Xdp;
use dataplane::fault;
use dataplane::table::carry;

use super::world::{Client, World, counted, pinned_program};
use crate::daemon::growth;
use crate::daemon::state::State;
use crate::loader::{Found, PacketLog, Sizes, Tables, Writer, find};
use crate::migration::Migration;
use crate::sessions::Reader;

const SMALL: Sizes = Sizes { slots: 8192, overflow: 256, ids: 4096, hints: 64 };
const LARGE: Sizes = Sizes { slots: 16384, ids: 8192, ..SMALL };
/// Clients that stay.
const CLIENTS: usize = 6;
/// Steps of a move that was interrupted when the new tables were in their place: sessions are carried in the first, and in the last.
const STEPS: usize = 5;

/// A gateway whose sessions are in two tables, each with its program.
struct Moving {
    world: World,
    old: Arc<Tables>,
    /// Packets meet this one instead of the world's, which is the old one.
    new: Xdp,
    /// One whose handshake has begun with the old program.
    pending: Option<Client>,
}

impl Moving {
    /// A move of these clients' sessions up to where the new tables are in their place: of another version's, or of smaller ones.
    fn begin(world: World, foreign: bool) -> Self {
        let Found::Own(old) = find(&world.bpffs).unwrap() else { panic!("no tables") };
        let old = Arc::new(*old);
        let held = Writer::open(&world.pins, Arc::clone(&old)).unwrap().read().unwrap();
        let grown = Migration::grow(&world.bpffs, &held, LARGE, PacketLog::Off);
        let (mut migration, _) = grown.unwrap();
        while !migration.is_committed() {
            assert!(migration.advance().unwrap());
        }
        if foreign {
            // As another version would have left it. What tables hold is told by themselves.
            let from = world.pins.predecessor().unwrap();
            world.pins.set_predecessor(None).unwrap();
            let other = from.renamed("v7").unwrap();
            world.pins.set_predecessor(Some(&other)).unwrap();
        }
        let new = pinned_program(&world.pins);
        Self { world, old, new, pending: None }
    }

    /// What the next daemon does.
    fn resume(&self) -> Migration {
        let Found::Moving(tables, old) = find(&self.world.bpffs).unwrap() else { panic!("over") };
        let tables = Arc::new(*tables);
        growth::mend(&tables);
        let writer = Writer::open(&self.world.pins, Arc::clone(&tables)).unwrap();
        let held = writer.read().unwrap();
        Migration::resume(&self.world.bpffs, *old, tables, &held, PacketLog::Off).unwrap()
    }

    /// What happens with the new tables' program.
    fn there(&mut self, what: impl FnOnce(&mut World)) {
        std::mem::swap(&mut self.world.program, &mut self.new);
        what(&mut self.world);
        std::mem::swap(&mut self.world.program, &mut self.new);
    }

    /// What becomes of sessions while two programs are at work. All but the first clients are new.
    fn life(&mut self, round: usize) {
        let world = &mut self.world;
        world.talk(0);
        world.roam(1);
        world.rekey(2);
        world.join(round % 2);
        if let Some(client) = self.pending.take() {
            world.open(client);
        }
        self.pending = Some(world.knock());
        let other = world.knock();
        self.there(|world| {
            world.talk(0);
            world.roam(3);
            world.rekey(4);
            world.open(other);
        });
    }

    /// All sessions are in the new tables, each once, as they are.
    fn is_whole(&mut self, migration: &Migration) {
        let tables = migration.tables();
        let writer = Writer::open(&self.world.pins, Arc::clone(tables)).unwrap();
        let (config, routes) = (self.world.config.clone(), Arc::clone(&self.world.routes));
        let overrides = Default::default();
        let state = State::new(config, overrides, routes, Arc::clone(tables), writer).unwrap();
        counted(&state);
        let all = || Reader::new(&**tables).all().partition::<Vec<_>, _>(|s| s.is_open());
        let (open, tentative) = all();
        let ats: BTreeSet<_> = self.world.clients.iter().map(|client| client.at).collect();
        assert_eq!(open.iter().map(|session| session.client).collect::<BTreeSet<_>>(), ats);
        assert_eq!(open.len(), ats.len(), "{open:#?}");
        assert_eq!(
            tentative.iter().map(|session| session.client).collect::<Vec<_>>(),
            self.pending.iter().map(|client| client.at).collect::<Vec<_>>()
        );
        let (tenant, sessions) = (&tables.tenants[0], open.len() as u64);
        let counts = [tenant.sessions.load(), tenant.tentative.load()];
        assert_eq!((counts, tables.settings().used.load()), ([sessions, 1], sessions + 1));
        let borrowed = sessions.saturating_sub(tenant.guaranteed.get());
        assert_eq!(tables.settings().borrowed.load(), borrowed);
        self.there(|world| {
            (0..world.clients.len()).for_each(|n| world.talk(n));
            // Their ids have come with them.
            (CLIENTS..world.clients.len()).for_each(|n| world.roam(n));
        });
        assert_eq!(all().0.len(), ats.len());
    }

    /// The sessions of all but the first clients end everywhere.
    fn leave(&mut self, tables: &Tables) {
        for client in self.world.clients.drain(CLIENTS..) {
            let mut all = Reader::new(tables).all();
            let identity = all.find(|session| session.client == client.at).unwrap().identity;
            for tables in [tables, &self.old] {
                // Of one that opened with the new program the old one knows the handshake.
                let session = Reader::new(tables).find(identity).unwrap();
                let slot = &tables.slots[session.index as usize];
                assert!(carry::retire(tables.settings(), &tables.tenants[0], slot, session.word));
            }
        }
    }
}

#[test]
fn a_daemon_that_dies_at_any_write_of_what_is_carried_over_is_made_good_by_the_next() {
    dies_at_each_write(World::of("moving", SMALL), false);
}

#[test]
fn so_is_one_that_dies_at_any_write_of_what_it_takes_over_from_another_version() {
    dies_at_each_write(World::of("taking", SMALL), true);
}

fn dies_at_each_write(mut world: World, foreign: bool) {
    let state = world.start();
    (0..CLIENTS).for_each(|n| world.join(n % 2));
    drop(state);
    let mut moving = Moving::begin(world, foreign);
    // Of the first pass nobody knows what it carried before.
    for step in [0, STEPS - 1] {
        for writes in 0.. {
            let mut migration = moving.resume();
            (0..step).for_each(|_| assert!(migration.advance().unwrap()));
            moving.life(writes);
            let lived = fault::within(writes, || migration.advance().unwrap()).is_some();
            drop(migration);
            // Nobody is there, and both programs forward on.
            moving.world.talk(5);
            moving.there(|world| world.talk(5));

            let mut migration = moving.resume();
            (0..STEPS).for_each(|_| assert!(migration.advance().unwrap()));
            moving.is_whole(&migration);
            moving.leave(migration.tables());
            if lived {
                assert!(writes > 50, "{writes}");
                break;
            }
        }
    }
    // And the rest of it.
    let Moving { world, .. } = moving;
    let mut state = world.start();
    assert_eq!(state.verify().unwrap(), (Vec::new(), 0));
    assert_eq!(state.tables.sizes(), LARGE);
    world.pins.remove().unwrap();
}

//! How far probes are believed: what a guard must never do, and what it must.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::config::{BackendId, Config, Family};
use crate::health::Streak;
use crate::model::{
    AddressHealth, Drain, Guard, HealthView, Judgement, Load, Overrides, Probed, ProbedView,
    Silent, Status,
};

const INTERVAL: Duration = Duration::from_secs(1);

fn config(backends: usize, health: &str) -> Config {
    let mut text = format!(
        "[gateway]\ninterfaces = [\"eth0\"]\n[[tenant]]\nname = \"t\"\nmax_sessions = 9\n\
         [[service]]\nname = \"s\"\ntenant = \"t\"\nprofile = \"udp\"\nlisten = [\"203.0.113.1:1/udp\"]\npool = \"p\"\n\
         [[pool]]\nname = \"p\"\nhealth = {{ probe = \"icmp\", {health} }}\n"
    );
    for n in 0..backends {
        write!(
            text,
            "[[pool.backend]]\nname = \"b{n}\"\naddress = \"10.0.0.{n}\"\naddress6 = \"fd00::1:{n}\"\n"
        )
        .unwrap();
    }
    Config::parse(&text, "test").unwrap()
}

fn id(n: usize) -> BackendId {
    BackendId::new("p", &format!("b{n}"))
}

/// These do not answer their sessions, and others do.
fn alone(backends: impl IntoIterator<Item = usize>) -> Silent {
    let all: BTreeSet<_> = backends.into_iter().map(id).collect();
    Silent { avoided: all.clone(), alone: all.clone(), all }
}

/// A pool, its probes, and what is believed of it.
struct World {
    config: Config,
    now: Instant,
    streaks: Vec<Streak>,
    guard: Guard,
    overrides: Overrides,
    load: Load,
    believed: Judgement,
}

impl World {
    fn new(backends: usize, health: &str) -> Self {
        let config = config(backends, health);
        Self {
            config,
            now: Instant::now(),
            streaks: vec![Streak::known(Status::Up); backends],
            guard: Guard::default(),
            overrides: Overrides::default(),
            load: Load::default(),
            believed: Judgement::default(),
        }
    }

    fn probe(&mut self, n: usize, good: bool) {
        let timing = self.config.pools[0].health.probing().unwrap().timing;
        self.streaks[n].observe(good, timing.rise, timing.fall);
        self.judge();
    }

    fn probed(&self) -> ProbedView {
        let probed = |(n, streak): (usize, &Streak)| {
            let mut probed = Probed::default();
            probed.set(Family::V4, streak.status(), streak.fails());
            (id(n), probed)
        };
        self.streaks.iter().enumerate().map(probed).collect()
    }

    fn judge(&mut self) {
        let (before, probed) = (&self.believed.health, self.probed());
        let (overrides, load) = (&self.overrides, &self.load);
        self.believed = self.guard.judge(self.now, &self.config, &probed, before, overrides, load);
    }

    /// Some seconds, in which each is probed once, one after the other; those are good that `answers` says.
    fn seconds(&mut self, seconds: usize, answers: impl Fn(usize) -> bool) {
        let all = self.streaks.len();
        for _ in 0..seconds {
            for n in 0..all {
                self.now += INTERVAL / all as u32;
                self.probe(n, answers(n));
                self.check();
            }
        }
    }

    fn down(&self) -> Vec<usize> {
        let is_down = |n: &usize| {
            let health = self.believed.health.get(&id(*n));
            health.is_some_and(|health| health.of(Family::V4) == Status::Down)
        };
        (0..self.streaks.len()).filter(is_down).collect()
    }

    fn held(&self) -> usize {
        self.believed.held.len()
    }

    /// What always holds.
    fn check(&self) {
        let most = self.config.pools[0].health.probing().unwrap().max_down.of(self.streaks.len());
        assert!(self.down().len() <= most, "{:?} of at most {most}", self.down());
        for n in self.down() {
            assert_eq!(self.streaks[n].status(), Status::Down);
        }
        let down = self.streaks.iter().filter(|streak| streak.status() == Status::Down).count();
        assert_eq!(self.held(), down - self.down().len());
    }
}

#[test]
fn who_dies_is_taken_down_at_once_while_others_answer() {
    for (backends, most) in [(1, 0), (2, 1), (3, 2), (10, 7)] {
        let mut world = World::new(backends, "fall = 3");
        for dead in 1..=most {
            world.seconds(3, |n| n >= dead);
            assert_eq!(world.down(), (0..dead).collect::<Vec<_>>(), "of {backends}");
            assert_eq!(world.held(), 0);
        }
        // Beyond the share nobody is, and all come back as they answer.
        world.seconds(60, |n| n > most);
        assert_eq!((world.down().len(), world.held()), (most, 1), "of {backends}");
        world.seconds(3, |_| true);
        assert_eq!((world.down().len(), world.held()), (0, 0), "of {backends}");
    }
}

#[test]
fn one_that_died_meanwhile_is_taken_down_when_it_alone_goes_on_failing() {
    let mut world = World::new(4, "fall = 3");
    world.seconds(20, |_| false);
    assert_eq!((world.down(), world.held()), (vec![], 4));
    world.seconds(2, |n| n == 0 || n == 3);
    assert_eq!((world.down(), world.held()), (vec![], 2), "the others have the time to come back");
    world.seconds(5, |n| n == 0 || n == 3);
    assert_eq!((world.down(), world.held()), (vec![1, 2], 0));
}

#[test]
fn who_was_down_stays_down_and_over_a_restart() {
    let mut world = World::new(3, "fall = 3");
    world.seconds(3, |n| n != 1);
    world.seconds(10, |_| false);
    assert_eq!((world.down(), world.held()), (vec![1], 2));
    // The tables tell a new daemon who was down; of the others nothing is known until they are probed.
    let tables = HealthView::from([(id(1), {
        let mut health = AddressHealth::default();
        health.set(Family::V4, Status::Down);
        health
    })]);
    let known = |n| tables.get(&id(n)).map_or(Status::Unknown, |health| health.of(Family::V4));
    let mut after = World::new(3, "fall = 3");
    after.streaks = (0..3).map(|n| Streak::known(known(n))).collect();
    after.believed.health = tables.clone();
    after.seconds(10, |_| false);
    assert_eq!((after.down(), after.held()), (vec![1], 2));
    after.seconds(2, |_| true);
    assert_eq!((after.down(), after.held()), (vec![], 0));
}

/// Who fails and does not answer its sessions either, while others do, is dead; and never more than the share.
#[test]
fn sessions_are_the_second_witness() {
    let mut world = World::new(4, "fall = 3, max_down = \"50%\"");
    world.seconds(10, |n| n == 3);
    assert_eq!((world.down(), world.held()), (vec![], 3));
    world.load.set_silent(alone([0, 2]));
    world.judge();
    assert_eq!((world.down(), world.held()), (vec![0, 2], 1));
    world.load.set_silent(alone([0, 1, 2]));
    world.seconds(5, |n| n == 3);
    assert_eq!((world.down(), world.held()), (vec![0, 2], 1));
    // Silent while nobody of the pool was answered: no witness, though not all are.
    for silent in [3, 2] {
        let mut world = World::new(3, "fall = 3");
        world.seconds(10, |_| false);
        world.load.set_silent(Silent { alone: BTreeSet::new(), ..alone(0..silent) });
        world.seconds(5, |_| false);
        assert_eq!((world.down(), world.held()), (vec![], 3));
    }
}

/// Those that are switched off for repair take nobody's place among those that may go down.
#[test]
fn who_is_drained_and_empty_is_no_part_of_the_pool() {
    let drain = |world: &mut World, sessions: u64| {
        world.overrides.drained = (0..3).map(|n| (id(n), Drain::default())).collect();
        let sessions = (0..5).map(|n| (id(n), if n < 3 { sessions } else { 9 })).collect();
        world.load.observe(&world.config, &sessions);
    };
    let mut world = World::new(5, "fall = 3");
    drain(&mut world, 0);
    for _ in 0..10 {
        for n in 0..5 {
            world.now += INTERVAL / 5;
            world.probe(n, n == 4);
        }
    }
    assert_eq!((world.down(), world.held()), (vec![0, 1, 2, 3], 0));
    // Those that have sessions left are protected like any other.
    let mut world = World::new(5, "fall = 3");
    drain(&mut world, 1);
    world.seconds(10, |n| n == 4);
    assert_eq!((world.down(), world.held()), (vec![], 4));
}

#[test]
fn a_family_is_held_for_itself() {
    let config = config(2, "fall = 3");
    let mut guard = Guard::default();
    let mut found = Probed::known(AddressHealth::both(Status::Up));
    found.set(Family::V6, Status::Down, true);
    let both = ProbedView::from([(id(0), found), (id(1), found)]);
    let (none, load) = (Overrides::default(), Load::default());
    let judged = guard.judge(Instant::now(), &config, &both, &HealthView::new(), &none, &load);
    assert_eq!(judged.held, [(id(0), Family::V6), (id(1), Family::V6)].into());
    assert!(judged.health.values().all(|health| !health.is_impaired()));
    let mut four = found;
    four.set(Family::V4, Status::Down, true);
    let one = ProbedView::from([(id(0), four), (id(1), found)]);
    let judged = guard.judge(Instant::now(), &config, &one, &judged.health, &none, &load);
    assert_eq!(judged.health[&id(0)].of(Family::V4), Status::Down);
    assert_eq!(judged.held, [(id(0), Family::V6), (id(1), Family::V6)].into());
}

#[test]
fn a_whole_pool_may_go_if_it_is_said_so_and_none_if_it_is_said_so() {
    let mut all = World::new(3, "fall = 2, max_down = \"100%\"");
    all.seconds(2, |_| false);
    assert_eq!((all.down().len(), all.held()), (3, 0));
    let mut none = World::new(3, "fall = 2, max_down = \"0%\"");
    none.seconds(30, |n| n != 1);
    assert_eq!((none.down().len(), none.held()), (0, 1));
}

proptest! {
    /// Whatever probes find, in whatever order: never more than the share is down, only who is down by its probes, and who is
    /// neither down nor held answers.
    #[test]
    fn never_more_than_the_share(
        backends in 1..7_usize,
        share in 0..=100_u8,
        probes in proptest::collection::vec((0..7_usize, any::<bool>(), 0..3000_u64), 0..300),
        silent in proptest::collection::btree_set(0..7_usize, 0..7),
    ) {
        let mut world = World::new(backends, &format!("fall = 2, max_down = \"{share}%\""));
        world.load.set_silent(alone(silent));
        for (n, good, later) in probes {
            world.now += Duration::from_millis(later);
            let before = world.down();
            world.probe(n % backends, good);
            world.check();
            // Who is down stays down until it answers.
            let back = before.iter().filter(|n| !world.down().contains(n));
            prop_assert!(back.into_iter().all(|n| world.streaks[*n].status() == Status::Up));
            // Judged again, nothing changes.
            let (judged, guard) = (world.believed.clone(), world.guard.clone());
            world.judge();
            prop_assert_eq!((&judged, &guard), (&world.believed, &world.guard));
        }
    }

    /// The way of all probes is cut, at any moment, for any time: nobody is taken down, also not while it comes back.
    #[test]
    fn a_cut_takes_nobody_down(
        backends in 1..12_usize,
        fall in 2..5_usize,
        rise in 1..4_usize,
        whole in 0..10_usize,
        cut in 1..30_usize,
        turns in 0..12_usize,
    ) {
        let mut world = World::new(backends, &format!("fall = {fall}, rise = {rise}"));
        world.seconds(whole, |_| true);
        // In the middle of a round.
        let some = turns % backends;
        for n in 0..some {
            world.probe(n, true);
        }
        for n in some..backends {
            world.probe(n, false);
        }
        for _ in 0..cut {
            world.seconds(1, |_| false);
            prop_assert!(world.down().is_empty());
        }
        for n in 0..backends {
            world.probe(n, n < some);
        }
        for _ in 0..10 {
            world.seconds(1, |_| true);
            prop_assert!(world.down().is_empty());
        }
        prop_assert_eq!(world.held(), 0);
    }

    /// Single probes are lost all the time: only who is dead is taken down, and it is.
    #[test]
    fn chance_takes_nobody_down_and_hides_nobody(
        seed in any::<u64>(), backends in 3..12_usize, dead in 0..12_usize,
    ) {
        let mut world = World::new(backends, "fall = 3");
        let dead = dead % backends;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut lost = vec![0; backends];
        for second in 0..40 {
            for (n, lost) in lost.iter_mut().enumerate() {
                // Never so many in a row that it looks dead.
                *lost = if *lost < 2 && random.u8(..) < 20 { *lost + 1 } else { 0 };
                world.now += INTERVAL / backends as u32;
                world.probe(n, n != dead && *lost == 0);
                world.check();
            }
            prop_assert!(world.down().iter().all(|n| *n == dead), "{second} {:?}", world.down());
        }
        prop_assert_eq!(world.down(), vec![dead]);
    }
}

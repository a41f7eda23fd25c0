//! Backends that no longer answer, told without a probe: by their sessions.
//!
//! Which share of the sessions that sent something in a second is answered in it differs: a client's keepalives are not answered at all.
//! So it is learned for each backend. One is silent when answers that should have come by that share did not, and so many that
//! chance is no explanation; the first answer ends it.
//!
//! A backend that is silent gets no new sessions, so it may come to have nobody whom it could answer, or nobody but a client that it does not know any
//! more. So from time to time it is tried: it gets new sessions like any other for as long as a client waits before it asks again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::config::{Backend, BackendId, Config, Pool};
use crate::model::Silent;

/// Answers that were to be expected, of which none came: by chance once in a million seconds.
const EXPECTED: f64 = 14.0;
/// The shortest silence, and that where agents tell of answers, which may take ten seconds.
const SHORTEST: Duration = Duration::from_secs(3);
const SHORTEST_TOLD: Duration = Duration::from_secs(20);
/// What is learned is forgotten at this rate, each time that something is learned.
const KEPT: f64 = 0.99;
/// Sessions that must have asked before anything is concluded.
const LEAST: f64 = 20.0;
/// How often one that is silent is tried, and for how long: WireGuard's clients ask again after five seconds, and others later.
const TRIED_EVERY: Duration = Duration::from_secs(300);
const TRIED_FOR: Duration = Duration::from_secs(5);

/// How many sessions of a backend sent something since the last time, and how many were sent something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Of clients.
    pub(super) asked: u64,
    /// Of the backend.
    pub(super) answered: u64,
}

/// What is known of all backends.
#[derive(Debug, Default)]
pub(super) struct Silences(BTreeMap<BackendId, Hearing>);

#[derive(Debug, Default)]
struct Hearing {
    /// The share, as two sums.
    asked: f64,
    answered: f64,
    /// The time without any answer.
    silence: Option<Silence>,
}

#[derive(Debug)]
struct Silence {
    since: Instant,
    /// How many asked.
    asked: u64,
    /// How many of them while others of the pool were answered.
    asked_alone: u64,
    /// From when on it is too long for chance.
    found: Option<Instant>,
    is_alone: bool,
}

impl Hearing {
    fn hear(&mut self, now: Instant, heard: Heard, others_answer: bool, shortest: Duration) {
        if heard.answered > 0 {
            let before = self.silence.take().map_or(0, |silence| silence.asked);
            self.asked = self.asked * KEPT + (before + heard.asked) as f64;
            self.answered = (self.answered * KEPT + heard.answered as f64).min(self.asked);
        } else if heard.asked > 0 {
            let new =
                Silence { since: now, asked: 0, asked_alone: 0, found: None, is_alone: false };
            let silence = self.silence.get_or_insert(new);
            silence.asked += heard.asked;
            silence.asked_alone += if others_answer { heard.asked } else { 0 };
            let share = if self.asked < LEAST { 0.0 } else { self.answered / self.asked };
            let is_long = now.duration_since(silence.since) >= shortest;
            if is_long && share * silence.asked as f64 >= EXPECTED {
                silence.found.get_or_insert(now);
            }
            silence.is_alone |= is_long && share * silence.asked_alone as f64 >= EXPECTED;
        }
    }

    /// Since when it is silent.
    fn found(&self) -> Option<Instant> {
        self.silence.as_ref()?.found
    }
}

impl Silences {
    /// Takes in what was heard. Returns those that became silent, and those that are no longer.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        config: &Config,
        heard: &BTreeMap<BackendId, Heard>,
    ) -> (Vec<BackendId>, Vec<BackendId>) {
        let before = self.silent(now).all;
        self.0.retain(|id, _| config.backend(id).is_some());
        let answered: BTreeSet<_> =
            heard.iter().filter(|(_, heard)| heard.answered > 0).map(|(id, _)| id).collect();
        for (id, heard) in heard {
            let Some((pool, _)) = config.backend(id) else { continue };
            let others_answer = answered.iter().any(|other| other.pool == id.pool && *other != id);
            let shortest = if pool.mode.is_direct() { SHORTEST_TOLD } else { SHORTEST };
            self.0.entry(id.clone()).or_default().hear(now, *heard, others_answer, shortest);
        }
        let after = self.silent(now).all;
        ((&after - &before).into_iter().collect(), (&before - &after).into_iter().collect())
    }

    /// Forgets those that another configuration makes others of, and that those are silent which it probes in another way.
    pub(super) fn configure(&mut self, before: &Config, now: &Config) {
        let machine = |(pool, backend): (&Pool, &Backend)| {
            (pool.mode, backend.address, backend.address6, backend.port)
        };
        let probes = |(pool, _): (&Pool, &Backend)| pool.health.clone();
        self.0.retain(|id, hearing| {
            let (Some(then), Some(now)) = (before.backend(id), now.backend(id)) else {
                return false;
            };
            if probes(then) != probes(now) {
                hearing.silence = None;
            }
            machine(then) == machine(now)
        });
    }

    /// Forgets that a backend is silent, which has proved otherwise that it serves. What was learned of its sessions is kept.
    /// True if it was.
    pub(super) fn forget(&mut self, id: &BackendId) -> bool {
        let silence = self.0.get_mut(id).and_then(|hearing| hearing.silence.take());
        silence.is_some_and(|silence| silence.found.is_some())
    }

    /// Those that are silent.
    pub(super) fn silent(&self, now: Instant) -> Silent {
        let is_tried = |found: Instant| {
            let silent = now.duration_since(found);
            silent >= TRIED_EVERY
                && silent.as_nanos() % TRIED_EVERY.as_nanos() < TRIED_FOR.as_nanos()
        };
        let those = |which: &dyn Fn(&Hearing) -> bool| {
            self.0.iter().filter(|(_, h)| which(h)).map(|(id, _)| id.clone()).collect()
        };
        Silent {
            all: those(&|hearing| hearing.found().is_some()),
            avoided: those(&|hearing| hearing.found().is_some_and(|found| !is_tried(found))),
            alone: those(&|hearing| hearing.silence.as_ref().is_some_and(|s| s.is_alone)),
        }
    }
}

/// Whether the probes of a pool ask what clients ask, in the same way: then their answers prove that clients are served. In a tunnel, or to an
/// address that is not the backend's own, nothing is asked.
pub(super) fn probes_go_as_packets(pool: &Pool) -> bool {
    !pool.mode.is_direct() && pool.health.probing().is_some_and(|p| p.probe.is_of_service())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_probes_prove_that_clients_are_served_where_both_are_asked_alike() {
        for (mode, probe, prove) in [
            ("nat", "ike", true),
            ("nat", "icmp", false),
            ("nat", "none", false),
            ("dsr", "ike", false),
            ("dsr", "icmp", false),
        ] {
            let keys = format!(
                "name = \"p\"\nmode = \"{mode}\"\nhealth = {{ probe = \"{probe}\" }}\nbackend"
            );
            let text = POOL.replace("name = \"p\"\nbackend", &keys);
            let config = Config::parse(&text, "test").unwrap();
            assert_eq!(probes_go_as_packets(&config.pools[0]), prove, "{mode}, {probe}");
        }
    }

    /// Plays seconds of (asked, answered): after how many of them it was silent.
    fn play(hearing: &mut Hearing, start: Instant, seconds: &[(u64, u64)]) -> Option<usize> {
        for (n, (asked, answered)) in seconds.iter().enumerate() {
            let heard = Heard { asked: *asked, answered: *answered };
            hearing.hear(start + Duration::from_secs(n as u64), heard, true, SHORTEST);
            if hearing.found().is_some() {
                return Some(n + 1);
            }
        }
        None
    }

    fn heard(share: (u64, u64)) -> (Hearing, Instant) {
        let (mut hearing, start) = (Hearing::default(), Instant::now());
        assert_eq!(play(&mut hearing, start, &[share; 100]), None);
        (hearing, start + Duration::from_secs(100))
    }

    #[test]
    fn a_busy_one_is_found_silent_within_seconds_and_a_quiet_one_is_given_time() {
        // 1000 sessions, all of which are answered: three seconds of silence.
        let (mut busy, then) = heard((1000, 1000));
        assert_eq!(play(&mut busy, then, &[(1000, 0); 60]), Some(4));
        let heard_one = Heard { asked: 1000, answered: 1 };
        busy.hear(then + Duration::from_secs(60), heard_one, true, SHORTEST);
        assert_eq!(busy.found(), None);
        // One client.
        let (mut single, then) = heard((1, 1));
        assert!(matches!(play(&mut single, then, &[(1, 0); 60]), Some(14 | 15)));
        // Keepalives, of which one in twenty happens to be answered.
        let (mut idle, then) = heard((20, 1));
        assert!(matches!(play(&mut idle, then, &[(20, 0); 60]), Some(14 | 15)));
    }

    #[test]
    fn who_is_forgotten_is_missed_anew() {
        let (mut hearing, then) = heard((1000, 1000));
        assert_eq!(play(&mut hearing, then, &[(1000, 0); 60]), Some(4));
        let id = BackendId::new("p", "a");
        let mut silences = Silences([(id.clone(), hearing)].into());
        assert_eq!(silences.silent(then).all, [id.clone()].into());
        assert!(silences.forget(&id) && !silences.forget(&id));
        assert_eq!(silences.silent(then).all, BTreeSet::new());
        let hearing = silences.0.get_mut(&id).unwrap();
        let later = then + Duration::from_secs(60);
        assert_eq!(play(hearing, later, &[(1000, 0); 60]), Some(4), "what it answered is known");
    }

    const POOL: &str = "[gateway]\ninterfaces = [\"eth0\"]\n[[tenant]]\nname = \"t\"\nmax_sessions = 9\n\
         [[service]]\nname = \"s\"\ntenant = \"t\"\nprofile = \"udp\"\nlisten = [\"203.0.113.1:1/udp\"]\npool = \"p\"\n\
         [[pool]]\nname = \"p\"\nbackend = [{ name = \"a\", address = \"10.0.0.1\" }, { name = \"b\", address = \"10.0.0.2\" }, \
         { name = \"c\", address = \"10.0.0.3\" }]\n";

    fn all_heard(shares: [(u64, u64); 3]) -> BTreeMap<BackendId, Heard> {
        let ids = ["a", "b", "c"].map(|name| BackendId::new("p", name));
        let heard = shares.map(|(asked, answered)| Heard { asked, answered });
        ids.into_iter().zip(heard).filter(|(_, heard)| *heard != Heard::default()).collect()
    }

    /// Seconds in which the backends of [`POOL`] hear the same.
    fn go_on(silences: &mut Silences, now: &mut Instant, seconds: u32, shares: [(u64, u64); 3]) {
        let config = Config::parse(POOL, "test").unwrap();
        for _ in 0..seconds {
            *now += Duration::from_secs(1);
            silences.observe(*now, &config, &all_heard(shares));
        }
    }

    /// That one is silent says something against it only if others of the pool are heard: not if the way to all of them is cut, which a busy
    /// one shows at once, a quiet one after long, and one without clients never. Nor when that is mended, which one of them shows first.
    #[test]
    fn who_is_silent_while_nobody_is_heard_is_not_alone() {
        let (mut silences, mut now) = (Silences::default(), Instant::now());
        go_on(&mut silences, &mut now, 100, [(1000, 1000), (1, 1), (0, 0)]);
        for seconds in 0..60 {
            go_on(&mut silences, &mut now, 1, [(1000, 0), (1, 0), (0, 0)]);
            assert_eq!(silences.silent(now).alone, BTreeSet::new(), "after {seconds} s");
        }
        assert_eq!(silences.silent(now).all.len(), 2);
        go_on(&mut silences, &mut now, 2, [(1000, 1000), (1, 0), (0, 0)]);
        let silent = silences.silent(now);
        assert_eq!((silent.all.len(), silent.alone.len()), (1, 0));
        go_on(&mut silences, &mut now, 1, [(1000, 1000), (1, 1), (0, 0)]);
        assert_eq!(silences.silent(now), Silent::default());
        // One of them dies.
        go_on(&mut silences, &mut now, 5, [(1000, 0), (1, 1), (0, 0)]);
        assert_eq!(silences.silent(now).alone, [BackendId::new("p", "a")].into());
    }

    #[test]
    fn who_is_silent_is_tried_from_time_to_time() {
        let (mut silences, mut now) = (Silences::default(), Instant::now());
        go_on(&mut silences, &mut now, 100, [(1000, 1000), (1000, 1000), (0, 0)]);
        go_on(&mut silences, &mut now, 4, [(1000, 0), (1000, 1000), (0, 0)]);
        let found = now;
        let seconds = |from: u64, to: u64| (from..to).map(move |n| found + Duration::from_secs(n));
        let is_avoided = |now| !silences.silent(now).avoided.is_empty();
        assert!(seconds(0, 300).all(is_avoided));
        assert!(!seconds(300, 305).any(is_avoided));
        assert!(seconds(305, 600).all(is_avoided));
        assert!(!seconds(600, 605).any(is_avoided));
        assert!(seconds(0, 700).all(|now| silences.silent(now).all.len() == 1));
    }

    #[test]
    fn another_machine_or_another_probe_is_not_silent() {
        let before = Config::parse(POOL, "test").unwrap();
        let moved = Config::parse(&POOL.replace("10.0.0.1", "10.0.0.9"), "test").unwrap();
        let probed = POOL.replace(
            "name = \"p\"\nbackend",
            "name = \"p\"\nhealth = { probe = \"none\" }\nbackend",
        );
        let probed = Config::parse(&probed, "test").unwrap();
        for (after, silent, known) in
            [(before.clone(), 1, true), (moved, 0, false), (probed, 0, true)]
        {
            let (mut silences, mut now) = (Silences::default(), Instant::now());
            go_on(&mut silences, &mut now, 100, [(1000, 1000), (1000, 1000), (0, 0)]);
            go_on(&mut silences, &mut now, 4, [(1000, 0), (1000, 1000), (0, 0)]);
            silences.configure(&before, &after);
            let id = BackendId::new("p", "a");
            assert_eq!(
                (silences.silent(now).all.len(), silences.0.contains_key(&id)),
                (silent, known)
            );
        }
    }

    #[test]
    fn who_was_never_answered_or_is_not_asked_is_not_silent() {
        let (mut never, then) = heard((1000, 0));
        assert_eq!(play(&mut never, then, &[(1000, 0); 600]), None);
        let (mut unasked, then) = heard((1000, 1000));
        assert_eq!(play(&mut unasked, then, &[(0, 0); 600]), None);
        // The first seconds of all tell nothing.
        let mut new = Hearing::default();
        assert_eq!(play(&mut new, then, &[(5, 5), (100, 0), (100, 0), (100, 0), (100, 0)]), None);
    }
}

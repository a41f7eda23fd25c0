//! Backends that no longer answer, told without a probe: by their sessions.
//!
//! Which share of the sessions that sent something in a second is answered in it differs: a client's keepalives are not answered at all.
//! So it is learned for each backend. One is silent when answers that should have come by that share did not, and so many that
//! chance is no explanation; the first answer ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::config::{BackendId, Config};

/// Answers that were to be expected, of which none came: by chance once in a million seconds.
const EXPECTED: f64 = 14.0;
/// The shortest silence, and that where agents tell of answers, which may take ten seconds.
const SHORTEST: Duration = Duration::from_secs(3);
const SHORTEST_TOLD: Duration = Duration::from_secs(20);
/// What is learned is forgotten at this rate, each time that something is learned.
const KEPT: f64 = 0.99;
/// Sessions that must have asked before anything is concluded.
const LEAST: f64 = 20.0;

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
    /// Since when, and how many asked, without any answer.
    silence: Option<(Instant, u64)>,
    is_silent: bool,
}

impl Hearing {
    fn hear(&mut self, now: Instant, heard: Heard, shortest: Duration) {
        if heard.answered > 0 {
            let (_, before) = self.silence.take().unwrap_or((now, 0));
            self.asked = self.asked * KEPT + (before + heard.asked) as f64;
            self.answered = (self.answered * KEPT + heard.answered as f64).min(self.asked);
            self.is_silent = false;
        } else if heard.asked > 0 {
            let (since, asked) = self.silence.get_or_insert((now, 0));
            *asked += heard.asked;
            let share = if self.asked < LEAST { 0.0 } else { self.answered / self.asked };
            self.is_silent |=
                share * *asked as f64 >= EXPECTED && now.duration_since(*since) >= shortest;
        }
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
        let before = self.silent();
        self.0.retain(|id, _| config.backend(id).is_some());
        for (id, heard) in heard {
            let Some((pool, _)) = config.backend(id) else { continue };
            let shortest = if pool.mode.is_direct() { SHORTEST_TOLD } else { SHORTEST };
            self.0.entry(id.clone()).or_default().hear(now, *heard, shortest);
        }
        let after = self.silent();
        ((&after - &before).into_iter().collect(), (&before - &after).into_iter().collect())
    }

    /// Forgets that a backend is silent, which has proved otherwise that it serves. What was learned of its sessions is kept.
    pub(super) fn forget(&mut self, id: &BackendId) {
        if let Some(hearing) = self.0.get_mut(id) {
            (hearing.is_silent, hearing.silence) = (false, None);
        }
    }

    /// Those that are silent.
    pub(super) fn silent(&self) -> BTreeSet<BackendId> {
        self.0.iter().filter(|(_, hearing)| hearing.is_silent).map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays seconds of (asked, answered): after how many of them it was silent.
    fn play(hearing: &mut Hearing, start: Instant, seconds: &[(u64, u64)]) -> Option<usize> {
        for (n, (asked, answered)) in seconds.iter().enumerate() {
            let heard = Heard { asked: *asked, answered: *answered };
            hearing.hear(start + Duration::from_secs(n as u64), heard, SHORTEST);
            if hearing.is_silent {
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
        busy.hear(then + Duration::from_secs(60), Heard { asked: 1000, answered: 1 }, SHORTEST);
        assert!(!busy.is_silent);
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
        assert_eq!(silences.silent(), [id.clone()].into());
        silences.forget(&id);
        assert_eq!(silences.silent(), BTreeSet::new());
        let hearing = silences.0.get_mut(&id).unwrap();
        let later = then + Duration::from_secs(60);
        assert_eq!(play(hearing, later, &[(1000, 0); 60]), Some(4), "what it answered is known");
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

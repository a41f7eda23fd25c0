//! One task for each address of a backend.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::Streak;
use super::asker::Asker;
use super::icmp::Pinger;
use super::probe::Failure;
use crate::config::{BackendId, Family, Health, Timing};
use crate::model::{HealthView, Probed, ProbedView, Status};

/// What to probe, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The backend's addresses: at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// The port, for probes that have one: without it they are not sent.
    pub port: Option<u16>,
    /// How.
    pub health: Health,
}

/// Backends cannot be probed.
#[derive(Debug, thiserror::Error)]
#[error("cannot open a socket for echo requests: {0}")]
pub struct MonitorError(#[from] io::Error);

type Errors = Arc<Mutex<BTreeMap<(BackendId, Family), String>>>;

/// What is known of one address.
#[derive(Debug)]
struct Report {
    id: BackendId,
    family: Family,
    status: Status,
    /// The last probe failed.
    fails: bool,
    /// Tells reports of a target from those of what it was before.
    generation: u64,
}

#[derive(Debug)]
struct Running {
    target: Target,
    generation: u64,
    tasks: Vec<AbortHandle>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Probes backends.
#[derive(Debug)]
pub struct Monitor {
    pinger: Arc<Pinger>,
    running: BTreeMap<BackendId, Running>,
    known: ProbedView,
    /// Changes that nobody was told of yet.
    pending: ProbedView,
    report: mpsc::UnboundedSender<Report>,
    reports: mpsc::UnboundedReceiver<Report>,
    errors: Errors,
    generation: u64,
    /// From when on turns are counted.
    begin: Instant,
    /// Says whose turn is when: on each gateway otherwise.
    order: RandomState,
}

impl Monitor {
    /// Starts to probe, in the network namespace of the caller. What is `known`, from tables
    /// that were adopted, is so until probes say otherwise.
    ///
    /// # Errors
    /// The sockets cannot be opened.
    pub fn start(
        targets: BTreeMap<BackendId, Target>,
        known: &HealthView,
    ) -> Result<Self, MonitorError> {
        let (report, reports) = mpsc::unbounded_channel();
        let mut monitor = Self {
            pinger: Arc::new(Pinger::start()?),
            running: BTreeMap::new(),
            known: known.iter().map(|(id, health)| (id.clone(), Probed::known(*health))).collect(),
            pending: ProbedView::new(),
            report,
            reports,
            errors: Errors::default(),
            generation: 0,
            begin: Instant::now(),
            order: RandomState::new(),
        };
        monitor.set_targets(targets);
        Ok(monitor)
    }

    /// Probes these from now on. What is known of an address is kept for as long as its backend
    /// has it, also if it is to be probed in another way.
    pub fn set_targets(&mut self, targets: BTreeMap<BackendId, Target>) {
        self.running.retain(|id, _| targets.contains_key(id));
        self.known.retain(|id, _| targets.contains_key(id));
        self.pending.retain(|id, _| targets.contains_key(id));
        for (id, target) in targets {
            if self.running.get(&id).is_none_or(|running| running.target != target) {
                self.set_target(id, target);
            }
        }
        lock(&self.errors).retain(|(id, _), _| self.running.contains_key(id));
    }

    fn set_target(&mut self, id: BackendId, target: Target) {
        let before = self.running.remove(&id);
        let known = self.known.get(&id).copied().unwrap_or_default();
        let mut kept = Probed::default();
        if let Some((asker, timing)) = Asker::new(&target, &self.pinger) {
            for address in &target.addresses {
                if before.as_ref().is_none_or(|b| b.target.addresses.contains(address)) {
                    let family = Family::of(*address);
                    kept.set(family, known.status.of(family), known.fails(family));
                }
            }
            let running = self.run(&id, target, (asker, timing), kept);
            self.running.insert(id.clone(), running);
        }
        lock(&self.errors).retain(|(of, _), _| *of != id);
        self.known.insert(id.clone(), kept);
        if kept != known {
            self.pending.insert(id, kept);
        }
    }

    fn run(
        &mut self,
        id: &BackendId,
        target: Target,
        (asker, timing): (Asker, Timing),
        known: Probed,
    ) -> Running {
        self.generation += 1;
        let generation = self.generation;
        let asker = Arc::new(asker);
        let hash = self.order.hash_one(id);
        let start = |address: &IpAddr| {
            let family = Family::of(*address);
            let probe = Probe {
                id: id.clone(),
                address: *address,
                asker: Arc::clone(&asker),
                timing,
                known: (known.status.of(family), known.fails(family)),
                generation,
                begin: self.begin,
                turn: hash.wrapping_add(if family == Family::V6 { OPPOSITE } else { 0 }),
                report: self.report.clone(),
                errors: Arc::clone(&self.errors),
            };
            tokio::spawn(probe.run()).abort_handle()
        };
        let tasks = target.addresses.iter().map(start).collect();
        Running { target, generation, tasks }
    }

    /// Waits for changes; returns all there are. Dropping the future loses nothing.
    pub async fn changed(&mut self) -> ProbedView {
        while self.pending.is_empty() {
            // The sender is `self`'s: the channel does not end.
            if let Some(report) = self.reports.recv().await {
                self.learn(report);
            }
        }
        while let Ok(report) = self.reports.try_recv() {
            self.learn(report);
        }
        std::mem::take(&mut self.pending)
    }

    fn learn(&mut self, report: Report) {
        let Report { id, family, status, fails, generation } = report;
        // It may have been under way while the target changed.
        if self.running.get(&id).is_some_and(|running| running.generation == generation) {
            let known = self.known.entry(id.clone()).or_default();
            known.set(family, status, fails);
            self.pending.insert(id, *known);
        }
    }

    /// Why the last probes failed, of those that failed.
    pub fn errors(&self) -> BTreeMap<BackendId, String> {
        let mut texts: BTreeMap<BackendId, String> = BTreeMap::new();
        for ((id, _), text) in &*lock(&self.errors) {
            let of_backend = texts.entry(id.clone()).or_default();
            if !of_backend.is_empty() {
                of_backend.push_str("; ");
            }
            of_backend.push_str(text);
        }
        texts
    }
}

/// Turns in an interval.
const TURNS: u32 = 8;
/// The turn of a backend's other address, as far from the first's as can be: a server of WireGuard takes no two handshakes of a
/// peer at once.
const OPPOSITE: u64 = TURNS as u64 / 2;

/// When a backend's turn is next, from `now` on. Backends take turns within the interval, always
/// in the same order.
fn next_turn(begin: Instant, now: Instant, interval: Duration, hash: u64) -> Instant {
    let turn = begin + interval * (hash % u64::from(TURNS)) as u32 / TURNS;
    if now <= turn {
        return turn;
    }
    let over = now.duration_since(turn).as_nanos() % interval.as_nanos().max(1);
    // Less than an interval.
    let over = Duration::from_nanos(over as u64);
    if over.is_zero() { now } else { now + (interval - over) }
}

/// When a backend is probed after a probe that was sent at `sent`, and whose result is known `now`.
fn after(
    timing: &Timing,
    sent: Instant,
    now: Instant,
    is_falling: bool,
    own_turn: impl FnOnce(Instant) -> Instant,
) -> Instant {
    if is_falling {
        return sent + timing.retry();
    }
    // Its own turn may be just now: servers of WireGuard do not answer twice at once. A late answer takes no turn away from it. After a retry
    // that was answered it may be farther away than an interval, and comes nearer again.
    own_turn(sent + timing.interval / 4).min(sent + timing.interval + timing.jitter()).max(now)
}

/// Steps of the jitter. There are few, as there are few turns: those that meet are probed together, because most of what a probe costs is
/// that somebody has to wake up for it.
const STEPS: u32 = 2;

/// How late after its turn a backend is probed this time, by chance.
fn jitter(timing: &Timing, chance: u32) -> Duration {
    timing.jitter() * (chance % (STEPS + 1)) / STEPS
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Probe {
    id: BackendId,
    address: IpAddr,
    asker: Arc<Asker>,
    timing: Timing,
    /// What was told of it, by whom it was probed before: its status, and whether the last probe failed.
    known: (Status, bool),
    generation: u64,
    begin: Instant,
    turn: u64,
    report: mpsc::UnboundedSender<Report>,
    errors: Errors,
}

impl Probe {
    async fn run(self) {
        let Timing { timeout, rise, fall, .. } = self.timing;
        let family = Family::of(self.address);
        let own_turn = |now| {
            let turn = next_turn(self.begin, now, self.timing.interval, self.turn);
            turn + jitter(&self.timing, fastrand::u32(..))
        };
        let mut told = self.known;
        let mut streak = Streak::known(told.0);
        let mut next = own_turn(Instant::now());
        loop {
            sleep_until(next).await;
            // Not when it was to be: what was late is not made up for.
            let sent = Instant::now();
            let result = self.asker.ask(self.address, timeout).await;
            let good = match &result {
                Ok(()) => Some(true),
                Err(failure) => failure.is_backends().then_some(false),
            };
            let text = result.err().map(Failure::into_text);
            if let (None, Some(text)) = (good, &text)
                && self.is_news(family, text)
            {
                tracing::warn!(backend = %self.id, "cannot be probed: {text}");
            }
            self.remember(family, text);
            if let Some(good) = good {
                streak.observe(good, rise, fall);
            }
            next = after(&self.timing, sent, Instant::now(), streak.is_falling(), own_turn);
            let (status, fails) = (streak.status(), streak.fails());
            if told == (status, fails) {
                continue;
            }
            told = (status, fails);
            let id = self.id.clone();
            let report = Report { id, family, status, fails, generation: self.generation };
            if self.report.send(report).is_err() {
                return;
            }
        }
    }

    /// Whether the last probe did not fail for the same reason: what goes on is said once.
    fn is_news(&self, family: Family, text: &str) -> bool {
        lock(&self.errors).get(&(self.id.clone(), family)).is_none_or(|last| last != text)
    }

    fn remember(&self, family: Family, error: Option<String>) {
        let mut errors = lock(&self.errors);
        let key = (self.id.clone(), family);
        match error {
            None => drop(errors.remove(&key)),
            Some(text) => drop(errors.insert(key, text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    const NONE_LOST: (Duration, usize) = (Duration::ZERO, usize::MAX);

    /// Of all kinds: with sooner retries, with probes one right after the other, without time for either.
    fn timings() -> impl Iterator<Item = Timing> {
        let timing = |(interval, timeout, fall)| Timing {
            interval: MS(interval),
            timeout: MS(timeout),
            rise: 2,
            fall,
        };
        [
            (1_000, 500, 3),
            (500, 400, 4),
            (800, 10, 2),
            (600, 600, 3),
            (400, 300, 2),
            (100, 100, 5),
            (700, 200, 1),
        ]
        .map(timing)
        .into_iter()
    }

    /// When a backend that dies at `died` is known to have failed first, and when it is down. Before, it answers after `late`, but for
    /// the probe with the number `lost`.
    fn dies(
        timing: &Timing,
        turn: u64,
        died: Duration,
        (late, lost): (Duration, usize),
        mut chance: impl FnMut() -> u32,
    ) -> (Duration, Duration) {
        let begin = Instant::now();
        let mut own_turn =
            |now| next_turn(begin, now, timing.interval, turn) + jitter(timing, chance());
        let (mut streak, mut next) = (Streak::known(Status::Up), own_turn(begin));
        let mut first = None;
        for n in 0.. {
            let is_dead = next >= begin + died;
            let (sent, good) = (next, !is_dead && n != lost);
            let now = sent + if good { late } else { timing.timeout };
            let fell = streak.observe(good, timing.rise, timing.fall).is_some();
            if is_dead {
                first.get_or_insert(now);
            }
            if fell {
                return (first.unwrap_or(now) - begin, now - begin);
            }
            next = after(timing, sent, now, streak.is_falling(), &mut own_turn);
            assert!(next >= now, "{timing:?}: two probes at once");
            assert!(next - sent >= timing.interval / 4, "{timing:?}: one right after the other");
        }
        unreachable!("it is found down");
    }

    #[test]
    fn a_backend_that_dies_at_any_moment_is_down_within_its_patience() {
        for timing in timings() {
            let mut longest = Duration::ZERO;
            for (turn, died) in
                (0..u64::from(TURNS)).flat_map(|turn| (0..80).map(move |n| (turn, MS(n * 37))))
            {
                // Some time before, one was lost, or none.
                let lost = [usize::MAX, 0, 1, 2];
                let before = [Duration::ZERO, timing.timeout].into_iter();
                for before in before.flat_map(|late| lost.map(|lost| (late, lost))) {
                    // As bad as can be: early before it dies, late afterwards; and as it comes.
                    for sooner in 0..STEPS {
                        let mut n = 0;
                        let alternating = || {
                            n += 1;
                            if n % (sooner + 2) == 0 { STEPS } else { 0 }
                        };
                        let (_, down) = dies(&timing, turn, died, before, alternating);
                        longest = longest.max(down.saturating_sub(died));
                    }
                    let (_, down) = dies(&timing, turn, died, before, || fastrand::u32(..));
                    longest = longest.max(down.saturating_sub(died));
                }
            }
            let patience = timing.patience();
            assert!(longest <= patience, "{timing:?}, {longest:?} of {patience:?}");
            assert!(
                longest > patience - timing.interval / 16,
                "{timing:?}: {patience:?} promises too little, {longest:?}"
            );
        }
    }

    #[test]
    fn of_those_that_fail_together_the_first_failure_of_each_is_known_before_any_is_down() {
        for timing in timings().filter(|timing| timing.fall > 1) {
            for died in (0..40).map(|n| MS(2_000 + n * 23)) {
                let all: Vec<_> = (0..200)
                    .map(|turn| dies(&timing, turn, died, NONE_LOST, || fastrand::u32(..)))
                    .collect();
                let last = all.iter().map(|(first, _)| *first).max();
                let soonest = all.iter().map(|(_, down)| *down).min();
                assert!(last <= soonest, "{timing:?}, {last:?}, {soonest:?}");
            }
        }
    }

    #[test]
    fn two_of_one_turn_do_not_meet_for_ever() {
        for timing in timings() {
            let mut chance = (0..).map(|n| jitter(&timing, n));
            let round: Vec<_> = chance.by_ref().take(STEPS as usize + 1).collect();
            assert!(round.is_sorted_by(|a, b| a < b), "{round:?}");
            assert_eq!((round[0], round.last()), (Duration::ZERO, Some(&timing.jitter())));
            assert_eq!(chance.next(), Some(Duration::ZERO));
        }
        let timing = timings().next().unwrap();
        let met = (0..1_000)
            .filter(|_| jitter(&timing, fastrand::u32(..)) == jitter(&timing, fastrand::u32(..)))
            .count();
        assert!((250..420).contains(&met), "{met} of 1,000 times");
    }

    #[test]
    fn probes_take_turns_that_are_the_same_whenever_they_begin() {
        let begin = Instant::now();
        let interval = Duration::from_secs(1);
        for hash in 0..u64::from(TURNS) {
            let turn = interval * hash as u32 / TURNS;
            // The last ones take more intervals than a number of 32 bits counts.
            for late in [0, 1, 499, 1_000, 7_300, 86_400_000, 1_000 << 33, (1_000 << 33) + 1]
                .map(Duration::from_millis)
            {
                let now = begin + late;
                let next = next_turn(begin, now, interval, hash);
                assert!(next >= now && next < now + interval, "{hash}, {late:?}");
                let since = next - begin - turn;
                assert_eq!(since.as_nanos() % interval.as_nanos(), 0, "{hash}, {late:?}");
            }
        }
    }
}

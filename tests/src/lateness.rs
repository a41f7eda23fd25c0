//! How late threads come to a processor: claims of time are the gateway's, and no gateway keeps them on a machine that stands
//! still. Where nothing else runs it is next to nothing, so that a claim with it is as sharp as without.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{Result, Tried};
use crate::wait::{Background, Stop};

/// How long each sleep is to be.
const NAP: Duration = Duration::from_millis(5);
/// What every sleep may take longer: timers are no more exact.
const USUAL: Duration = Duration::from_millis(1);

/// How late threads came on the processor where it was worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Late {
    /// Of all times together.
    pub sum: Duration,
    /// The longest of them.
    pub longest: Duration,
}

impl Late {
    fn add(&mut self, slept: Duration) {
        let late = slept.saturating_sub(NAP + USUAL);
        self.sum += late;
        self.longest = self.longest.max(late);
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms late, at once {} ms", self.sum.as_millis(), self.longest.as_millis())
    }
}

/// What a thread has seen, and since when it sleeps.
#[derive(Debug)]
struct Watch {
    late: Late,
    asleep: Instant,
}

impl Watch {
    fn new(now: Instant) -> Self {
        Self { late: Late::default(), asleep: now }
    }

    /// It woke up, and sleeps again.
    fn wake(&mut self, now: Instant) {
        self.late.add(now.saturating_duration_since(self.asleep));
        self.asleep = now;
    }

    /// A sleep that takes too long counts before it has ended.
    fn so_far(&self, now: Instant) -> Late {
        let mut late = self.late;
        late.add(now.saturating_duration_since(self.asleep));
        late
    }
}

/// Measures from its start on, with a thread on each processor that this process may use. Dropping it ends it.
#[derive(Debug)]
pub struct Meter {
    watches: Vec<Arc<Mutex<Watch>>>,
    _threads: Vec<Background>,
}

impl Meter {
    /// Starts to measure.
    pub fn start() -> Result<Self> {
        let usable = sched_getaffinity(None).tried(|| "asking for processors".to_owned())?;
        let (mut watches, mut threads) = (Vec::new(), Vec::new());
        for processor in (0..CpuSet::MAX_CPU).filter(|&n| usable.is_set(n)) {
            let watch = Arc::new(Mutex::new(Watch::new(Instant::now())));
            watches.push(watch.clone());
            threads.push(Background::spawn(move |stop| nap(processor, &watch, stop))?);
        }
        Ok(Self { watches, _threads: threads })
    }

    /// How late threads have come so far.
    pub fn late(&self) -> Late {
        let now = Instant::now();
        let each = self.watches.iter().map(|watch| lock(watch).so_far(now));
        each.fold(Late::default(), |worst, late| Late {
            sum: worst.sum.max(late.sum),
            longest: worst.longest.max(late.longest),
        })
    }
}

fn nap(processor: usize, watch: &Mutex<Watch>, stop: &Stop) {
    let mut own = CpuSet::new();
    own.set(processor);
    // On any processor it sees most of the same.
    let _ = sched_setaffinity(None, &own);
    while !stop.wait(NAP) {
        lock(watch).wake(Instant::now());
    }
}

fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sleep_takes_longer_is_late() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut watch = Watch::new(start);
        for ms in [5, 11, 47, 53, 69] {
            watch.wake(at(ms));
        }
        let late = |sum, longest| Late {
            sum: Duration::from_millis(sum),
            longest: Duration::from_millis(longest),
        };
        assert_eq!(watch.late, late(40, 30));
        assert_eq!(watch.so_far(at(72)), late(40, 30));
        assert_eq!(watch.so_far(at(1069)), late(1034, 994), "it has not woken up yet");
        assert_eq!(watch.so_far(at(1069)).to_string(), "1034 ms late, at once 994 ms");
    }

    #[test]
    fn no_machine_is_later_than_time_passes() {
        let start = Instant::now();
        let meter = Meter::start().unwrap();
        assert!(!meter.watches.is_empty());
        std::thread::sleep(10 * NAP);
        let late = meter.late();
        assert!(late.longest <= late.sum && late.sum <= start.elapsed(), "{late:?}");
    }
}

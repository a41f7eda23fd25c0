//! Time: the tables', and the wall's.
//!
//! * [`Clock`]: now, on both clocks.
//! * [`Moment`]: a deadline, which outlives restarts, and is as far away as before when somebody sets the wall's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

mod moment;

pub use moment::{Boot, Moment};

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// CLOCK_MONOTONIC in nanoseconds: the tables' time (`bpf_ktime_get_coarse_ns` is its coarse form).
    pub monotonic: u64,
    /// The same moment for people.
    pub wall: SystemTime,
}

impl Clock {
    /// Now.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        Self {
            monotonic: now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64,
            wall: SystemTime::now(),
        }
    }

    /// How long the host has been up.
    pub fn uptime(&self) -> Duration {
        Duration::from_nanos(self.monotonic)
    }

    /// The wall's time, since the epoch.
    pub fn epoch(&self) -> Duration {
        self.wall.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
    }

    /// How long ago a moment of the tables was. Zero for one to come.
    pub fn since(&self, monotonic: u64) -> Duration {
        Duration::from_nanos(self.monotonic.saturating_sub(monotonic))
    }

    /// How long ago a 32-bit tick of the tables was (see `dataplane::abi::ticks`),
    /// at most about 52 days. A tick that lies in the future is zero.
    pub fn since_tick(&self, tick: u32) -> Duration {
        let elapsed = dataplane::abi::ticks(self.monotonic).wrapping_sub(tick);
        let elapsed = if elapsed > u32::MAX - 1024 { 0 } else { elapsed };
        Duration::from_nanos(u64::from(elapsed) << 20)
    }

    /// The wall's time of something so long ago.
    pub fn wall_before(&self, elapsed: Duration) -> SystemTime {
        self.wall.checked_sub(elapsed).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_wrap_and_may_be_a_little_ahead() {
        let at = |monotonic| Clock { monotonic, wall: SystemTime::UNIX_EPOCH };
        let tick = dataplane::abi::ticks;
        let second = 1_000_000_000;
        assert_eq!(at(10 * second).since_tick(tick(10 * second)), Duration::ZERO);
        assert_eq!(at(10 * second).since_tick(tick(10 * second) + 3), Duration::ZERO);
        let ago = at(70 * second).since_tick(tick(10 * second)).as_millis();
        assert!((59_990..=60_010).contains(&ago), "{ago}");
        // Across the wrap at 2^52 ns.
        let wrap = 1 << 52;
        let ago = at(wrap + second).since_tick(tick(wrap - second)).as_millis();
        assert!((1_998..=2_002).contains(&ago), "{ago}");
    }
}

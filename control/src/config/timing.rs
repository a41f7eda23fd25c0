//! When a backend is probed, and how soon it is found down.

use std::time::Duration;

use serde::Serialize;

use super::types::duration;

/// How often and how patiently a backend is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timing {
    /// From one probe to the next.
    #[serde(serialize_with = "duration")]
    pub interval: Duration,
    /// How long to wait for an answer; not longer than the interval.
    #[serde(serialize_with = "duration")]
    pub timeout: Duration,
    /// Good probes in a row that bring a backend up.
    pub rise: u32,
    /// Failed probes in a row that bring it down.
    pub fall: u32,
}

impl Timing {
    /// From a failed probe to the next, while that may bring the backend down: so much less than an interval that the last one's timeout
    /// is made up for, and a backend is found down within `interval` × `fall`. Probes do not overlap.
    ///
    /// With a `fall` of two it is the interval: where all backends of a pool fail, the first failure of each is to be known before any
    /// is down (see `model::guard`).
    pub fn retry(&self) -> Duration {
        match self.fall.saturating_sub(1) {
            0 | 1 => self.interval,
            between => self.interval.saturating_sub(self.timeout / between).max(self.timeout),
        }
    }

    /// How long it takes at most until a backend that died is found down.
    pub fn patience(&self) -> Duration {
        self.interval + self.retry() * self.fall.saturating_sub(1) + self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_backend_is_found_within_the_intervals_that_it_takes() {
        let ms = Duration::from_millis;
        for (interval, timeout, fall, retry, most) in [
            (1_000, 500, 3, 750, 3_000),
            (500, 400, 4, 400, 2_100),
            (1_000, 10, 11, 999, 11_000),
            (1_000, 1_000, 3, 1_000, 4_000),
            // Where the first failures of others would come too late.
            (1_000, 500, 2, 1_000, 2_500),
            (1_000, 500, 1, 1_000, 1_500),
        ] {
            let timing = Timing { interval: ms(interval), timeout: ms(timeout), rise: 1, fall };
            assert_eq!((timing.retry(), timing.patience()), (ms(retry), ms(most)), "{timing:?}");
        }
    }
}

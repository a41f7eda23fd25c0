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
    /// How late after its turn a probe is sent at most: how late is chanced anew each time, so that probes that once met, of other backends or of
    /// other gateways, do not meet for ever.
    pub fn jitter(&self) -> Duration {
        self.interval / 32
    }

    /// From a failed probe to the next, while that may bring the backend down: so much less than an interval that the last one's timeout
    /// and the first one's jitter are made up for, and a backend is found down within `interval` × `fall`. Probes do not overlap.
    ///
    /// With a `fall` of two it is the longest time between two turns: where all backends of a pool fail, the first failure of each is to be
    /// known before any is down (see `model::guard`).
    pub fn retry(&self) -> Duration {
        match self.fall.saturating_sub(1) {
            0 | 1 => self.interval + self.jitter(),
            between => {
                let made_up = (self.timeout + self.jitter()) / between;
                self.interval.saturating_sub(made_up).max(self.timeout)
            }
        }
    }

    /// How long it takes at most until a backend that died is found down.
    pub fn patience(&self) -> Duration {
        self.interval + self.jitter() + self.retry() * self.fall.saturating_sub(1) + self.timeout
    }

    /// How long people expect it to take, who multiply `interval` by `fall`: a tenth more.
    pub fn expected(&self) -> Duration {
        self.interval * self.fall * 11 / 10
    }

    /// The longest timeout with which it takes no longer than expected.
    pub fn prompt_timeout(&self) -> Duration {
        let left = self.expected().saturating_sub(self.interval + self.jitter());
        match self.fall {
            ..3 => left.saturating_sub(self.retry() * self.fall.saturating_sub(1)),
            // The retries are as long, too.
            fall => (left / fall).min(self.interval),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_no_longer_than_expected_with_timeouts_up_to_the_longest() {
        for interval in [10, 100, 333, 1_000, 60_000].map(Duration::from_millis) {
            for fall in [1, 2, 3, 4, 5, 10, 11, 100] {
                let with = |timeout| Timing { interval, timeout, rise: 1, fall };
                let longest = with(interval).prompt_timeout();
                for timeout in [longest, longest / 2, Duration::ZERO] {
                    let timing = with(timeout);
                    assert!(timing.patience() <= timing.expected(), "{timing:?}");
                    assert_eq!(timing.prompt_timeout(), longest);
                }
                let longer = with(longest + interval / 100);
                assert!(longest == interval || longer.patience() > longer.expected(), "{longer:?}");
            }
        }
    }

    #[test]
    fn a_dead_backend_is_found_within_the_intervals_that_it_takes() {
        let ms = Duration::from_millis;
        for (interval, timeout, fall, retry, most) in [
            (3_200, 1_600, 3, 2_350, 9_600),
            (3_200, 2_560, 4, 2_560, 13_540),
            (3_200, 100, 11, 3_180, 35_200),
            (3_200, 3_200, 3, 3_200, 12_900),
            // Where the first failures of others would come too late.
            (3_200, 1_600, 2, 3_300, 8_200),
            (3_200, 1_600, 1, 3_300, 4_900),
        ] {
            let timing = Timing { interval: ms(interval), timeout: ms(timeout), rise: 1, fall };
            assert_eq!((timing.retry(), timing.patience()), (ms(retry), ms(most)), "{timing:?}");
        }
    }
}

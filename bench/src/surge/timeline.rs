//! How the day goes: how many, how long, and when each one comes and leaves.

use std::time::Duration;

use fastrand::Rng;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The day, in real seconds. WireGuard's own times are a fifth of what they are: see [`super::client`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline {
    pub(super) employees: u32,
    /// Of these, how many come only after a concentrator is drained.
    pub(super) late: u32,
    /// From one datagram of an employee to the next.
    pub(super) period: Duration,
    pub(super) online: Duration,
    pub(super) work: Duration,
    pub(super) rekey: Duration,
    pub(super) roam: Duration,
    pub(super) late_shift: Duration,
    pub(super) evening: Duration,
    /// The gateway's: a session ends after so much silence.
    pub(super) idle_timeout: Duration,
}

impl Timeline {
    pub(super) const fn new(quick: bool) -> Self {
        if quick {
            Self {
                employees: 6_000,
                late: 120,
                period: Duration::from_millis(2_500),
                online: seconds(15),
                work: seconds(6),
                rekey: seconds(8),
                roam: seconds(6),
                late_shift: seconds(6),
                evening: seconds(6),
                idle_timeout: seconds(8),
            }
        } else {
            Self {
                employees: 60_000,
                late: 1_200,
                period: seconds(4),
                online: seconds(60),
                work: seconds(20),
                rekey: seconds(30),
                roam: seconds(20),
                late_shift: seconds(15),
                evening: seconds(30),
                idle_timeout: seconds(20),
            }
        }
    }

    /// How many roam: three of a hundred.
    pub(super) const fn roaming(&self) -> u32 {
        self.employees * 3 / 100
    }
}

/// A time within so long from now on; most are in the middle of it.
pub(super) fn bell(rng: &mut Rng, within: Duration) -> Duration {
    within.mul_f64((rng.f64() + rng.f64() + rng.f64()) / 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_come_in_the_middle_and_none_outside() {
        let mut rng = Rng::with_seed(1);
        let times: Vec<f64> =
            (0..10_000).map(|_| bell(&mut rng, seconds(60)).as_secs_f64()).collect();
        assert!(times.iter().all(|t| (0.0..60.0).contains(t)));
        let middle = times.iter().filter(|t| (20.0..40.0).contains(*t)).count();
        assert!((6_000..7_500).contains(&middle), "{middle}");
    }

    #[test]
    fn a_session_outlives_the_time_between_two_datagrams() {
        for day in [Timeline::new(true), Timeline::new(false)] {
            assert!(day.period * 3 < day.idle_timeout);
            assert!(day.late < day.employees);
        }
    }
}

//! The clock of the day, by which deadlines are kept across restarts, and what becomes of them when somebody sets it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::handle::Refusal;

/// The longest time after which something is to happen that an operator may ask for: more is a mistake, as milliseconds in place of seconds are.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Seconds since the epoch.
pub(super) fn epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Seconds since the epoch, for people; what is later than the year 9999 is told as that year's end.
pub(super) fn time(at: u64) -> String {
    const LAST: u64 = 253_402_300_799;
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at.min(LAST))).to_string()
}

/// The moment so long after now, in seconds since the epoch.
pub(super) fn moment(after: Duration) -> Result<u64, Refusal> {
    if after > LONGEST {
        return Err(Refusal::Invalid(format!(
            "{} s are more than ten years; nothing was changed",
            after.as_secs()
        )));
    }
    Ok(epoch(SystemTime::now() + after))
}

/// Notices that somebody set the clock: a drain of an hour is to take an hour also then.
#[derive(Debug)]
pub(super) struct WallClock {
    wall: SystemTime,
    steady: Instant,
    left: BTreeSet<u64>,
}

impl WallClock {
    /// Begins to watch it.
    pub(super) fn new() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now(), left: BTreeSet::new() }
    }

    /// The time, when it was looked at last.
    pub(super) fn wall(&self) -> SystemTime {
        self.wall
    }

    /// These moments, in seconds since the epoch, do not move with the clock: they were kept before the host was started, and its clock may
    /// be set only afterwards to what it was then.
    pub(super) fn leave(&mut self, moments: impl Iterator<Item = u64>) {
        self.left.extend(moments);
    }

    /// Moves one, as somebody has set the clock by so much: true if it moves.
    pub(super) fn shift(&self, moment: &mut u64, seconds: i64) -> bool {
        let moves = !self.left.contains(moment);
        if moves {
            *moment = moment.saturating_add_signed(seconds);
        }
        moves
    }

    /// By how many seconds it was set since this was asked last. That it is slowed down or hastened a little, as NTP does, is none.
    pub(super) fn set_by(&mut self) -> i64 {
        self.look(SystemTime::now(), Instant::now())
    }

    fn look(&mut self, wall: SystemTime, steady: Instant) -> i64 {
        let passed = steady.duration_since(self.steady);
        let seconds = match wall.duration_since(self.wall + passed) {
            Ok(ahead) => ahead.as_secs_f64(),
            Err(behind) => -behind.duration().as_secs_f64(),
        };
        (self.wall, self.steady) = (wall, steady);
        seconds.round() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_told_from_one_that_runs() {
        let (wall, steady) = (UNIX_EPOCH + Duration::from_secs(1_000_000), Instant::now());
        let mut clock = WallClock { wall, steady, left: [500].into() };
        // After so many milliseconds, set by so many.
        let (mut at, mut ahead) = (0_i64, 0_i64);
        for (passed, set, told) in [
            (1_000, 0, 0),
            (1_000, 3_600_000, 3_600),
            (1_000, 0, 0),
            (20_000, -7_200_000, -7_200),
            (1, 2_400, 2),
            (500, 300, 0),
            (0, -86_400_000, -86_400),
            (60_000, 30, 0),
        ] {
            (at, ahead) = (at + passed, ahead + set);
            let wall = 1_000_000_000_i64 + at + ahead;
            let wall = UNIX_EPOCH + Duration::from_millis(wall as u64);
            assert_eq!(clock.look(wall, steady + Duration::from_millis(at as u64)), told);
        }
        let (mut moment, mut of_before) = (400, 500);
        assert!(clock.shift(&mut moment, -30) && !clock.shift(&mut of_before, -30));
        assert_eq!((moment, of_before), (370, 500));
    }

    #[test]
    fn any_time_can_be_told_and_none_that_is_far_away_is_asked_for() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(253_402_300_799), "9999-12-31T23:59:59Z");
        assert_eq!(time(u64::MAX), "9999-12-31T23:59:59Z");
        assert!(moment(LONGEST).is_ok());
        for far in [LONGEST + Duration::from_secs(1), Duration::MAX] {
            assert!(matches!(moment(far), Err(Refusal::Invalid(_))));
        }
    }
}

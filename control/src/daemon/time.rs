//! Moments, as operators ask for them and are told of them.

use std::time::{Duration, UNIX_EPOCH};

use super::handle::Refusal;
use crate::clock::{Clock, Moment};

/// The longest time after which something is to happen that an operator may ask for: more is a mistake, as milliseconds in place of seconds are.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Seconds since the epoch, for people; what is later than the year 9999 is told as that year's end.
pub(super) fn time(at: u64) -> String {
    const LAST: u64 = 253_402_300_799;
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at.min(LAST))).to_string()
}

/// The moment so long after now.
pub(super) fn moment(after: Duration) -> Result<Moment, Refusal> {
    if after > LONGEST {
        return Err(Refusal::Invalid(format!(
            "{} s are more than ten years; nothing was changed",
            after.as_secs()
        )));
    }
    Ok(Moment::after(&Clock::now(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! The daemon: one task that owns the state, and handles to it.
//!
//! [`Prepared::new`] takes the place, [`Daemon::start`] adopts what an earlier daemon left, or makes it new, and
//! forwards; [`Daemon::run`] keeps it up to date until it is told to stop. The
//! rest of the program talks to it through a [`Handle`].
//!
//! * `start`: from a file to a gateway that forwards.
//! * `actor`: the task; every input is an event.
//! * `core`: what it is made of.
//! * `growth`: larger tables, and those of another version.
//! * `state`: the inputs of the model, and the one way in which the tables change.
//! * `policy`: when sessions end.
//! * `published`: what readers see, `lists`: a row at a time; [`view`]: in which form.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

mod actor;
mod changes;
mod configure;
mod core;
mod direct;
#[cfg(test)]
mod fault_tests;
mod forecast;
mod growth;
mod handle;
mod held;
mod interfaces;
mod links;
mod lists;
mod policy;
mod published;
mod silence;
mod start;
mod state;
mod store;
mod trial;
pub mod view;

pub use actor::Daemon;
pub(crate) use growth::forecast as growth_forecast;
pub use handle::{Handle, Refusal};
pub use published::Published;
pub use start::{Prepared, StartError};

/// See [`crate::fuzz::goes_by_file`].
#[cfg(feature = "fuzz")]
pub(crate) fn goes_by_file(kept: &[u8], file: &str, now: u64) -> bool {
    let kept: Option<trial::Trial> = serde_json::from_slice(kept).ok();
    let start = kept.map_or(trial::Start::File(None), |kept| kept.start(file, now));
    !matches!(start, trial::Start::Before(..))
}

/// The longest time after which something is to happen that an operator may ask for: more is a mistake, as milliseconds in place of seconds are.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Seconds since the epoch, for people; what is later than the year 9999 is told as that year's end.
fn time(at: u64) -> String {
    const LAST: u64 = 253_402_300_799;
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at.min(LAST))).to_string()
}

/// The moment so long after now, in seconds since the epoch.
fn moment(after: Duration) -> Result<u64, Refusal> {
    if after > LONGEST {
        return Err(Refusal::Invalid(format!(
            "{} s are more than ten years; nothing was changed",
            after.as_secs()
        )));
    }
    Ok(actor::epoch(SystemTime::now() + after))
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

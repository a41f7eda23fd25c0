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
mod time;
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
    let now = crate::clock::Clock {
        monotonic: 0,
        wall: std::time::UNIX_EPOCH + std::time::Duration::from_secs(now),
    };
    let kept = store::parse::<trial::Trial>(kept).ok();
    let start = kept.map_or(trial::Start::File(None), |it| it.start(file, &now));
    !matches!(start, trial::Start::Before(..))
}

//! The session table as the daemon sees it: listed, expired, ended, counted.
//!
//! The kernel program opens and moves sessions; only this room ends them. All of it
//! works on shared memory by the rules of `dataplane::table::slot`: a slot changes
//! hands by compare-and-swap of its state word, and a slot that was retired is left
//! alone for [`QUARANTINE`] before it can be used again.
//!
//! * [`Reader`]: what is in a slot, read so that it belongs together; [`Walk`]: in all of them, while they change.
//! * [`Keeper`]: the scan that expires sessions and gives slots back; `recount`
//!   corrects the counts that a crash left wrong, [`settle`] the sums, [`give_back`] the slots.

mod account;
mod keeper;
mod reader;
mod recount;
mod unfinished;
mod walk;

pub use account::settle;
pub use keeper::{Fate, Keeper, Memory, Policy, QUARANTINE, Scan, TENTATIVE_LIFE};
pub use reader::{Reader, Record};
pub use recount::{Drift, Recount};
pub use unfinished::give_back;
pub use walk::Walk;

#[cfg(test)]
mod tests;

//! Carries out steps, and keeps account of what the tables hold.

use super::diff::Step;
use super::wanted::Wanted;
use super::writer::{TableWriter, WriteError};

/// A step failed; those before it were done, those after it were not.
#[derive(Debug, thiserror::Error)]
#[error("{source} (step {done} of {all})")]
pub struct ApplyError {
    /// How many steps were done.
    pub done: usize,
    /// How many there were.
    pub all: usize,
    /// Why it failed.
    pub source: WriteError,
}

/// Carries out the steps on `writer`, and on `current` those that were done:
/// also after an error `current` is what the tables hold.
///
/// # Errors
/// The first write that fails ends it. To stop there is safe; computing and applying the
/// difference again goes on from there.
pub fn apply(
    current: &mut Wanted,
    steps: &[Step],
    writer: &mut dyn TableWriter,
) -> Result<(), ApplyError> {
    for (done, step) in steps.iter().enumerate() {
        step.write(writer).and_then(|()| step.write(current)).map_err(|source| ApplyError {
            done,
            all: steps.len(),
            source,
        })?;
    }
    Ok(())
}

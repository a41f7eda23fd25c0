//! Checks that are all made, whichever fail.

use anyhow::{bail, ensure};

/// The checks that failed, of those that were made.
#[derive(Default)]
pub(super) struct Checks {
    failed: Vec<&'static str>,
}

impl Checks {
    /// Says of a check whether it failed, and why.
    pub(super) fn note(&mut self, what: &'static str, result: anyhow::Result<()>) {
        self.told(what, result.map(|()| String::new()));
    }

    /// The same of one that has measured something.
    pub(super) fn told(&mut self, what: &'static str, result: anyhow::Result<String>) {
        match result {
            Ok(told) if told.is_empty() => println!("ok      {what}"),
            Ok(told) => println!("ok      {what}: {told}"),
            Err(e) => {
                println!("FAILED  {what}: {e:#}");
                self.failed.push(what);
            }
        }
    }

    /// The same, where nothing that follows makes sense if it failed.
    pub(super) fn need(
        &mut self,
        what: &'static str,
        result: anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        let is_done = result.is_ok();
        self.note(what, result.map(|_| ()));
        ensure!(is_done, "failed: {what}");
        Ok(())
    }

    /// All of them.
    pub(super) fn end(self) -> anyhow::Result<()> {
        match self.failed.as_slice() {
            [] => Ok(()),
            failed => bail!("failed: {}", failed.join("; ")),
        }
    }
}

/// Something is what it should be.
pub(super) fn is(found: &str, expected: &str) -> anyhow::Result<()> {
    ensure!(found == expected, "{found:?} instead of {expected:?}");
    Ok(())
}

//! What the verifier said.

use control::agent::Agent;
use control::loader::{PacketLog, Program};
use libtest_mimic::Failed;

/// The verifier gives up at a million for each program: there is to be room for more profiles. Linux 6.1 counts up to twice
/// what later ones do.
const MOST: u32 = 500_000;

/// The programs load, and the verifier needs no more than [`MOST`] instructions for each.
pub(crate) fn steps() -> Result<(), Failed> {
    let mut all = Program::examine(PacketLog::Off).map_err(|e| e.to_string())?;
    all.push(Agent::examine().map_err(|e| e.to_string())?);
    for info in all {
        let (name, verified) = (info.name, info.verified_instructions);
        println!(
            "{name}: {verified} instructions processed for a program of {}",
            info.instructions
        );
        if !(1..=MOST).contains(&verified) {
            return Err(format!("{name}: {verified} instructions processed").into());
        }
    }
    Ok(())
}

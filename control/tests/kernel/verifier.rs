//! What the verifier said.

use control::loader::{PacketLog, Program};
use libtest_mimic::Failed;

/// The verifier gives up at a million: there is to be room for three more profiles.
const MOST: u32 = 250_000;

/// The program loads, and the verifier needs no more than [`MOST`] instructions for it.
pub(crate) fn steps() -> Result<(), Failed> {
    let info = Program::examine(PacketLog::Off).map_err(|e| e.to_string())?;
    println!(
        "{} instructions processed for a program of {}",
        info.verified_instructions, info.instructions
    );
    if !(1..=MOST).contains(&info.verified_instructions) {
        return Err(format!("{} instructions processed", info.verified_instructions).into());
    }
    Ok(())
}

//! Slots that a daemon was making sessions of when it died: it carried them over from other tables.

use std::io;

use dataplane::table::slot;

use super::Memory;

/// Gives back the slots that nobody works on any more; how many. Without that they would be taken for ever, another session of the
/// same client would give way to them, and counts could not be corrected.
///
/// `wait` returns once every packet that was under way has gone: the kernel program makes sessions as well, but each within
/// the time of one packet.
///
/// # Errors
/// It cannot be waited: nothing has changed.
pub fn give_back<'a>(
    memory: impl Into<Memory<'a>>,
    wait: impl FnOnce() -> io::Result<()>,
) -> io::Result<usize> {
    let memory = memory.into();
    let words = memory.slots.iter().map(|slot| (slot, slot.state.load()));
    let in_making: Vec<_> = words.filter(|(_, word)| slot::is_in_making(*word)).collect();
    if in_making.is_empty() {
        return Ok(0);
    }
    wait()?;
    // A scan frees it, as any that has ended.
    let given_back =
        in_making.into_iter().filter(|(slot, word)| slot::transition(slot, *word, slot::RETIRED));
    Ok(given_back.count())
}

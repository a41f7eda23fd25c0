//! The directory's map: two tables, of which one is in use. What is in one of them is in
//! `dataplane::table::directory`.

use std::collections::BTreeMap;
use std::io;

use dataplane::abi::{
    AddressKey, Directory, DirectoryEntry, KIND_ENDPOINT, KIND_LISTENER, MAX_DIRECTORY, Settings,
    maps,
};
use dataplane::table::directory::{Table, region};
use rustix::thread::{MembarrierCommand, membarrier};

use super::mapped::Mapped;
use super::tables::open;
use super::{LoadError, Pins};

/// The least entries of a table.
const SMALLEST: u32 = 256;

/// The two tables.
pub(super) struct Directories {
    entries: Mapped<DirectoryEntry>,
    /// Entries of the table in use that are not free; emptied ones too.
    used: usize,
}

/// What cannot be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum DirectoryError {
    /// More keys than a table holds.
    #[error("{0} addresses and ports are more than the directory holds")]
    Full(usize),
    /// The kernel cannot wait.
    #[error("waiting for packets that are under way: {0}")]
    Wait(#[from] io::Error),
}

impl Directories {
    pub(super) fn open(pins: &Pins, settings: &Settings) -> Result<Self, LoadError> {
        let mut all = Self { entries: open(pins, maps::DIRECTORY)?, used: 0 };
        // A daemon that was killed between a swap and its wait.
        wait().map_err(|e| LoadError::kernel("waiting for packets that are under way", &e))?;
        all.used = all.current(settings).used();
        Ok(all)
    }

    fn table(&self, base: u32, len: u32) -> Table<'_> {
        Table(&self.entries[base as usize..][..len as usize])
    }

    /// The table in use.
    fn current(&self, settings: &Settings) -> Table<'_> {
        let word = settings.directory.get();
        let (base, len) = ((word >> 32) as u32, word as u32 + 1);
        self.table(base.min(MAX_DIRECTORY), len.clamp(1, MAX_DIRECTORY))
    }

    /// What the directory holds.
    pub(super) fn read(&self, settings: &Settings) -> BTreeMap<AddressKey, Directory> {
        self.current(settings).iter().collect()
    }

    /// Adds or changes an entry.
    pub(super) fn put(
        &mut self,
        settings: &Settings,
        key: &AddressKey,
        value: &Directory,
    ) -> Result<(), DirectoryError> {
        let table = self.current(settings);
        // At most half full, so that lookups are short; and a listener is found at once.
        if 2 * (self.used + 1) <= table.0.len()
            && !(value.kind == KIND_LISTENER && table.is_displaced(key, value))
            && table.put(key, value).is_ok()
        {
            // Perhaps one too many: then the other table comes sooner.
            self.used += 1;
            return Ok(());
        }
        let mut all = self.read(settings);
        all.insert(*key, *value);
        self.rewrite(settings, &all)
    }

    /// Takes an entry away, if it is there.
    pub(super) fn remove(&self, settings: &Settings, key: &AddressKey) {
        self.current(settings).remove(key);
    }

    /// Writes the table that is not in use, and swaps them.
    fn rewrite(
        &mut self,
        settings: &Settings,
        all: &BTreeMap<AddressKey, Directory>,
    ) -> Result<(), DirectoryError> {
        let base = if settings.directory.get() >> 32 == 0 { MAX_DIRECTORY } else { 0 };
        let wanted = u32::try_from(4 * all.len()).unwrap_or(u32::MAX);
        // The more packets ask for a key, the sooner it is put, so that it lies where it is looked for first.
        let in_order = || {
            let ranks = [KIND_LISTENER, KIND_ENDPOINT, 0];
            ranks.into_iter().flat_map(|rank| all.iter().filter(move |(_, v)| rank_of(v) == rank))
        };
        let mut len = wanted.clamp(SMALLEST, MAX_DIRECTORY).next_power_of_two();
        while len <= MAX_DIRECTORY {
            let table = self.table(base, len);
            table.clear();
            let put = |(key, value): (&AddressKey, &Directory)| table.put(key, value);
            if in_order().try_for_each(put) == Ok(()) {
                settings.directory.set(region(base, len));
                self.used = all.len();
                // Packets under way may be reading the other one, which is the next to be written.
                return Ok(wait()?);
            }
            len *= 2;
        }
        Err(DirectoryError::Full(all.len()))
    }
}

fn rank_of(value: &Directory) -> u8 {
    if matches!(value.kind, KIND_LISTENER | KIND_ENDPOINT) { value.kind } else { 0 }
}

/// Waits until every packet that is under way now has gone: the kernel makes it a grace period
/// of RCU (`kernel/sched/membarrier.c`), and XDP programs run within RCU.
pub(crate) fn wait() -> io::Result<()> {
    Ok(membarrier(MembarrierCommand::Global)?)
}

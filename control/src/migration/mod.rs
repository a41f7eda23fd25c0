//! Sessions moved from tables to other ones, while packets are forwarded: to larger tables, and to those of another version.
//!
//! The new tables are made and filled beside the old ones, whose program forwards on. Then the interfaces get the new program, one
//! after the other, each without a gap. What sessions did in the old tables until nobody wrote them any more is carried
//! over at last. Meanwhile both tables know all sessions, so it does not matter which program a packet meets.
//!
//! A daemon may be killed between any two [steps](Migration::advance): what it leaves is thrown away, or finished, by the next one
//! ([`find`](crate::loader::find)).
//!
//! * `carrier`: sessions and hints, again and again; `place`: the new tables under it.
//! * `sums`: what tenants have had, and what became of packets.
//! * `translation`: what an index of the old tables is in the new ones.

mod carrier;
mod place;
mod sums;
mod translation;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrier::{Carrier, hints};
use sums::Sums;
use translation::kept_names;
pub(crate) use translation::{Translation, health};

use crate::loader::{
    Bpffs, LoadError, Old, PacketLog, Pins, Program, Sizes, Tables, Writer, stage, wait,
};
use crate::model::{TableWriter as _, Wanted, apply, diff};
use crate::systemd::at_work;

/// New tables, not yet in use.
#[derive(Debug)]
pub struct Staged {
    /// Where they are pinned.
    pub pins: Pins,
    /// They.
    pub tables: Arc<Tables>,
}

impl Staged {
    /// Makes tables of these sizes for the sessions of others. Nothing else has changed.
    ///
    /// # Errors
    /// There is no memory for them, or the kernel refuses.
    pub fn make(bpffs: &Bpffs, old: &Old, sizes: Sizes) -> Result<Self, LoadError> {
        let (pins, tables) = stage(bpffs, sizes)?;
        let settings = tables.settings();
        if let Some((flow, hash)) = old.hash_keys() {
            settings.flow_key.iter().zip(flow).for_each(|(cell, key)| cell.set(key));
            settings.hash_key.iter().zip(hash).for_each(|(cell, key)| cell.set(key));
        }
        // Identities are generations and indexes: those that are given from now on are nobody's yet.
        let first = u64::from(old.next_generation());
        settings.first_generation.set(first);
        tables.slots.iter().for_each(|slot| slot.state.store(first << 32));
        Ok(Self { pins, tables: Arc::new(tables) })
    }

    /// Writes what other tables hold, and what every index means with it.
    ///
    /// # Errors
    /// A table cannot be read or written.
    pub fn fill(&self, held: &Wanted) -> Result<Writer, LoadError> {
        let mut writer = Writer::open(&self.pins, Arc::clone(&self.tables))?;
        let mut current = writer.read()?;
        let steps = diff(&current, held);
        apply(&mut current, &steps, &mut writer)
            .map_err(|e| LoadError::kernel("filling the new tables", &e))?;
        Ok(writer)
    }

    /// Writes the names that other tables have, so that everything gets the same index here.
    ///
    /// # Errors
    /// A table cannot be written.
    pub fn name(&self, old: &Old) -> Result<Writer, LoadError> {
        let mut writer = Writer::open(&self.pins, Arc::clone(&self.tables))?;
        for (key, name) in kept_names(old) {
            writer
                .name(key, Some(name))
                .map_err(|e| LoadError::kernel("filling the new tables", &e))?;
        }
        Ok(writer)
    }
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Carry sessions over for the first time.
    Carry,
    /// Load the program with the new tables.
    Load,
    /// Carry over what happened meanwhile.
    CarryAgain,
    /// Say where the sessions come from.
    Mark,
    /// Set the old tables aside, if the new ones are to have their place.
    Aside,
    /// Put the new tables in their place: from now on they are what counts.
    Commit,
    /// Put the program into this link.
    Swap(usize),
    /// Make the link one of the new tables'.
    Keep(usize),
    /// Carry over the rest, when nobody writes the old tables any more.
    Settle,
    /// Everything is here.
    Unmark,
    /// Take the old tables away.
    Remove,
    /// It is done.
    Done,
}

/// A move of all sessions.
pub struct Migration {
    old: Old,
    own: Pins,
    aside: Pins,
    staging: Pins,
    tables: Arc<Tables>,
    translation: Translation,
    log: PacketLog,
    carrier: Carrier,
    sums: Sums,
    program: Option<Program>,
    links: Vec<u32>,
    step: Step,
    committed: bool,
    moved: Moved,
    swapping: Option<Instant>,
}

/// What a finished move has to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Sessions that the old tables had at last.
    pub sessions: usize,
    /// Of them those that are of nothing that is configured any more, and were left out.
    pub left_out: usize,
    /// Those for which there was no slot.
    pub refused: usize,
    /// From the first interface with the new program until all old tables had was here.
    pub swap: Duration,
}

impl fmt::Debug for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migration").field("old", &self.old).field("step", &self.step).finish()
    }
}

impl Migration {
    /// Begins a move into tables that hold what is configured.
    ///
    /// # Errors
    /// A map cannot be opened.
    pub(crate) fn new(
        bpffs: &Bpffs,
        old: Old,
        staged: &Staged,
        translation: Translation,
        log: PacketLog,
    ) -> Result<Self, LoadError> {
        let sums = Sums::new(&staged.pins, &translation, true)?;
        let tables = Arc::clone(&staged.tables);
        let mut all = Self::with(bpffs, old, tables, (translation, sums), log);
        all.step = Step::Carry;
        Ok(all)
    }

    /// Begins a move of all sessions into larger tables of the same layout, which get `held`, what the old ones hold.
    ///
    /// # Errors
    /// There is no memory for them, or the kernel refuses: nothing has changed.
    pub fn grow(
        bpffs: &Bpffs,
        held: &Wanted,
        sizes: Sizes,
        log: PacketLog,
    ) -> Result<(Self, Writer), LoadError> {
        at_work();
        let old = Old::open(Pins::under(bpffs))?;
        let staged = Staged::make(bpffs, &old, sizes)?;
        at_work();
        let begun = staged.fill(held).and_then(|writer| {
            Ok((Self::new(bpffs, old, &staged, Translation::same(held), log)?, writer))
        });
        begun.inspect_err(|_| {
            let _ = staged.pins.remove();
        })
    }

    /// Goes on with a move that was interrupted after the new tables were in their place.
    ///
    /// # Errors
    /// A map cannot be opened.
    pub fn resume(
        bpffs: &Bpffs,
        old: Old,
        tables: Arc<Tables>,
        held: &Wanted,
        log: PacketLog,
    ) -> Result<Self, LoadError> {
        let own = Pins::under(bpffs);
        let same = *old.pins() == Pins::aside(bpffs);
        let translation =
            if same { Translation::same(held) } else { Translation::by_names(&old, held) };
        let sums = Sums::new(&own, &translation, false)?;
        let mut all = Self::with(bpffs, old, tables, (translation, sums), log);
        all.committed = true;
        Ok(all)
    }

    fn with(
        bpffs: &Bpffs,
        old: Old,
        tables: Arc<Tables>,
        (translation, sums): (Translation, Sums),
        log: PacketLog,
    ) -> Self {
        Self {
            links: old.pins().linked(),
            old,
            own: Pins::under(bpffs),
            aside: Pins::aside(bpffs),
            staging: Pins::staging(bpffs),
            tables,
            translation,
            log,
            carrier: Carrier::default(),
            sums,
            program: None,
            step: Step::Carry,
            committed: false,
            moved: Moved::default(),
            swapping: None,
        }
    }

    /// The new tables.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// Whether the new tables are what counts from now on: there is no way back.
    pub fn is_committed(&self) -> bool {
        self.committed
    }

    /// Where the new tables are pinned now.
    fn pins(&self) -> Pins {
        if self.committed { self.own.clone() } else { self.staging.clone() }
    }

    /// Does the next step: false if there was none left.
    ///
    /// # Errors
    /// The kernel refuses. Before [`Self::is_committed`] nothing has changed, and [`Self::abandon`] takes away what was made.
    pub fn advance(&mut self) -> Result<bool, LoadError> {
        self.step = match self.step {
            Step::Carry => {
                self.carry()?;
                Step::Load
            }
            Step::Load => {
                // Where nothing is left to get it, the daemon loads one when it attaches it.
                if !(self.committed && self.links.is_empty()) {
                    self.program = Some(Program::load(&self.pins(), self.log)?);
                }
                Step::CarryAgain
            }
            Step::CarryAgain => {
                self.carry()?;
                if self.committed { Step::Swap(0) } else { Step::Mark }
            }
            Step::Mark => {
                let from = if *self.old.pins() == self.own { &self.aside } else { self.old.pins() };
                self.pins().set_predecessor(Some(from))?;
                Step::Aside
            }
            Step::Aside => {
                if *self.old.pins() == self.own {
                    self.own.rename(&self.aside)?;
                    self.old.moved_to(self.aside.clone());
                }
                Step::Commit
            }
            Step::Commit => {
                self.staging.rename(&self.own)?;
                self.committed = true;
                if let Some(program) = &mut self.program {
                    program.moved_to(self.own.clone());
                }
                Step::Swap(0)
            }
            Step::Swap(n) => match (self.links.get(n), &mut self.program) {
                (Some(link), Some(program)) => {
                    self.swapping.get_or_insert_with(Instant::now);
                    program.swap_or_forget(&self.old.pins().link(*link))?;
                    Step::Keep(n)
                }
                _ => Step::Settle,
            },
            Step::Keep(n) => {
                if let (Some(link), Some(program)) = (self.links.get(n), &mut self.program) {
                    program.keep(&self.old.pins().link(*link), *link)?;
                }
                Step::Swap(n + 1)
            }
            Step::Settle => {
                wait()
                    .map_err(|e| LoadError::kernel("waiting for packets that are under way", &e))?;
                self.carry()?;
                self.moved.swap = self.swapping.map(|begun| begun.elapsed()).unwrap_or_default();
                Step::Unmark
            }
            Step::Unmark => {
                self.own.set_predecessor(None)?;
                Step::Remove
            }
            Step::Remove => {
                self.old.pins().remove()?;
                Step::Done
            }
            Step::Done => return Ok(false),
        };
        Ok(true)
    }

    /// Does all steps.
    ///
    /// # Errors
    /// See [`Self::advance`].
    pub(crate) fn run(&mut self) -> Result<(), LoadError> {
        while self.advance()? {
            at_work();
        }
        Ok(())
    }

    /// Takes away what was made, if the old tables are what counts. Where these were set aside, they come back.
    pub(crate) fn abandon(self) {
        if self.committed {
            return;
        }
        let back =
            if *self.old.pins() == self.aside { self.aside.rename(&self.own) } else { Ok(()) };
        if let Err(e) = back.and_then(|()| self.staging.remove()) {
            tracing::error!("{e}");
        }
    }

    /// What a finished move leaves: the program, loaded and attached to all interfaces that the old one was on.
    pub(crate) fn finish(self) -> (Option<Program>, Moved) {
        (self.program, self.moved)
    }

    fn carry(&mut self) -> Result<(), LoadError> {
        let passed = self.carrier.pass(&self.old, &self.tables, &self.translation);
        hints(&self.old, &self.tables, self.old.hash_keys().is_some());
        self.sums.carry(&self.old, &self.tables, &self.translation)?;
        self.moved.sessions = passed.sessions;
        self.moved.left_out = passed.left_out;
        self.moved.refused = passed.refused;
        tracing::debug!(?passed, "sessions carried");
        Ok(())
    }
}

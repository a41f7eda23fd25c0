//! The gateway's interfaces, and the program on them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::view;
use crate::config::XdpMode;
use crate::loader::{Attachment, Bpffs, LoadError, Lock, Pins, Program};
use crate::routing::interfaces::{self, Running};

type Question = JoinHandle<io::Result<Vec<Running>>>;

/// How long the kernel may take to say what an interface runs that is to be attached to.
const PATIENCE_TO_ATTACH: Duration = Duration::from_secs(10);
/// And each second, when it is looked whether it still does.
const PATIENCE: Duration = Duration::from_secs(1);

/// When an answer is waited for no more.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Where the program is attached.
pub(super) struct Interfaces {
    program: Program,
    pins: Pins,
    attached: BTreeMap<String, (u32, XdpMode)>,
    /// Interfaces that could not be attached again, so that it is said once.
    missing: BTreeSet<String>,
    /// Why what somebody unpinned is not pinned again.
    unpinned: Option<String>,
    /// Interfaces that run the program by a link that is pinned nowhere.
    unlinked: BTreeSet<String>,
    /// Questions to the kernel what interfaces run that it did not answer in time, and since when.
    asked: BTreeMap<u32, (Instant, Question)>,
    /// Where it is asked.
    netlink: Handle,
}

/// What was found of interfaces that should run the program.
#[derive(Debug, Default)]
pub(super) struct Ensured {
    /// Those that somebody had taken it from, and that have it again; and those that do not have it, and why.
    pub(super) taken_off: Vec<String>,
    /// Why it could not be attached, each once.
    pub(super) failures: Vec<String>,
}

impl Interfaces {
    /// None yet.
    pub(super) fn new(program: Program, pins: Pins, netlink: Handle) -> Self {
        Self {
            program,
            pins,
            attached: BTreeMap::new(),
            missing: BTreeSet::new(),
            unpinned: None,
            unlinked: BTreeSet::new(),
            asked: BTreeMap::new(),
            netlink,
        }
    }

    /// Goes on with another program, which has the links of these interfaces.
    pub(super) fn go_on_with(&mut self, program: Program) {
        self.program = program;
    }

    /// Indexes of the interfaces that the program is attached to.
    pub(super) fn indexes(&self) -> BTreeSet<u32> {
        self.attached.values().map(|(index, _)| *index).collect()
    }

    /// Interfaces that do not run the program; and what stands in the way of the next daemon, if anything: it would begin anew.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let unpinned = self.unpinned.iter().map(|why| {
            format!(
                "{} is gone, with what this daemon left there for the next one, and cannot be made again ({why}): interfaces that have the \
                 program forward as long as this daemon runs; a restart begins anew, and learns the sessions again from their traffic",
                self.pins.dir().display()
            )
        });
        let missing = self.missing.iter().map(|name| {
            format!("{name} does not run the program: what comes in there is not forwarded; the log says why")
        });
        unpinned.chain(self.unlinked()).chain(missing)
    }

    /// Pins again what somebody has removed, and keeps others out of a directory that was made anew.
    pub(super) fn keep_pins(&mut self, locks: &mut Vec<Lock>) {
        let kept = if self.program.is_pinned() { Ok(Vec::new()) } else { self.program.pin_again() };
        match kept.and_then(|missing| self.lock_anew(locks).map(|()| missing)) {
            Ok(missing) => {
                if !missing.is_empty() {
                    let pins = self.pins.dir().display();
                    tracing::warn!(%pins, missing = missing.join(", "), "pins were gone, and are there again");
                }
                self.unpinned = None;
            }
            Err(e) => {
                let why = Some(e.to_string());
                if self.unpinned != why {
                    tracing::error!("what is pinned for the next daemon is gone: {e}");
                    self.unpinned = why;
                }
            }
        }
    }

    /// Earlier locks are kept: they keep the file system that they are on, and with it the links that are pinned there.
    fn lock_anew(&self, locks: &mut Vec<Lock>) -> Result<(), LoadError> {
        let bpffs = self.pins.dir().parent().unwrap_or(self.pins.dir());
        if !locks.iter().any(|lock| lock.is_of(bpffs)) {
            locks.push(Bpffs::existing(bpffs)?.lock()?);
        }
        Ok(())
    }

    /// For `fernpass status`.
    pub(super) fn views(&self) -> Vec<view::Interface> {
        let view = |(name, (index, mode)): (&String, &(u32, XdpMode))| view::Interface {
            name: name.clone(),
            index: *index,
            mode: match mode {
                XdpMode::Native => "native".to_owned(),
                XdpMode::Generic => "generic".to_owned(),
            },
        };
        self.attached.iter().map(view).collect()
    }

    /// Attaches to exactly these interfaces, or leaves everything as it was.
    pub(super) async fn replace(
        &mut self,
        names: &[String],
        mode: XdpMode,
    ) -> Result<(), LoadError> {
        let mut indexes = BTreeMap::new();
        for name in names {
            indexes.insert(name.clone(), interfaces::index(name)?);
        }
        if let Some(name) = self.unlinked.iter().find(|name| !indexes.contains_key(*name)) {
            return Err(LoadError::Kernel {
                what: format!("detaching from {name}"),
                reason: self.unlinked().unwrap_or_default(),
            });
        }
        let mut new = Vec::new();
        for (name, index) in &indexes {
            if self.attached.get(name).is_some_and(|(attached, _)| attached == index) {
                continue;
            }
            match self.attach(name, *index, mode).await {
                Ok(Attachment::New) => new.push((name, *index)),
                Ok(Attachment::Replaced) => {}
                Err(e) => {
                    for (name, index) in new {
                        self.attached.remove(name);
                        Program::detach(&self.pins, name, index)?;
                    }
                    return Err(e);
                }
            }
        }
        let wanted: BTreeSet<u32> = indexes.values().copied().collect();
        for index in self.pins.linked() {
            if !wanted.contains(&index) {
                Program::detach(&self.pins, &format!("if{index}"), index)?;
                tracing::info!(index, "detached");
            }
        }
        self.attached.retain(|name, (index, _)| indexes.get(name) == Some(index));
        self.missing.retain(|name| indexes.contains_key(name));
        Ok(())
    }

    /// Attaches to those of the interfaces that were deleted and made again, and to those that do not run the
    /// program any more.
    pub(super) async fn ensure(&mut self, names: &[String], mode: XdpMode) -> Ensured {
        let mut ensured = Ensured::default();
        for name in names {
            let found = interfaces::index(name);
            let known = self.attached.get(name).map(|(index, _)| *index);
            let same = found.as_ref().is_ok_and(|index| Some(*index) == known);
            if let (true, Ok(index)) = (same, &found) {
                match self.lacks_program(*index).await {
                    Some(true) => {}
                    Some(false) => {
                        self.missing.remove(name);
                        continue;
                    }
                    // Nothing is known that was not.
                    None => continue,
                }
            }
            let result = match found {
                // It could not be pinned, and would be off again at once.
                Ok(_) if self.unpinned.is_some() => Err(self.unpinnable(name)),
                Ok(index) => self.attach(name, index, mode).await.map(drop),
                Err(e) => Err(e),
            };
            match result {
                Ok(()) => {
                    if same {
                        tracing::warn!(interface = %name, "somebody had taken the program off; it is attached again");
                        ensured.taken_off.push(format!("{name}, attached again"));
                    } else {
                        tracing::info!(interface = %name, "attached again");
                    }
                    self.missing.remove(name);
                }
                Err(e) => {
                    ensured.taken_off.push(format!("{name}: {e}"));
                    // It is there, and tried again: what leads to it stays.
                    if !same {
                        self.attached.remove(name);
                    }
                    if self.missing.insert(name.clone()) {
                        ensured.failures.push(e.to_string());
                    }
                }
            }
        }
        ensured
    }

    fn unpinnable(&self, name: &str) -> LoadError {
        LoadError::Kernel {
            what: format!("attaching to {name}"),
            reason: format!("its link cannot be pinned under {}", self.pins.dir().display()),
        }
    }

    /// Whether an interface does not run the program, if the kernel says what it runs.
    async fn lacks_program(&mut self, index: u32) -> Option<bool> {
        let running = self.running(index, PATIENCE).await?;
        Some(running.iter().all(|running| running.program != self.program.id()))
    }

    /// What an interface runs, if the kernel says so soon. One that is busy with its links answers nobody for that long: then it is asked
    /// nothing more before it has answered, and the answer is taken when this is asked again.
    async fn running(&mut self, index: u32, patience: Duration) -> Option<Vec<Running>> {
        let has_answered = |(_, asked): &mut (Instant, Question)| asked.is_finished();
        let mut asked = match self.asked.get_mut(&index).is_some_and(has_answered) {
            true => self.asked.remove(&index)?.1,
            false if self.is_kernel_busy() => return None,
            false => self.netlink.spawn(interfaces::running(index)),
        };
        match timeout(patience, &mut asked).await {
            Ok(Ok(Ok(running))) => Some(running),
            Ok(Ok(Err(e))) => {
                tracing::debug!(index, "what it runs is not known: {e}");
                None
            }
            Ok(Err(_)) => None,
            Err(_) => {
                tracing::warn!(index, "the kernel does not say what it runs");
                self.asked.insert(index, (Instant::now(), asked));
                None
            }
        }
    }

    /// Whether the kernel did not answer a question yet. An answer that has not come for long does not come any more.
    pub(super) fn is_kernel_busy(&mut self) -> bool {
        self.asked.retain(|_, (since, asked)| {
            let waits = since.elapsed() < FORGOTTEN;
            if !waits {
                asked.abort();
            }
            waits
        });
        self.asked.values().any(|(_, asked)| !asked.is_finished())
    }

    /// Looks for interfaces that run the program by a link that is pinned nowhere any more, as after a bpffs was mounted again: the daemon
    /// cannot reach these links.
    pub(super) fn look_for_links(&mut self) {
        let linked = self.pins.linked();
        let runs = self.attached.iter().filter(|(name, _)| !self.missing.contains(*name));
        let unlinked = runs.filter(|(_, (index, _))| !linked.contains(index));
        let unlinked: BTreeSet<_> = unlinked.map(|(name, _)| name.clone()).collect();
        for name in unlinked.difference(&self.unlinked) {
            tracing::warn!(interface = %name, "its link is not pinned any more");
        }
        self.unlinked = unlinked;
    }

    /// Why sessions cannot be moved to other tables, if it is so: these interfaces would go on with the tables of before.
    pub(super) fn unlinked(&self) -> Option<String> {
        let names = self.unlinked.iter().map(String::as_str).collect::<Vec<_>>();
        (!names.is_empty()).then(|| {
            format!(
                "{}: the program's link is not in {} any more, and cannot be changed; restart the daemon first, which attaches anew",
                names.join(", "),
                self.pins.links().display()
            )
        })
    }

    /// Attaches to one interface. A link that runs in another mode is made anew.
    async fn attach(
        &mut self,
        name: &str,
        index: u32,
        mode: XdpMode,
    ) -> Result<Attachment, LoadError> {
        // In which mode a link runs is not seen from the link.
        let running = self.running(index, PATIENCE_TO_ATTACH).await;
        let running = running.ok_or_else(|| LoadError::Kernel {
            what: format!("attaching to {name}"),
            reason: "the kernel does not say what it runs".to_owned(),
        })?;
        if running.iter().any(|running| running.mode != mode) && self.pins.link(index).exists() {
            tracing::warn!(interface = %name, "the XDP mode changes: packets are not forwarded for a moment");
            Program::detach(&self.pins, name, index)?;
        }
        let attachment = self.program.attach(name, index, mode)?;
        self.attached.insert(name.to_owned(), (index, mode));
        tracing::info!(interface = %name, index, ?attachment, program = self.program.id(), "attached");
        Ok(attachment)
    }
}

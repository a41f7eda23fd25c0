//! The kernel program and those of its stages: loaded, pinned, attached.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{Map, ProgramArray};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode as Mode};
use aya::programs::{ProgramError, ProgramInfo, Xdp};
use aya::{Ebpf, EbpfLoader};
use dataplane::abi::maps;
use dataplane::pipeline::Stage;
use serde::Serialize;

use super::error::{Chain, os_error};
use super::pins::loader;
use super::shape::SHAPES;
use super::{Bpffs, LoadError, OBJECT, PacketLog, PacketLogger, Pins};
use crate::config::XdpMode;

/// The program that is attached.
const NAME: &str = "fernpass";

/// The loaded programs, with the pinned maps.
#[derive(Debug)]
pub struct Program {
    ebpf: Ebpf,
    pins: Pins,
    id: u32,
    /// Interfaces whose links have it.
    links: BTreeSet<u32>,
}

/// What is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// The program was attached.
    New,
    /// An earlier program's link now has this one: not a packet was missed.
    Replaced,
}

/// Figures of a program, as the kernel tells them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Info {
    /// Its name in `bpftool prog`.
    pub name: String,
    /// Instructions the verifier processed.
    pub verified_instructions: u32,
    /// Bytes of the translated program.
    pub translated_bytes: u32,
    /// Instructions of the object (eight bytes each) as translated.
    pub instructions: u32,
}

impl Info {
    /// What the kernel says of a program.
    pub(crate) fn of(name: &str, info: &ProgramInfo) -> Self {
        let translated_bytes = info.size_translated().unwrap_or_default();
        Self {
            name: name.to_owned(),
            verified_instructions: info.verified_instruction_count().unwrap_or_default(),
            translated_bytes,
            instructions: translated_bytes / 8,
        }
    }
}

impl Program {
    /// Loads the program of this binary, which uses the pinned maps, and pins it.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn load(pins: &Pins, log: PacketLog) -> Result<Self, LoadError> {
        let mut loader = loader(pins);
        log.set(&mut loader);
        let mut ebpf =
            loader.load(OBJECT).map_err(|e| LoadError::kernel("loading the kernel program", &e))?;
        load_programs(&mut ebpf)?;
        let id = info(xdp(&mut ebpf, NAME)?)?.id();
        let Some(Map::ProgramArray(stages)) = ebpf.map(maps::STAGES) else {
            return Err(absent(maps::STAGES));
        };
        stages
            .pin(pins.stages(id))
            .map_err(|e| LoadError::kernel("pinning the stages of the kernel program", &e))?;
        let path = pins.program();
        if path.exists() {
            fs::remove_file(&path)
                .map_err(|source| LoadError::Path { path: path.clone(), source })?;
        }
        xdp(&mut ebpf, NAME)?
            .pin(&path)
            .map_err(|e| LoadError::kernel("pinning the kernel program", &e))?;
        let program = Self { ebpf, pins: pins.clone(), id, links: BTreeSet::new() };
        program.forget_stages()?;
        Ok(program)
    }

    /// Loads the programs with maps of their own, and without pins: for their figures.
    ///
    /// # Errors
    /// The kernel refuses one.
    pub fn examine(log: PacketLog) -> Result<Vec<Info>, LoadError> {
        let mut loader = EbpfLoader::new();
        log.set(&mut loader);
        let mut ebpf =
            loader.load(OBJECT).map_err(|e| LoadError::kernel("loading the kernel program", &e))?;
        load_programs(&mut ebpf)?;
        names().map(|name| Ok(Info::of(name, &info(xdp(&mut ebpf, name)?)?))).collect()
    }

    /// What it says of packets, if it was loaded to say something: to be read once.
    ///
    /// # Errors
    /// It has been taken, or cannot be read.
    pub fn messages(&mut self) -> Result<PacketLogger, LoadError> {
        PacketLogger::new(&mut self.ebpf)
    }

    /// The kernel's number for it, as `bpftool prog` and `ip link` show it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether all is pinned that the next daemon needs, but for the links.
    pub(crate) fn is_pinned(&self) -> bool {
        let maps = SHAPES.iter().map(|(name, _)| self.pins.map(name));
        let others = [self.pins.program(), self.pins.stages(self.id), self.pins.links()];
        maps.chain(others).all(|path| path.exists())
    }

    /// Pins again what somebody has removed, all of it if need be. Returns what was missing.
    ///
    /// # Errors
    /// The bpffs is gone, or the kernel refuses.
    pub(crate) fn pin_again(&mut self) -> Result<Vec<String>, LoadError> {
        let failed = |e| LoadError::kernel("pinning again", &e);
        let made = |path: PathBuf| {
            fs::create_dir(&path).map_err(|source| LoadError::Path { path, source })
        };
        let is_there = |path: &Path| match Bpffs::existing(path) {
            Err(LoadError::NotLoaded { path }) => Err(LoadError::Kernel {
                what: "pinning again".to_owned(),
                reason: format!("{} is no bpffs any more", path.display()),
            }),
            other => other.map(drop),
        };
        // Tables that are not whole must not be found by the next daemon.
        let staging = (!self.pins.exist()).then(|| self.pins.nobodys());
        if let Some(staging) = &staging {
            let bpffs = staging.dir().parent().unwrap_or(staging.dir());
            // A directory of a bpffs that was mounted anew.
            if let Some(mount) = bpffs.parent().filter(|_| !bpffs.exists()) {
                is_there(mount)?;
                made(bpffs.to_owned())?;
            }
            is_there(bpffs)?;
            staging.remove()?;
            made(staging.dir().to_owned())?;
        }
        let to = staging.as_ref().unwrap_or(&self.pins);
        let mut missing = Vec::new();
        if !to.links().exists() {
            made(to.links())?;
            missing.push("links".to_owned());
        }
        for (name, _) in SHAPES {
            let path = to.map(name);
            if !path.exists() {
                let map = self.ebpf.map(name).ok_or_else(|| absent(name))?;
                map.pin(path).map_err(failed)?;
                missing.push(name.to_owned());
            }
        }
        if let Some(staging) = staging {
            staging.rename(&self.pins)?;
        }
        let path = self.pins.stages(self.id);
        if !path.exists() {
            let map = self.ebpf.map(maps::STAGES).ok_or_else(|| absent(maps::STAGES))?;
            map.pin(path).map_err(failed)?;
            missing.push("the program's stages".to_owned());
        }
        let path = self.pins.program();
        if !path.exists() {
            let pinned = xdp(&mut self.ebpf, NAME)?.pin(path);
            pinned.map_err(|e| LoadError::kernel("pinning again", &e))?;
            missing.push("the program".to_owned());
        }
        Ok(missing)
    }

    /// Attaches the program to an interface, or swaps it into the link that an earlier
    /// daemon pinned.
    ///
    /// # Errors
    /// The interface cannot run it, or runs another.
    pub fn attach(
        &mut self,
        name: &str,
        ifindex: u32,
        mode: XdpMode,
    ) -> Result<Attachment, LoadError> {
        let path = self.pins.link(ifindex);
        if path.exists() {
            if self.swap(&path)? {
                self.links.insert(ifindex);
                self.forget_stages()?;
                return Ok(Attachment::Replaced);
            }
            fs::remove_file(&path)
                .map_err(|source| LoadError::Path { path: path.clone(), source })?;
        }
        // A link that cannot be pinned would be gone at once.
        let links = self.pins.links();
        if !links.is_dir() {
            return Err(LoadError::Path { path: links, source: io::ErrorKind::NotFound.into() });
        }
        let mode = match mode {
            XdpMode::Native => Mode::Driver,
            XdpMode::Generic => Mode::Skb,
        };
        let xdp = xdp(&mut self.ebpf, NAME)?;
        let refused = |e: ProgramError| refusal(name, mode, &e);
        let id = xdp.attach_to_if_index(ifindex, mode).map_err(refused)?;
        let link = xdp.take_link(id).map_err(refused)?;
        // aya falls back to an attachment that ends with the process: not to be had here.
        let link = FdLink::try_from(link).map_err(|_| LoadError::Kernel {
            what: format!("attaching to {name}"),
            reason: "the kernel offers no bpf_link for XDP (Linux 5.9 does)".to_owned(),
        })?;
        link.pin(&path)
            .map_err(|e| LoadError::kernel(format!("pinning the link to {name}"), &e))?;
        self.links.insert(ifindex);
        self.forget_stages()?;
        Ok(Attachment::New)
    }

    /// Takes the program off an interface.
    ///
    /// # Errors
    /// It is not attached there, or the pin cannot be removed.
    pub fn detach(pins: &Pins, name: &str, ifindex: u32) -> Result<(), LoadError> {
        let path = pins.link(ifindex);
        if !path.exists() {
            return Err(LoadError::NotAttached { name: name.to_owned() });
        }
        fs::remove_file(&path).map_err(|source| LoadError::Path { path, source })
    }

    /// The maps that it uses are pinned somewhere else now.
    pub(crate) fn moved_to(&mut self, pins: Pins) {
        self.pins = pins;
    }

    /// Puts this program into a link that is pinned with other tables; takes the link away if it leads nowhere. One that
    /// is gone was kept already.
    pub(crate) fn swap_or_forget(&mut self, path: &Path) -> Result<(), LoadError> {
        if !path.exists() || self.swap(path)? {
            return Ok(());
        }
        fs::remove_file(path).map_err(|source| LoadError::Path { path: path.to_owned(), source })
    }

    /// Makes a link that has this program one of its own tables'.
    pub(crate) fn keep(&mut self, path: &Path, ifindex: u32) -> Result<(), LoadError> {
        if path.exists() {
            fs::rename(path, self.pins.link(ifindex))
                .map_err(|source| LoadError::Path { path: path.to_owned(), source })?;
            self.links.insert(ifindex);
        }
        Ok(())
    }

    /// Unpins the stages of earlier programs once no link can have one of these.
    fn forget_stages(&self) -> Result<(), LoadError> {
        if !self.pins.linked().iter().all(|link| self.links.contains(link)) {
            return Ok(());
        }
        for other in self.pins.staged().into_iter().filter(|&program| program != self.id) {
            let path = self.pins.stages(other);
            fs::remove_file(&path).map_err(|source| LoadError::Path { path, source })?;
        }
        Ok(())
    }

    /// Puts this program into a pinned link. False if that leads nowhere: its interface was deleted, or it is another's, or no XDP link at all.
    /// What fails otherwise says nothing of the link, which goes on with the program that it has.
    fn swap(&mut self, path: &Path) -> Result<bool, LoadError> {
        let link = PinnedLink::from_pin(path).map(FdLink::from).and_then(XdpLink::try_from);
        let link = match link {
            Ok(link) => link,
            Err(e) if matches!(os_error(&e), None | Some(libc::EACCES | libc::EPERM)) => {
                return Ok(false);
            }
            Err(e) => return Err(LoadError::kernel("opening a pinned link", &e)),
        };
        let xdp = xdp(&mut self.ebpf, NAME)?;
        let failed = |e: ProgramError| LoadError::kernel("replacing the program of a link", &e);
        let id = match xdp.attach_to_link(link) {
            Ok(id) => id,
            Err(e) if os_error(&e) == Some(libc::ENOLINK) => return Ok(false),
            Err(e) => return Err(failed(e)),
        };
        // The pin keeps it attached; the handle is not needed.
        drop(xdp.take_link(id).map_err(failed)?);
        Ok(true)
    }
}

/// Loads the programs of an object into the kernel, and lets the stages lead to one another.
///
/// # Errors
/// The kernel refuses one.
pub fn load_programs(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    for name in names() {
        let what = || format!("loading the kernel program {name}");
        xdp(ebpf, name)?.load().map_err(|e| LoadError::kernel(what(), &e))?;
    }
    const WHAT: &str = "linking the kernel programs";
    for stage in Stage::ALL {
        let fd = xdp(ebpf, stage.program())?.fd().map_err(|e| LoadError::kernel(WHAT, &e))?;
        let fd = fd.try_clone().map_err(|e| LoadError::kernel(WHAT, &e))?;
        let map = ebpf.map_mut(maps::STAGES).ok_or_else(|| absent(maps::STAGES))?;
        ProgramArray::try_from(map)
            .and_then(|mut stages| stages.set(stage as u32, &fd, 0))
            .map_err(|e| LoadError::kernel(WHAT, &e))?;
    }
    Ok(())
}

/// The programs of the object.
fn names() -> impl Iterator<Item = &'static str> {
    [NAME].into_iter().chain(Stage::ALL.map(Stage::program))
}

fn xdp<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp, LoadError> {
    ebpf.program_mut(name).and_then(|program| program.try_into().ok()).ok_or_else(|| absent(name))
}

fn absent(name: &str) -> LoadError {
    LoadError::Kernel {
        what: "loading the kernel program".to_owned(),
        reason: format!("the object has no `{name}`"),
    }
}

fn info(xdp: &Xdp) -> Result<ProgramInfo, LoadError> {
    xdp.info().map_err(|e| LoadError::kernel("asking about the kernel program", &e))
}

/// Why an interface did not take the program.
fn refusal(name: &str, mode: Mode, error: &ProgramError) -> LoadError {
    let name = name.to_owned();
    match os_error(error) {
        Some(libc::EOPNOTSUPP) if matches!(mode, Mode::Driver) => {
            LoadError::NoNative { name, reason: "its driver does not support it".to_owned() }
        }
        Some(libc::ERANGE | libc::EINVAL) if matches!(mode, Mode::Driver) => LoadError::NoNative {
            name,
            reason: format!("its driver refuses ({}); too large an MTU?", Chain(error)),
        },
        Some(libc::EBUSY | libc::EEXIST) => LoadError::Busy { name },
        _ => LoadError::kernel(format!("attaching to {name}"), error),
    }
}

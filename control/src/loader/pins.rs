//! Making the pinned maps, and adopting those of an earlier daemon.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use aya::EbpfLoader;
use aya::maps::MapInfo;
use dataplane::abi::{ABI_VERSION, Settings, maps};

use super::error::{Chain, os_error};
use super::layout::Layout;
use super::mapped::Mapped;
use super::memory;
use super::shape::{SHAPES, Shape, Sizes};
use super::tables::{Tables, open};
use super::{Bpffs, LoadError, OBJECT};
use crate::model::Live;

/// Where things are pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    dir: PathBuf,
}

impl Pins {
    /// The pins of this ABI version under a bpffs.
    pub fn under(bpffs: &Bpffs) -> Self {
        Self { dir: bpffs.path().join(format!("v{ABI_VERSION}")) }
    }

    /// Where tables are made, until they are whole.
    pub(crate) fn staging(bpffs: &Bpffs) -> Self {
        Self { dir: bpffs.path().join(format!("v{ABI_VERSION}{NEW}")) }
    }

    /// Where the tables lie whose sessions are being moved to larger ones.
    pub(crate) fn aside(bpffs: &Bpffs) -> Self {
        Self { dir: bpffs.path().join(format!("v{ABI_VERSION}{OLD}")) }
    }

    /// The pins of all ABI versions that have any under a bpffs, this one's too.
    pub(super) fn of_all(bpffs: &Bpffs) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(bpffs.path()) else { return Vec::new() };
        let version = |name: &str| {
            let number = name.strip_prefix('v')?.split('-').next()?;
            number.parse().ok()
        };
        let all: BTreeSet<u32> =
            entries.flatten().filter_map(|entry| version(entry.file_name().to_str()?)).collect();
        all.into_iter().map(|abi| Self { dir: bpffs.path().join(format!("v{abi}")) }).collect()
    }

    /// The same version's where tables are made, and where they are set aside.
    pub(super) fn beside(&self) -> [Self; 2] {
        [NEW, OLD].map(|end| {
            let mut dir = self.dir.clone().into_os_string();
            dir.push(end);
            Self { dir: dir.into() }
        })
    }

    /// Where the same version's tables are before they count, and when they no longer do.
    pub(super) fn nobodys(&self) -> Self {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy();
        let version = name.split('-').next().unwrap_or_default();
        Self { dir: self.dir.with_file_name(format!("{version}{NEW}")) }
    }

    /// The pins whose sessions are still to be moved to these.
    pub(crate) fn predecessor(&self) -> Option<Self> {
        let name = fs::read_link(self.dir.join(FROM)).ok()?;
        Some(Self { dir: self.dir.parent()?.join(name.file_name()?) })
    }

    /// Says whose sessions are to be moved here, or that all have been.
    pub(crate) fn set_predecessor(&self, from: Option<&Self>) -> Result<(), LoadError> {
        let path = self.dir.join(FROM);
        let done = match from.and_then(|from| from.dir.file_name()) {
            Some(name) => symlink(Path::new("..").join(name), &path),
            None if path.is_symlink() => fs::remove_file(&path),
            None => Ok(()),
        };
        done.map_err(|source| LoadError::Path { path, source })
    }

    /// Gives the directory a name of any kind, beside where it is.
    #[cfg(test)]
    pub(crate) fn renamed(&self, name: &str) -> Result<Self, LoadError> {
        let to = Self { dir: self.dir.with_file_name(name) };
        self.rename(&to).map(|()| to)
    }

    /// Gives the directory another name.
    pub(crate) fn rename(&self, to: &Self) -> Result<(), LoadError> {
        fs::rename(&self.dir, &to.dir)
            .map_err(|source| LoadError::Path { path: to.dir.clone(), source })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A map's pin.
    pub fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The program's pin.
    pub fn program(&self) -> PathBuf {
        self.dir.join("program")
    }

    /// The stages of the program that has this number. They stay while a link may have that program: without a pin the
    /// kernel empties the array when the daemon ends.
    pub fn stages(&self, program: u32) -> PathBuf {
        self.dir.join(format!("{STAGES}{program}"))
    }

    /// Programs whose stages are pinned, by number.
    pub fn staged(&self) -> Vec<u32> {
        numbered(&self.dir, STAGES)
    }

    /// The directory of the links.
    pub fn links(&self) -> PathBuf {
        self.dir.join("links")
    }

    /// An interface's link. By index, because a bpffs allows no dots in names.
    pub fn link(&self, ifindex: u32) -> PathBuf {
        self.links().join(format!("if{ifindex}"))
    }

    /// Interfaces with a pinned link, by index.
    pub fn linked(&self) -> Vec<u32> {
        numbered(&self.links(), "if")
    }

    /// Whether maps are pinned.
    pub fn exist(&self) -> bool {
        self.dir.is_dir()
    }

    /// Takes everything away: links first, which takes the program off the interfaces. What is half removed when somebody dies is nobody's:
    /// it has the name under which tables are made, and the next daemon removes the rest.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove(&self) -> Result<(), LoadError> {
        let nobodys = self.nobodys();
        nobodys.clear()?;
        if *self == nobodys || !self.exist() {
            return Ok(());
        }
        self.rename(&nobodys)?;
        nobodys.clear()
    }

    fn clear(&self) -> Result<(), LoadError> {
        let links = self.links();
        for dir in [&links, &self.dir] {
            if dir.is_dir() {
                fs::remove_dir_all(dir)
                    .map_err(|source| LoadError::Path { path: dir.clone(), source })?;
            }
        }
        Ok(())
    }
}

/// Ends of directories' names: where tables are made or removed, and where they are set aside.
const NEW: &str = "-new";
const OLD: &str = "-old";

/// Leads from tables to those whose sessions are still to be moved to them.
const FROM: &str = "from";

/// Names of pinned stages begin with it.
const STAGES: &str = "stages-";

/// The numbers behind a prefix, of what a directory has.
fn numbered(dir: &Path, prefix: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let number = |name: &str| name.strip_prefix(prefix)?.parse().ok();
    let mut all: Vec<u32> =
        entries.flatten().filter_map(|entry| number(entry.file_name().to_str()?)).collect();
    all.sort_unstable();
    all
}

/// Makes the maps, empty, and pins them: all of them, or none.
///
/// # Errors
/// The kernel refuses (memory, rights), or the pins cannot be made.
pub fn create(bpffs: &Bpffs, pins: &Pins, sizes: Sizes) -> Result<Tables, LoadError> {
    let (staging, tables) = stage(bpffs, sizes)?;
    staging.rename(pins)?;
    Ok(tables)
}

/// Makes the maps, empty, and pins them where nobody looks for tables.
pub(crate) fn stage(bpffs: &Bpffs, sizes: Sizes) -> Result<(Pins, Tables), LoadError> {
    let staging = Pins::staging(bpffs);
    // A daemon that was killed here left it.
    staging.remove()?;
    memory::check(sizes)?;
    make(&staging, sizes).inspect_err(|_| {
        // What was made so far takes memory.
        let _ = staging.remove();
    })?;
    let tables = Tables::open(&staging)?;
    Ok((staging, tables))
}

fn make(staging: &Pins, sizes: Sizes) -> Result<(), LoadError> {
    let path = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| LoadError::Path { path, source }
    };
    fs::create_dir(staging.dir()).map_err(path(staging.dir()))?;
    fs::create_dir(staging.links()).map_err(path(&staging.links()))?;
    let mut loader = loader(staging);
    for (name, entries) in sizes.entries() {
        loader.map_max_entries(name, entries);
    }
    loader.load(OBJECT).map_err(|e| LoadError::kernel("making the maps", &e))?;
    let settings: Mapped<Settings> = open(staging, maps::SETTINGS)?;
    initialise(&settings[0], sizes).map_err(path(Path::new("/dev/urandom")))?;
    Layout::write(staging)?;
    check(staging)
}

/// Opens the pinned maps, if there are any, and have the right shapes.
///
/// # Errors
/// One is missing, or has another shape.
pub fn adopt(pins: &Pins) -> Result<Option<Tables>, LoadError> {
    if !pins.exist() {
        return Ok(None);
    }
    check(pins)?;
    Tables::open(pins).map(Some)
}

/// A loader that uses the pinned maps, or makes and pins them.
pub(super) fn loader(pins: &Pins) -> EbpfLoader<'static> {
    let mut loader = EbpfLoader::new();
    for (name, _) in SHAPES {
        loader.map_pin_path(name, pins.map(name));
    }
    loader
}

fn check(pins: &Pins) -> Result<(), LoadError> {
    for (name, wanted) in SHAPES {
        let path = pins.map(name);
        let info = MapInfo::from_pin(&path).map_err(|e| {
            if os_error(&e) == Some(libc::EACCES) || os_error(&e) == Some(libc::EPERM) {
                return LoadError::Rights { what: format!("opening {}", path.display()) };
            }
            LoadError::Pin { path: path.clone(), reason: Chain(&e).to_string() }
        })?;
        let found = Shape::of(&info);
        if !wanted.admits(&found) {
            let wanted = Shape { entries: wanted.entries.or(found.entries), ..wanted }.to_string();
            return Err(LoadError::Shape { path, found: found.to_string(), wanted });
        }
    }
    Ok(())
}

/// The fields of the settings that are fixed for the life of the maps.
fn initialise(settings: &Settings, sizes: Sizes) -> io::Result<()> {
    let mut random = fs::File::open("/dev/urandom")?;
    for key in settings.hash_key.iter().chain(&settings.flow_key) {
        let mut bytes = [0; 8];
        random.read_exact(&mut bytes)?;
        key.set(u64::from_ne_bytes(bytes) | 1);
    }
    settings.slot_mask.set(sizes.slots - 1);
    settings.overflow_mask.set(sizes.overflow - 1);
    settings.id_buckets.set(sizes.ids);
    settings.hint_buckets.set(sizes.hints);
    Live { max_sessions: sizes.sessions(), ..Live::default() }.write(settings);
    settings.route_generation.set(1);
    Ok(())
}

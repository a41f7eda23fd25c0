//! Commands that need no daemon.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;
use serde::Serialize;

use super::Failure;
use super::args::{Args, Place};
use super::log::audit;
use super::output::Output;
use crate::agent::Agent;
use crate::config::{Config, ReadError, XdpMode};
use crate::daemon::growth_forecast;
use crate::daemon::view::Done;
use crate::loader::{
    Attachment, Bpffs, Found, Info, LoadError, Lock, PacketLog, Pins, Program, Sizes, adopt,
    create, find, remove_all,
};
use crate::routing::interfaces;

/// `fernpass check`.
pub(super) fn check(file: &Path, output: &Output) -> Result<(), Failure> {
    let text = fs::read_to_string(file)
        .map_err(|e| Failure::Config(format!("cannot read {}: {e}", file.display())))?;
    let (config, report) = Config::examine_with_files(&text, &file.display().to_string());
    if output.is_json() {
        output.show(&report, |_| String::new())?;
    }
    let count = report.findings.len();
    match config {
        Some(_) if output.is_json() => Ok(()),
        Some(config) => {
            if count > 0 {
                eprint!("{}", report.render(io::stderr().is_terminal()));
            }
            let verdict = if count == 0 { "no mistakes" } else { "can be used" };
            output.print(&format!("{}: {verdict}", file.display()))?;
            growth(&config).map_or(Ok(()), |growth| output.print(&growth))
        }
        None if output.is_json() => Err(Failure::Shown),
        None => {
            eprint!("{}", report.render(io::stderr().is_terminal()));
            Err(Failure::Config(format!("{} cannot be used", file.display())))
        }
    }
}

/// What a configuration would do to the tables that are there, as far as whoever asks may look at them.
fn growth(config: &Config) -> Option<String> {
    let bpffs = Bpffs::existing(&config.gateway.bpffs).ok()?;
    let tables = adopt(&Pins::under(&bpffs)).ok()??;
    growth_forecast(config, &tables)
}

/// Where a gateway is, and how large.
struct Site {
    bpffs: PathBuf,
    max_sessions: u64,
    mode: XdpMode,
}

impl Site {
    /// From a configuration, or of a bpffs alone.
    fn of(place: &Place) -> Result<Self, Failure> {
        if let Some(bpffs) = &place.bpffs {
            return Ok(Self { bpffs: bpffs.clone(), max_sessions: 131_072, mode: XdpMode::Native });
        }
        let config = Config::load(&place.config).map_err(|e| match e {
            ReadError::File { .. } => Failure::Config(format!("{e}; give one with -c, or --bpffs")),
            ReadError::Config(errors) => Failure::Config(errors.to_string()),
        })?;
        Ok(Self {
            bpffs: config.gateway.bpffs,
            max_sessions: config.gateway.max_sessions,
            mode: config.gateway.xdp_mode,
        })
    }

    /// What is loaded there, locked.
    fn loaded(&self) -> Result<(Bpffs, Pins, Lock), LoadError> {
        let bpffs = Bpffs::existing(&self.bpffs)?;
        let lock = bpffs.lock()?;
        let pins = Pins::under(&bpffs);
        if !pins.exist() {
            return Err(LoadError::NotLoaded { path: self.bpffs.clone() });
        }
        Ok((bpffs, pins, lock))
    }
}

/// Something was changed: told to who asked, and logged.
fn changed(output: &Output, asked: &str, message: String) -> Result<(), Failure> {
    audit(asked);
    output.show(&Done { message }, |done| done.message.clone())
}

/// `fernpass load`.
pub(super) fn load(place: &Place, output: &Output) -> Result<(), Failure> {
    let site = Site::of(place)?;
    let bpffs = Bpffs::prepare(&site.bpffs)?;
    let _lock = bpffs.lock()?;
    let pins = Pins::under(&bpffs);
    let (tables, is_adopted) = match find(&bpffs)? {
        Found::Own(tables) => (*tables, true),
        Found::Nothing => (create(&bpffs, &pins, Sizes::for_sessions(site.max_sessions))?, false),
        Found::Moving(_, old) | Found::Foreign(old) => {
            return Err(LoadError::TakeOver { path: old.pins().dir().to_owned() }.into());
        }
    };
    let program = Program::load(&pins, PacketLog::Off).inspect_err(|_| {
        if !is_adopted {
            // What this command made is taken away again.
            let _ = pins.remove();
        }
    })?;
    changed(
        output,
        "load",
        format!(
            "program {} loaded under {}, {} tables for {} sessions",
            program.id(),
            pins.dir().display(),
            if is_adopted { "with the" } else { "with new" },
            tables.sizes().sessions()
        ),
    )
}

/// `fernpass unload`.
pub(super) fn unload(place: &Place, output: &Output) -> Result<(), Failure> {
    let site = Site::of(place)?;
    // Pins of another shape or version are taken away too.
    let bpffs = Bpffs::existing(&site.bpffs)?;
    let _lock = bpffs.lock()?;
    let interfaces = remove_all(&bpffs)?.ok_or(LoadError::NotLoaded { path: site.bpffs })?;
    changed(
        output,
        "unload",
        format!("taken off {interfaces} interfaces; tables and sessions are gone"),
    )
}

/// `fernpass attach`.
pub(super) fn attach(name: &str, place: &Place, output: &Output) -> Result<(), Failure> {
    let site = Site::of(place)?;
    let index = interfaces::index(name)?;
    let (_bpffs, pins, _lock) = site.loaded()?;
    if adopt(&pins)?.is_none() {
        return Err(LoadError::NotLoaded { path: site.bpffs }.into());
    }
    let attachment = Program::load(&pins, PacketLog::Off)?.attach(name, index, site.mode)?;
    changed(
        output,
        &format!("attach {name}"),
        match attachment {
            Attachment::New => format!("attached to {name}"),
            Attachment::Replaced => format!("was attached to {name}; the program was replaced"),
        },
    )
}

/// `fernpass detach`.
pub(super) fn detach(name: &str, place: &Place, output: &Output) -> Result<(), Failure> {
    let site = Site::of(place)?;
    let index = interfaces::index(name)?;
    let (_bpffs, pins, _lock) = site.loaded()?;
    Program::detach(&pins, name, index)?;
    changed(output, &format!("detach {name}"), format!("detached from {name}"))
}

/// Figures of the kernel program and its tables.
#[derive(Debug, Serialize)]
struct BpfInfo {
    /// Most instructions that the verifier processed for one of the programs.
    verified_instructions: u32,
    /// Instructions of all.
    instructions: u32,
    /// Bytes of all, translated.
    translated_bytes: u32,
    /// Each of them.
    programs: Vec<Info>,
    /// Bytes of the tables that grow with sessions, at 65,536 of them, for each.
    bytes_per_session: f64,
}

/// `fernpass bpf-info`.
pub(super) fn bpf_info(output: &Output) -> Result<(), Failure> {
    let sizes = Sizes::for_sessions(65_536);
    let bytes_per_session = sizes.bytes() as f64 / sizes.sessions() as f64;
    let mut programs = Program::examine(PacketLog::Off)?;
    programs.push(Agent::examine()?);
    let info = BpfInfo {
        verified_instructions: programs.iter().map(|p| p.verified_instructions).max().unwrap_or(0),
        instructions: programs.iter().map(|p| p.instructions).sum(),
        translated_bytes: programs.iter().map(|p| p.translated_bytes).sum(),
        programs,
        bytes_per_session,
    };
    output.show(&info, |i| {
        let mut text = String::new();
        for p in &i.programs {
            text += &format!(
                "{}: verifier processed {} instructions for a program of {} ({} bytes)\n",
                p.name, p.verified_instructions, p.instructions, p.translated_bytes
            );
        }
        text + &format!("tables take {:.1} bytes for each session", i.bytes_per_session)
    })
}

/// `fernpass openapi`.
pub(super) fn openapi(output: &Output) -> Result<(), Failure> {
    let text = crate::api::openapi().to_pretty_json().map_err(|e| Failure::Io(e.to_string()))?;
    output.print(&text)
}

/// `fernpass completions`.
pub(super) fn completions(shell: Shell) -> Result<(), Failure> {
    clap_complete::generate(shell, &mut Args::command(), "fernpass", &mut io::stdout());
    Ok(())
}

/// `fernpass man`.
pub(super) fn man(dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Args::command(), dir))
        .map_err(|e| Failure::Io(format!("cannot write to {}: {e}", dir.display())))
}

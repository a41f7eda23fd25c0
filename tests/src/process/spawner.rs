//! Starts all child processes from one thread that lives as long as the
//! process: the kernel sends the parent-death signal when the *thread* that
//! forked ends, and a thread is also what enters a network namespace.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};

use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// How long a child may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Killed when this process ends, however it ends.
    Ours,
    /// Stays until the lab is taken down.
    Kept,
}

type Job = Box<dyn FnOnce() + Send>;

fn spawner() -> &'static Sender<Job> {
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::Builder::new()
            .name("lab-spawner".to_owned())
            .spawn(move || jobs.iter().for_each(|job| job()))
            .expect("a thread can be started");
        sender
    })
}

/// Starts `command` in the network namespace `ns` (or the caller's), with a view of the file
/// system in which the first path of each pair lies over the second.
pub(crate) fn spawn(
    mut command: Command,
    ns: Option<Arc<OwnedFd>>,
    lifetime: Lifetime,
    binds: &[(&Path, &Path)],
) -> io::Result<std::process::Child> {
    let c = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let binds = binds.iter().map(|(over, under)| Ok((c(over)?, c(under)?)));
    prepare(&mut command, ns, lifetime, binds.collect::<io::Result<_>>()?);
    let (reply, result) = channel();
    let job: Job = Box::new(move || {
        let _ = reply.send(command.spawn());
    });
    spawner().send(job).map_err(|_| io::Error::other("the spawner thread has ended"))?;
    result.recv().map_err(|_| io::Error::other("the spawner thread has ended"))?
}

/// Runs `command` in the network namespace `ns` to its end.
pub(crate) fn run(mut command: Command, ns: Option<Arc<OwnedFd>>) -> io::Result<Output> {
    // The caller's thread waits here, so its death signal is harmless.
    prepare(&mut command, ns, Lifetime::Ours, Vec::new());
    command.output()
}

#[expect(unsafe_code, reason = "Command::pre_exec is unsafe")]
fn prepare(
    command: &mut Command,
    ns: Option<Arc<OwnedFd>>,
    lifetime: Lifetime,
    binds: Vec<(CString, CString)>,
) {
    // A terminal's interrupt goes to the lab's own process, which takes things down in order.
    command.process_group(0);
    // SAFETY: between fork and exec the closure makes system calls on
    // values it owns; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || {
            if let Some(ns) = &ns {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&**ns),
                    Some(LinkNameSpaceType::Network),
                )?;
            }
            if !binds.is_empty() {
                lay_over(&binds)?;
            }
            if lifetime == Lifetime::Ours {
                set_parent_process_death_signal(Some(Signal::KILL))?;
            }
            Ok(())
        });
    }
}

/// Gives this process a view of the file system of its own. It allocates nothing.
#[expect(unsafe_code, reason = "unshare is unsafe")]
fn lay_over(binds: &[(CString, CString)]) -> io::Result<()> {
    // SAFETY: only the mount namespace is unshared, no file descriptors.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    for (over, under) in binds {
        mount_bind(over.as_c_str(), under.as_c_str())?;
    }
    Ok(())
}

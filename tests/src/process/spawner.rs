//! Starts all child processes from one thread that lives as long as the
//! process: the kernel sends the parent-death signal when the *thread* that
//! forked ends, and a thread is also what enters a network namespace.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

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

/// Starts `command` in the network namespace `ns` (or the caller's).
pub(crate) fn spawn(
    mut command: Command,
    ns: Option<Arc<OwnedFd>>,
    lifetime: Lifetime,
) -> io::Result<std::process::Child> {
    prepare(&mut command, ns, lifetime);
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
    prepare(&mut command, ns, Lifetime::Ours);
    command.output()
}

#[expect(unsafe_code, reason = "Command::pre_exec is unsafe")]
fn prepare(command: &mut Command, ns: Option<Arc<OwnedFd>>, lifetime: Lifetime) {
    // A terminal's interrupt goes to the lab's own process, which takes things down in order.
    command.process_group(0);
    // SAFETY: between fork and exec the closure makes two system calls on
    // values it owns; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || {
            if let Some(ns) = &ns {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&**ns),
                    Some(LinkNameSpaceType::Network),
                )?;
            }
            if lifetime == Lifetime::Ours {
                set_parent_process_death_signal(Some(Signal::KILL))?;
            }
            Ok(())
        });
    }
}

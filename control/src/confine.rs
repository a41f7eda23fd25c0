//! The daemon gives up what it never needs, so that a mistake in it is worth less to whoever finds it.
//!
//! * [`files`], by Landlock: it reads what its user may read, writes where its state, its pins, its socket and the kernel's
//!   network settings are, and runs no program.
//! * [`calls`], by seccomp: what would change the system under it, or look into other processes, is refused.
//!
//! systemd's unit does the same, and more, from outside; this holds without systemd too.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus,
    path_beneath_rules,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::config::Config;

/// Where the kernel's network settings are, which `sysctl = "set"` writes.
const NETWORK_SETTINGS: &str = "/proc/sys/net";

/// Truncation is governed since Linux 6.2 (Landlock 3); an older kernel does what it can.
const LANDLOCK: ABI = ABI::V3;

/// The daemon could not give up its rights. It does not start with more than it should have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    /// The files.
    #[error("cannot give up access to files: {0}; `--unconfined` starts without")]
    Files(#[from] landlock::RulesetError),
    /// The system calls.
    #[error("cannot give up system calls: {0}; `--unconfined` starts without")]
    Calls(#[from] seccompiler::Error),
    /// The filter of the system calls.
    #[error("cannot give up system calls: {0}; `--unconfined` starts without")]
    Filter(#[from] seccompiler::BackendError),
}

/// Leaves this thread, and those that it will start, no more than they need of the files. The directories must
/// be there. Of the state directory nothing is left where a disk `keeps_state` not: to look at it may take for ever.
///
/// # Errors
/// The kernel knows Landlock, and refuses. One without Landlock is passed over, with a word in the log.
pub(crate) fn files(config: &Config, keeps_state: bool) -> Result<(), ConfineError> {
    let all = AccessFs::from_all(LANDLOCK);
    let status = Ruleset::default()
        .handle_access(all)?
        .create()?
        .add_rules(path_beneath_rules(["/"], AccessFs::from_read(LANDLOCK) & !AccessFs::Execute))?
        .add_rules(path_beneath_rules(written(config, keeps_state), all & !AccessFs::Execute))?
        .restrict_self()?;
    match status.ruleset {
        RulesetStatus::NotEnforced => {
            tracing::warn!("the kernel has no Landlock: access to files stays as it is");
        }
        how => tracing::debug!(?how, "access to files was given up"),
    }
    Ok(())
}

/// The directories that are written to.
fn written(config: &Config, keeps_state: bool) -> Vec<PathBuf> {
    let socket = config.api.socket.parent().unwrap_or(Path::new("/"));
    let mut written =
        vec![config.gateway.bpffs.clone(), socket.to_owned(), NETWORK_SETTINGS.into()];
    written.extend(keeps_state.then(|| config.gateway.state_dir.clone()));
    written
}

/// What nothing in the daemon calls once it forwards.
const REFUSED: &[libc::c_long] = &[
    // Other programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_personality,
    // Other namespaces and roots.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    // The clock and the names.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // What has been a way into the kernel more than once.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_open_by_handle_at,
    libc::SYS_vhangup,
];

/// Leaves all threads of the process no more system calls than they need: the others fail with `EPERM`.
///
/// # Errors
/// The kernel refuses the filter.
pub(crate) fn calls() -> Result<(), ConfineError> {
    seccompiler::apply_filter_all_threads(&filter()?)?;
    Ok(())
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, machine)?.try_into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::process::Command;
    use std::thread;

    use rustix::thread::{UnshareFlags, unshare_unsafe};

    use super::*;

    /// What a thread gives up is gone with it.
    fn in_a_thread(work: impl FnOnce() + Send + 'static) {
        thread::spawn(work).join().expect("as it should be");
    }

    #[test]
    fn only_what_the_daemon_keeps_can_be_written() {
        in_a_thread(|| {
            let base =
                std::env::temp_dir().join(format!("fernpass-confine-{}", std::process::id()));
            let (state, other) = (base.join("state"), base.join("other"));
            for dir in [&state, &other, &base.join("bpf"), &base.join("run")] {
                fs::create_dir_all(dir).unwrap();
            }
            fs::write(other.join("readable"), "text").unwrap();
            let example = include_str!("../../docs/fernpass.toml");
            let text = example
                .replace("/sys/fs/bpf/fernpass", &base.join("bpf").display().to_string())
                .replace("/var/lib/fernpass", &state.display().to_string())
                .replace("/run/fernpass/", &format!("{}/run/", base.display()));
            let config = Config::parse(&text, "fernpass.toml").expect("the example is right");
            files(&config, true).unwrap();

            fs::write(state.join("new"), "text").unwrap();
            fs::rename(state.join("new"), state.join("old")).unwrap();
            fs::write(base.join("run/api.sock"), "").unwrap();
            assert_eq!(fs::read_to_string(other.join("readable")).unwrap(), "text");
            for refused in [
                fs::write(other.join("new"), "text"),
                fs::write(other.join("readable"), "other"),
                fs::remove_file(other.join("readable")),
                fs::create_dir(base.join("more")),
                Command::new("/bin/true").status().map(drop),
            ] {
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
            }
        });
        let base = std::env::temp_dir().join(format!("fernpass-confine-{}", std::process::id()));
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn calls_that_it_never_makes_are_refused() {
        in_a_thread(|| {
            seccompiler::apply_filter(&filter().unwrap()).unwrap();
            let refused = Command::new("/bin/true").status().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
            // SAFETY: no descriptors are unshared, nor would they be: the call is refused.
            #[expect(unsafe_code, reason = "unshare is unsafe in general")]
            let refused = unsafe { unshare_unsafe(UnshareFlags::NEWUTS) };
            assert_eq!(refused, Err(rustix::io::Errno::PERM));
            // The rest goes on.
            fs::read_to_string("/proc/self/status").unwrap();
        });
    }
}

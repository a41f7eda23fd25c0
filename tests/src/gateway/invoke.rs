//! The program called by hand, right or wrong.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::binary::binary;
use crate::error::{LabError, Result, Tried};
use crate::net::Ns;
use crate::process::{Lifetime, spawn};
use crate::wait::until;

/// The user without any rights (Debian's `nobody` and `nogroup`).
const NOBODY: &str = "65534";

/// What a call of `fernpass` said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The superuser.
    Root,
    /// A user without rights.
    Nobody,
}

/// Calls `fernpass ARGS` in a namespace, and waits for its end. A call that
/// goes on longer than `deadline` (a daemon that should have refused to start) is an error.
pub fn invoke(ns: &Ns, caller: Caller, args: &[&str], deadline: Duration) -> Result<Said> {
    let program = binary()?;
    let mut command = match caller {
        Caller::Root => Command::new(&program),
        Caller::Nobody => {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--no-new-privs"])
                .args(["--inh-caps=-all", "--"])
                .arg(&program);
            command
        }
    };
    command.args(args);
    let described = format!("fernpass {}", args.join(" "));
    finish(command, ns, &described, deadline)
}

fn finish(mut command: Command, ns: &Ns, described: &str, deadline: Duration) -> Result<Said> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let tried = || format!("running `{described}`");
    let mut child = spawn(command, Some(ns.fd()), Lifetime::Ours, &[]).tried(tried)?;
    let ended =
        until(&format!("the end of `{described}`"), deadline, || child.try_wait().tried(tried));
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (mut out, mut err) = (String::new(), String::new());
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut out).tried(tried)?;
    }
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_string(&mut err).tried(tried)?;
    }
    match ended {
        Ok(status) => Ok(Said { code: status.code(), out, err }),
        Err(LabError::Timeout { what, after }) => {
            Err(LabError::Timeout { what: format!("{what} (it said: {out}{err})"), after })
        }
        Err(e) => Err(e),
    }
}

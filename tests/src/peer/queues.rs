//! Room for what a peer's process has not read yet.

use std::fs;

use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::error::{Result, Tried};

/// Bytes, as the lab's own sockets have.
const BUFFER: usize = 8 << 20;

/// Gives the UDP sockets that a process has now as much room as the lab's own have. By default there is room for some 200 packets: a server that
/// this machine does not let run for a fifth of a second loses what nobody else has lost.
///
/// How many there are.
pub(super) fn deepen(pid: u32) -> Result<usize> {
    let what = || format!("giving the sockets of process {pid} more room");
    let of = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH).tried(what)?;
    let process = pidfd_open(of, PidfdFlags::empty()).tried(what)?;
    let mut found = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).tried(what)? {
        let entry = entry.tried(what)?;
        // It may be closed meanwhile.
        let is_socket =
            fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_string_lossy().parse();
        let (true, Ok(number)) = (is_socket, number) else { continue };
        let socket = match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            Ok(socket) => socket,
            Err(Errno::BADF) => continue,
            Err(e) => return Err(e).tried(what),
        };
        let domain = socket_domain(socket.as_fd()).tried(what)?;
        let is_ip = [AddressFamily::INET, AddressFamily::INET6].contains(&domain);
        if is_ip && socket_type(socket.as_fd()).tried(what)? == SocketType::DGRAM {
            set_socket_recv_buffer_size_force(&socket, BUFFER).tried(what)?;
            found += 1;
        }
    }
    Ok(found)
}

//! Who started the daemon and wants to hear how it is, as systemd does (sd_notify(3)).

use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Result, Tried};
use crate::wait::Background;

/// Hears what the daemon says, from the moment it is made.
#[derive(Debug)]
pub(super) struct Manager {
    socket: PathBuf,
    watchdog: Duration,
    heard: Arc<Mutex<Vec<String>>>,
    _listener: Background,
}

impl Manager {
    /// Wants to hear, in a directory, at least that often that the daemon lives.
    pub(super) fn listen(dir: &Path, watchdog: Duration) -> Result<Self> {
        let path = dir.join("notify");
        let socket =
            UnixDatagram::bind(&path).tried(|| format!("listening at {}", path.display()))?;
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let all = Arc::clone(&heard);
        let listener = Background::spawn(move |stop| {
            let mut buffer = [0; 4096];
            while !stop.is_given() {
                if !stop.readable(socket.as_fd(), None) {
                    continue;
                }
                if let Ok(length) = socket.recv(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]);
                    let lines = text.lines().map(str::to_owned);
                    all.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
                }
            }
        })?;
        Ok(Self { socket: path, watchdog, heard, _listener: listener })
    }

    /// Tells a daemon that is about to be started whom to tell.
    pub(super) fn tell(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", &self.socket);
        command.env("WATCHDOG_USEC", self.watchdog.as_micros().to_string());
    }

    /// What it heard so far: a line for each assignment.
    pub(super) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

//! Names and indexes of interfaces.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, netdevice, socket};

/// Looks names of interfaces up, each once.
#[derive(Debug, Default)]
pub(super) struct LinkNames {
    socket: Option<OwnedFd>,
    known: HashMap<u32, String>,
}

impl LinkNames {
    /// The name of an interface; its index if it has none (any more).
    pub(super) fn name(&mut self, index: u32) -> String {
        if let Some(name) = self.known.get(&index) {
            return name.clone();
        }
        if self.socket.is_none() {
            self.socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok();
        }
        let name = self
            .socket
            .as_ref()
            .and_then(|socket| netdevice::index_to_name(socket, index).ok())
            .unwrap_or_else(|| format!("if{index}"));
        self.known.insert(index, name.clone());
        name
    }
}

//! Names, indexes and XDP modes of interfaces.

use std::fs;
use std::io;

use futures_util::TryStreamExt as _;
use netlink_packet_route::link::{LinkAttribute, LinkXdp};
use rtnetlink::new_connection;
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use crate::config::{XdpMode, did_you_mean};
use crate::loader::LoadError;

/// The index of an interface.
///
/// # Errors
/// There is none of this name; the message names those there are.
pub fn index(name: &str) -> Result<u32, LoadError> {
    let found = socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .and_then(|socket| netdevice::name_to_index(socket, name));
    found.map_err(|_| {
        let names = names();
        let hint = match did_you_mean(name, names.iter().map(String::as_str)) {
            Some(question) => format!("; {question}"),
            None if names.is_empty() => String::new(),
            None => format!("; there are {}", names.join(", ")),
        };
        LoadError::NoInterface { name: name.to_owned(), hint }
    })
}

/// The interfaces of the caller's network namespace.
fn names() -> Vec<String> {
    // Unlike /sys, this is always the namespace of the one who reads.
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let name = |line: &str| Some(line.split_once(':')?.0.trim().to_owned());
    table.lines().filter_map(name).collect()
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// The mode in which it runs.
    pub mode: XdpMode,
    /// The kernel's number for it, as `bpftool prog` shows it.
    pub program: u32,
}

/// The XDP programs that an interface runs, but for one that its hardware does.
///
/// # Errors
/// There is no such interface, or the kernel does not say.
pub async fn running(index: u32) -> io::Result<Vec<Running>> {
    let (connection, handle, _) = new_connection()?;
    tokio::spawn(connection);
    let mut found = handle.link().get().match_index(index).execute();
    let link = found.try_next().await.map_err(io::Error::other)?.ok_or(io::ErrorKind::NotFound)?;
    let xdp = link.attributes.into_iter().filter_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => Some(xdp),
        _ => None,
    });
    let one = |attribute| match attribute {
        LinkXdp::DrvProgId(program) => Some(Running { mode: XdpMode::Native, program }),
        LinkXdp::SkbProgId(program) => Some(Running { mode: XdpMode::Generic, program }),
        _ => None,
    };
    Ok(xdp.flatten().filter_map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_loopback_interface_and_says_what_there_is() {
        assert_eq!(index("lo").expect("every namespace has one"), 1);
        assert_eq!(names().iter().filter(|name| *name == "lo").count(), 1);
        let error = index("loo").expect_err("no such interface").to_string();
        assert_eq!(error, "there is no interface `loo`; did you mean `lo`?");
        let error = index("uplink-to-nowhere").expect_err("no such interface").to_string();
        assert!(error.contains("there are ") && error.contains("lo"), "{error}");
    }
}

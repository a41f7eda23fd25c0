//! Service addresses on the loopback interface.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use thiserror::Error;

use super::socket::Requester;
use super::{addresses, prefix};

/// The index of `lo`, in every network namespace.
const LOOPBACK: u32 = 1;

/// Why the host does not have, or still has, an address.
#[derive(Debug, Error)]
pub enum VipError {
    /// Netlink does not work.
    #[error("cannot read the host's addresses: {0}")]
    Netlink(#[source] io::Error),
    /// The kernel refused to add one.
    #[error("cannot add {address} to `lo`: {source}")]
    Add {
        /// The address.
        address: IpAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused to remove one.
    #[error("cannot remove {address} from `lo`: {source}")]
    Remove {
        /// The address.
        address: IpAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Gives the host the addresses that it does not have on any interface yet, each as a single
/// address on `lo`. Returns those that it added.
///
/// # Errors
/// The first that the kernel refused; those before it stay.
pub async fn ensure(vips: &BTreeSet<IpAddr>) -> Result<Vec<IpAddr>, VipError> {
    let mut requester = Requester::open().map_err(VipError::Netlink)?;
    let state = addresses::read(&mut requester).await.map_err(VipError::Netlink)?;
    let mut added = Vec::new();
    for &address in vips.iter().filter(|address| !state.is_local(**address)) {
        let message = RouteNetlinkMessage::NewAddress(message(address));
        match requester.order(message, NLM_F_CREATE | NLM_F_EXCL).await {
            Ok(()) => added.push(address),
            // Somebody else was faster.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(source) => return Err(VipError::Add { address, source }),
        }
    }
    Ok(added)
}

/// Takes addresses off `lo`. That one is not there is no error.
///
/// # Errors
/// The first that the kernel refused; those after it stay.
pub async fn remove(vips: &BTreeSet<IpAddr>) -> Result<(), VipError> {
    let mut requester = Requester::open().map_err(VipError::Netlink)?;
    for &address in vips {
        let message = RouteNetlinkMessage::DelAddress(message(address));
        match requester.order(message, 0).await {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {}
            Err(source) => return Err(VipError::Remove { address, source }),
        }
    }
    Ok(())
}

fn message(address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = prefix::width(address);
    message.header.scope = AddressScope::Universe;
    message.header.index = LOOPBACK;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

//! The services' addresses on `lo`, where the daemon manages them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use netlink_packet_route::address::AddressAttribute;
use rtnetlink::new_connection;

/// An address could not be added.
#[derive(Debug, thiserror::Error)]
#[error("cannot add the services' addresses to lo: {0}")]
pub struct VipError(String);

/// The loopback interface, in every network namespace.
const LOOPBACK: u32 = 1;

/// Adds those addresses to `lo` that no interface of the host has. Returns those it added.
///
/// # Errors
/// The kernel refuses.
pub async fn ensure(addresses: &BTreeSet<IpAddr>) -> Result<Vec<IpAddr>, VipError> {
    let (connection, handle, _) = new_connection().map_err(|e| VipError(e.to_string()))?;
    tokio::spawn(connection);
    let failed = |e: rtnetlink::Error| VipError(e.to_string());
    let mut there = BTreeSet::new();
    let mut dump = handle.address().get().execute();
    while let Some(message) = dump.try_next().await.map_err(failed)? {
        there.extend(message.attributes.iter().filter_map(|attribute| match attribute {
            AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(*address),
            _ => None,
        }));
    }
    let mut added = Vec::new();
    for address in addresses.difference(&there) {
        let length = if address.is_ipv4() { 32 } else { 128 };
        handle.address().add(LOOPBACK, *address, length).execute().await.map_err(failed)?;
        added.push(*address);
    }
    Ok(added)
}

//! Where the steps are carried out.

use dataplane::abi::{Address, AddressKey, Directory, Endpoint, NameKey, RouteKey};

use super::{KnownHop, Live, MeterLimits, Ring, TenantLimits, Wanted};

/// A table could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write table {table}: {source}")]
pub struct WriteError {
    /// Name of the table.
    pub table: &'static str,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What a write returns.
pub type Written = Result<(), WriteError>;

/// The tables of the kernel program as [`apply`](fn@super::apply) writes them: one
/// element at a time, `None` takes it away. Taking away what is not there is no error.
pub trait TableWriter {
    /// A name; `None` deletes the entry.
    fn name(&mut self, key: NameKey, name: Option<&str>) -> Written;
    /// A tenant's limits, and only those: the counts are the kernel program's.
    /// `None` zeroes the element, counts and all.
    fn tenant(&mut self, index: u32, limits: Option<TenantLimits>) -> Written;
    /// Whether frames may be sent on an interface.
    fn device(&mut self, ifindex: u32, present: bool) -> Written;
    /// A next hop; `None` zeroes the element. See [`NextHop::write`](super::NextHop::write).
    fn nexthop(&mut self, index: u32, hop: Option<&KnownHop>) -> Written;
    /// A route to a next hop index; `None` deletes the entry.
    fn route(&mut self, key: RouteKey, nexthop: Option<u32>) -> Written;
    /// An endpoint; `None` zeroes the element.
    fn endpoint(&mut self, index: u32, endpoint: Option<&Endpoint>) -> Written;
    /// The address that tunnels come from; `None` zeroes the element.
    fn source(&mut self, index: u16, source: Option<Address>) -> Written;
    /// A meter of handshakes; `None` takes its limits away.
    fn pace(&mut self, index: u32, limits: Option<MeterLimits>) -> Written;
    /// A ring, which nothing refers to yet. `None`: nothing refers to it any more;
    /// its bytes may stay.
    fn ring(&mut self, number: u16, ring: Option<&Ring>) -> Written;
    /// A directory entry, replaced as a whole; `None` deletes it.
    fn directory(&mut self, key: AddressKey, entry: Option<&Directory>) -> Written;
    /// The live settings.
    fn live(&mut self, live: &Live) -> Written;
    /// Raises [`Settings::route_generation`](dataplane::abi::Settings::route_generation) by one, so that
    /// sessions look up their next hops again.
    fn raise_route_generation(&mut self) -> Written;
}

fn put<K: Ord, V>(map: &mut std::collections::BTreeMap<K, V>, key: K, value: Option<V>) -> Written {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
    Ok(())
}

/// The tables in ordinary memory: what the daemon keeps as the present state.
impl TableWriter for Wanted {
    fn name(&mut self, key: NameKey, name: Option<&str>) -> Written {
        put(&mut self.names, key, name.map(str::to_owned))
    }

    fn tenant(&mut self, index: u32, limits: Option<TenantLimits>) -> Written {
        put(&mut self.tenants, index, limits)
    }

    fn device(&mut self, ifindex: u32, present: bool) -> Written {
        if present {
            self.devices.insert(ifindex);
        } else {
            self.devices.remove(&ifindex);
        }
        Ok(())
    }

    fn nexthop(&mut self, index: u32, hop: Option<&KnownHop>) -> Written {
        put(&mut self.nexthops, index, hop.copied())
    }

    fn route(&mut self, key: RouteKey, nexthop: Option<u32>) -> Written {
        put(&mut self.routes, key, nexthop)
    }

    fn endpoint(&mut self, index: u32, endpoint: Option<&Endpoint>) -> Written {
        put(&mut self.endpoints, index, endpoint.copied())
    }

    fn source(&mut self, index: u16, source: Option<Address>) -> Written {
        put(&mut self.sources, index, source)
    }

    fn pace(&mut self, index: u32, limits: Option<MeterLimits>) -> Written {
        put(&mut self.paces, index, limits)
    }

    fn ring(&mut self, number: u16, ring: Option<&Ring>) -> Written {
        put(&mut self.rings, number, ring.cloned())
    }

    fn directory(&mut self, key: AddressKey, entry: Option<&Directory>) -> Written {
        put(&mut self.directory, key, entry.copied())
    }

    fn live(&mut self, live: &Live) -> Written {
        self.live = *live;
        Ok(())
    }

    fn raise_route_generation(&mut self) -> Written {
        Ok(())
    }
}

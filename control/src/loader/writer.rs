//! The reconciler's steps as writes to the maps.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use aya::maps::MapError;
use aya::maps::lpm_trie::Key;
use dataplane::abi::{
    self, Address, AddressKey, Directory, Endpoint, NameKey, RING_WORDS, RouteKey, maps,
};

use super::error::os_error;
use super::pod::{PodEndpoint, PodName, PodNameKey};
use super::tables::Written as Maps;
use super::{LoadError, Pins, Tables};
use crate::model::{
    KnownHop, Live, MeterLimits, NextHop, Ring, TableWriter, TenantLimits, Wanted, WriteError,
    Written,
};

/// The only one who writes what the reconciler decides.
pub struct Writer {
    tables: Arc<Tables>,
    maps: Maps,
}

impl Writer {
    /// A writer to the pinned maps.
    ///
    /// # Errors
    /// A map cannot be opened.
    pub fn open(pins: &Pins, tables: Arc<Tables>) -> Result<Self, LoadError> {
        let maps = Maps::open(pins, &tables)?;
        Ok(Self { tables, maps })
    }

    /// What the tables hold, in the model's terms.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn read(&self) -> Result<Wanted, LoadError> {
        self.maps.read(&self.tables)
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(
    table: &'static str,
) -> impl FnOnce(E) -> WriteError {
    move |source| WriteError { table, source: Box::new(source) }
}

/// Taking away what is not there is no error.
fn gone(table: &'static str, result: Result<(), MapError>) -> Written {
    match result {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(e) if os_error(&e) == Some(libc::ENOENT) => Ok(()),
        other => other.map_err(failed(table)),
    }
}

/// An index that the table does not have.
#[derive(Debug, thiserror::Error)]
#[error("index {0} is beyond its end")]
struct Beyond(u32);

fn element<'a, T>(table: &'static str, all: &'a [T], index: u32) -> Result<&'a T, WriteError> {
    all.get(index as usize).ok_or_else(|| failed(table)(Beyond(index)))
}

impl TableWriter for Writer {
    fn name(&mut self, key: NameKey, name: Option<&str>) -> Written {
        let key = PodNameKey(key);
        match name {
            None => gone(maps::NAMES, self.maps.names.remove(&key)),
            Some(name) => {
                let mut bytes = [0; abi::MAX_NAME + 1];
                let length = name.floor_char_boundary(abi::MAX_NAME);
                bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
                self.maps
                    .names
                    .insert(key, PodName(abi::Name(bytes)), 0)
                    .map_err(failed(maps::NAMES))
            }
        }
    }

    fn tenant(&mut self, index: u32, limits: Option<TenantLimits>) -> Written {
        let tenant = element(maps::TENANTS, &self.tables.tenants, index)?;
        limits.unwrap_or_default().write(self.tables.settings(), tenant);
        if limits.is_none() {
            for count in [&tenant.sessions, &tenant.tentative, &tenant.opened, &tenant.refused] {
                count.store(0);
            }
            for meter in tenant.meters() {
                meter.until.store(0);
                meter.refused.store(0);
            }
            for sum in [
                &tenant.ended,
                &tenant.ended_rx_packets,
                &tenant.ended_rx_bytes,
                &tenant.ended_tx_packets,
                &tenant.ended_tx_bytes,
            ] {
                sum.set(0);
            }
        }
        Ok(())
    }

    fn device(&mut self, ifindex: u32, present: bool) -> Written {
        if present {
            return self
                .maps
                .devices
                .insert(ifindex, ifindex, None, 0)
                .map_err(failed(maps::DEVICES));
        }
        gone(maps::DEVICES, self.maps.devices.remove(ifindex))
    }

    fn nexthop(&mut self, index: u32, hop: Option<&KnownHop>) -> Written {
        let to = element(maps::NEXTHOPS, &self.tables.nexthops, index)?;
        hop.map_or(NextHop::default(), |known| known.hop).write(to);
        Ok(())
    }

    fn route(&mut self, key: RouteKey, nexthop: Option<u32>) -> Written {
        let key = Key::new(key.prefix_len, key.address.0);
        match nexthop {
            Some(nexthop) => {
                self.maps.routes.insert(&key, nexthop, 0).map_err(failed(maps::ROUTES))
            }
            None => gone(maps::ROUTES, self.maps.routes.remove(&key)),
        }
    }

    fn endpoint(&mut self, index: u32, endpoint: Option<&Endpoint>) -> Written {
        let endpoint = endpoint.copied().unwrap_or_default();
        self.maps.endpoints.set(index, PodEndpoint(endpoint), 0).map_err(failed(maps::ENDPOINTS))
    }

    fn source(&mut self, index: u16, source: Option<Address>) -> Written {
        let source = source.unwrap_or_default();
        self.maps.sources.set(index.into(), source.0, 0).map_err(failed(maps::SOURCES))
    }

    fn pace(&mut self, index: u32, limits: Option<MeterLimits>) -> Written {
        let meter = element(maps::PACES, &self.tables.paces, index)?;
        limits.unwrap_or_default().write(meter);
        Ok(())
    }

    fn ring(&mut self, number: u16, ring: Option<&Ring>) -> Written {
        let Some(ring) = ring else { return Ok(()) };
        let first = u32::from(number) * RING_WORDS;
        element(maps::RINGS, &self.tables.rings, first + RING_WORDS - 1)?;
        let cells = &self.tables.rings[first as usize..];
        for (cell, word) in cells.iter().zip(ring.words()) {
            cell.set(u64::from_ne_bytes(*word));
        }
        // Complete before a listener refers to it.
        fence(Ordering::SeqCst);
        Ok(())
    }

    fn directory(&mut self, key: AddressKey, entry: Option<&Directory>) -> Written {
        let (settings, directory) = (self.tables.settings(), &mut self.maps.directory);
        match entry {
            Some(entry) => directory.put(settings, &key, entry).map_err(failed(maps::DIRECTORY)),
            None => {
                directory.remove(settings, &key);
                Ok(())
            }
        }
    }

    fn live(&mut self, live: &Live) -> Written {
        live.within(self.tables.sizes().sessions()).write(self.tables.settings());
        Ok(())
    }

    fn raise_route_generation(&mut self) -> Written {
        fence(Ordering::SeqCst);
        let generation = &self.tables.settings().route_generation;
        generation.set(generation.get().wrapping_add(1));
        Ok(())
    }
}

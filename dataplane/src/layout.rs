//! What lies where in the tables, by name: what a daemon writes into [`maps::LAYOUT`](crate::abi::maps::LAYOUT) when it
//! makes tables, so that one of another version can read the sessions, whatever it would have made of them itself.
//!
//! A field is `MAP.field`, one of a meter wherever there is one `METER.field`, a number `name`, a reason `reason.name`. A name never changes what it means: a field that
//! means something else gets another one.

use core::mem::offset_of;

use crate::abi::{
    self, Detail, ENDPOINT_LIVE, Endpoint, Layout, Meter, NAME_BACKEND, NAME_LISTENER,
    NAME_LISTENER_POOL, NAME_POOL, NAME_RETIRED, NAME_SERVICE, NAME_TENANT, POOL_STRIDE,
    SERVICE_TCP, Settings, Slot, Tenant,
};
use crate::reason::Reason;
use crate::table::slot;
use std::string::{String, ToString as _};
use std::vec::Vec;

/// Raised when a flow, an id or an address has another hash than before with the same keys, or a hint another form: then neither
/// hints nor ids that are hashes mean anything in tables of another version.
const HASHES: u64 = 1;

/// Bytes of a field.
const fn size<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! fields {
    ($($map:literal $type:ident { $($field:ident)* })*) => {
        [$($((
            concat!($map, ".", stringify!($field)),
            offset_of!($type, $field),
            size(|t: &$type| &t.$field),
            size_of::<$type>(),
        ),)*)*]
    };
}

/// The layout of this version's tables.
pub fn entries() -> Vec<(String, Layout)> {
    let fields = fields! {
        "SLOTS" Slot {
            state client port_service endpoint last_seen rx_packets rx_bytes tx_packets tx_bytes in_id out_id
        }
        "DETAILS" Detail {
            opened identity in_id_next in_id_previous out_id_next out_id_previous in_counter out_counter
            rx_packets_high rx_bytes_high tx_packets_high tx_bytes_high moves handshake closing
        }
        "TENANTS" Tenant {
            opened refused ended ended_rx_packets ended_rx_bytes ended_tx_packets ended_tx_bytes
            handshakes new_sessions packets_in bytes_in packets_out bytes_out
        }
        "METER" Meter { refused }
        "ENDPOINTS" Endpoint { backend flags }
        "SETTINGS" Settings { flow_key hash_key }
    };
    let numbers = [
        ("abi", u64::from(abi::ABI_VERSION)),
        ("hashes", HASHES),
        ("pool_stride", POOL_STRIDE.into()),
        ("service_tcp", SERVICE_TCP.into()),
        ("endpoint_live", ENDPOINT_LIVE.into()),
        ("state_bits", 8),
        ("state_tentative", slot::TENTATIVE.into()),
        ("state_open", slot::OPEN.into()),
        ("state_aside", slot::ASIDE.into()),
        ("name_tenant", NAME_TENANT.into()),
        ("name_service", NAME_SERVICE.into()),
        ("name_pool", NAME_POOL.into()),
        ("name_backend", NAME_BACKEND.into()),
        ("name_listener", NAME_LISTENER.into()),
        ("name_listener_pool", NAME_LISTENER_POOL.into()),
        ("name_retired", NAME_RETIRED.into()),
    ];
    let field = |(name, offset, size, stride): (&str, usize, usize, usize)| {
        let layout = Layout { value: offset as u64, size: size as u32, stride: stride as u32 };
        (name.to_string(), layout)
    };
    let number =
        |(name, value): (&str, u64)| (name.to_string(), Layout { value, size: 0, stride: 0 });
    let reason = |reason: &Reason| {
        (reason_name(reason.as_str()), Layout { value: *reason as u64, size: 0, stride: 0 })
    };
    let all = fields.into_iter().map(field).chain(numbers.into_iter().map(number));
    all.chain(Reason::ALL.iter().map(reason)).collect()
}

/// The name of a reason's number.
pub fn reason_name(reason: &str) -> String {
    std::format!("reason.{reason}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{LayoutKey, MAX_LAYOUT};
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_one_and_fits_and_every_field_lies_in_its_element() {
        let all = entries();
        let names: BTreeSet<_> = all.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.len() <= MAX_LAYOUT as usize / 2, "room for others' reasons");
        for (name, layout) in &all {
            assert!(name.len() < size_of::<LayoutKey>(), "{name}");
            assert!(
                layout.stride == 0 || layout.value + u64::from(layout.size) <= layout.stride.into()
            );
            // A reader takes a field out of one word, or word by word.
            assert!(
                layout.size == 0 || layout.value % u64::from(layout.size.min(8)) == 0,
                "{name}"
            );
        }
    }
}

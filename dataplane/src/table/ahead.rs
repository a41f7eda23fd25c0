//! Asks memory for what a new session will touch, all at once.
//!
//! A session is made of lines of memory that nobody has touched for long: slot, detail, the buckets of its ids and of its
//! hint. What makes it goes from one to the next with atomic operations, each of which waits for all before it. Loads do not
//! wait for one another: those here cost about as much as the slowest of them.

use super::hash::Flow;
use super::ids::Scope;
use super::{Tables, hash, hints, ids, slot};
use crate::abi::{Address, service_index};

/// Loads what making a session on this flow touches, with an id of each scope; 0 is none.
#[inline(always)]
pub fn load<T: Tables>(t: &T, flow: &Flow, endpoint: u16, in_id: u32, out_id: u32) {
    let [high, low] = flow.client.halves();
    let scopes = u64::from(flow.port_service()) << 32 | u64::from(endpoint);
    t.load_ahead(u64::from(in_id) << 32 | u64::from(out_id), scopes, high, low);
}

/// The body of [`load`]; see [`Tables`] for why it is apart. Returns 0.
#[inline(always)]
pub fn load_apart<T: Tables>(t: &T, in_out_id: u64, scopes: u64, high: u64, low: u64) -> u64 {
    let Some(s) = t.settings() else { return 0 };
    let (port, service) = ((scopes >> 32) as u16, (scopes >> 48) as u16);
    let flow = Flow { client: Address::from_halves([high, low]), port, service };
    let hash = hash::flow(s, &flow);
    // The session lies there if nobody else does; who looks for its end of a run looks at the next one.
    if let Some(detail) = t.detail(slot::probe(s, hash, 0)) {
        detail.opened.get();
    }
    if let Some(next) = t.slot(slot::probe(s, hash, 1)) {
        next.state.load();
    }
    if let Some(bucket) = hints::bucket(t, s, &flow.client, service_index(service), 0) {
        bucket.0[0].load();
    }
    let ids = [
        (Scope::inbound(service), (in_out_id >> 32) as u32),
        (Scope::outbound(scopes as u16), in_out_id as u32),
    ];
    for (scope, id) in ids {
        if id != 0 {
            let place = ids::place(s, scope, id);
            for bucket in [place.first, place.second] {
                if let Some(bucket) = t.ids(bucket) {
                    bucket.0[0].load();
                }
            }
        }
    }
    0
}

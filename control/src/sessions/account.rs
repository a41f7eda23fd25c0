//! A tenant's sums over its ended sessions. A session is added to them once, also if a daemon dies in the middle of it.
//!
//! No single write raises five sums. So [`Tenant::ending`] says which slot's session is about to be ended, which sum is next, and what
//! that will be: the next daemon goes on from there.

use std::sync::atomic::{Ordering, compiler_fence};

use dataplane::abi::{Detail, Slot, Tenant};
use dataplane::cell::Cell;
use dataplane::table::slot;

use super::keeper::Memory;
use super::reader::{Reader, count};

/// What [`Tenant::ending`] says.
#[derive(Clone, Copy)]
struct Note {
    index: u32,
    /// Of the slot; as much of it as there is room for.
    generation: u32,
    /// 1 before the session is ended, from 2 on the sum that is being written.
    stage: usize,
}

const GENERATION: u32 = (1 << 24) - 1;
/// Before the session is ended.
const BEGUN: usize = 1;

impl Note {
    fn write(self, tenant: &Tenant) {
        let Self { index, generation, stage } = self;
        set(
            &tenant.ending[0],
            u64::from(generation & GENERATION) << 40 | u64::from(index) << 8 | stage as u64,
        );
    }

    fn read(tenant: &Tenant) -> Option<Self> {
        let word = tenant.ending[0].get();
        let (index, generation) = ((word >> 8) as u32, (word >> 40) as u32);
        (word != 0).then_some(Self { index, generation, stage: (word & 0xff) as usize })
    }
}

/// Writes, after everything before and before everything after it: whoever is killed has written all that comes before.
fn set(cell: &Cell<u64>, value: u64) {
    compiler_fence(Ordering::SeqCst);
    cell.set(value);
    compiler_fence(Ordering::SeqCst);
}

/// Notes that the open session in a slot is about to be ended.
pub(super) fn begin(tenant: &Tenant, index: u32, word: u64) {
    Note { index, generation: slot::generation(word), stage: BEGUN }.write(tenant);
}

/// Notes that nothing is being ended.
pub(super) fn over(tenant: &Tenant) {
    set(&tenant.ending[0], 0);
}

/// Adds the session, which has ended, to its tenant's sums.
pub(super) fn add(tenant: &Tenant, index: u32, slot: &Slot, detail: &Detail) {
    let generation = slot::generation(slot.state.load());
    add_from(0, tenant, Note { index, generation, stage: BEGUN }, (slot, detail));
    over(tenant);
}

fn add_from(first: usize, tenant: &Tenant, note: Note, (s, detail): (&Slot, &Detail)) {
    let more = [
        1,
        count(&s.rx_packets, &detail.rx_packets_high),
        count(&s.rx_bytes, &detail.rx_bytes_high),
        count(&s.tx_packets, &detail.tx_packets_high),
        count(&s.tx_bytes, &detail.tx_bytes_high),
    ];
    for (n, (sum, more)) in sums(tenant).into_iter().zip(more).enumerate().skip(first) {
        let will_be = sum.get() + more;
        // What the note says now is in the other one.
        set(goal(tenant, n), will_be);
        Note { stage: BEGUN + 1 + n, ..note }.write(tenant);
        set(sum, will_be);
    }
}

fn sums(tenant: &Tenant) -> [&Cell<u64>; 5] {
    [
        &tenant.ended,
        &tenant.ended_rx_packets,
        &tenant.ended_rx_bytes,
        &tenant.ended_tx_packets,
        &tenant.ended_tx_bytes,
    ]
}

/// Where it says what a sum will be.
fn goal(tenant: &Tenant, sum: usize) -> &Cell<u64> {
    &tenant.ending[1 + sum % 2]
}

/// Finishes what a daemon that died left.
pub fn settle<'a>(memory: impl Into<Memory<'a>>) {
    let memory = memory.into();
    for tenant in memory.tenants {
        let Some(note) = Note::read(tenant) else { continue };
        let at = note.index as usize;
        if let (Some(slot), Some(detail)) = (memory.slots.get(at), memory.details.get(at)) {
            let is_retired = || {
                let word = slot.state.load();
                let is_same = slot::generation(word) & GENERATION == note.generation;
                is_same && slot::state(word) == slot::RETIRED
            };
            // Where it has only moved, the kernel program has retired its slot.
            let has_moved = || Reader::new(memory).find(detail.identity.get()).is_some();
            match note.stage.checked_sub(BEGUN + 1) {
                None if is_retired() && !has_moved() => add_from(0, tenant, note, (slot, detail)),
                None => {}
                Some(sum) => {
                    sums(tenant)[sum.min(4)].set(goal(tenant, sum).get());
                    add_from(sum + 1, tenant, note, (slot, detail));
                }
            }
        }
        over(tenant);
    }
}

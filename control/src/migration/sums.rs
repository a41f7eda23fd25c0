//! What tenants have had, and what became of packets: carried over while both tables count.

use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use dataplane::abi::{Tenant, maps};
use dataplane::reason::Reason;

use super::translation::Translation;
use crate::loader::{Ended, LoadError, Old, Pins, Tables, typed};

/// The sums as they were carried last, so that only what is new is added.
pub(super) struct Sums {
    counters: PerCpuArray<MapData, u64>,
    /// By old tenant index.
    tenants: Option<Vec<Ended>>,
    reasons: Option<Vec<Vec<u64>>>,
}

impl Sums {
    /// Those of new tables that were pinned here. With nothing in them yet, or with nobody knows how much of the old ones' in them.
    pub(super) fn new(
        pins: &Pins,
        translation: &Translation,
        fresh: bool,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            counters: typed(pins, maps::COUNTERS)?,
            tenants: fresh.then(|| vec![Ended::default(); translation.tenants.len()]),
            reasons: fresh.then(|| vec![Vec::new(); Reason::ALL.len()]),
        })
    }

    /// Adds what has been counted in the old tables since.
    pub(super) fn carry(
        &mut self,
        old: &Old,
        tables: &Tables,
        translation: &Translation,
    ) -> Result<(), LoadError> {
        let before = self.tenants.take();
        let mut now = Vec::new();
        for (n, (from, to)) in translation.tenants.iter().enumerate() {
            let ended = old.ended(*from);
            now.push(ended);
            if let Some(tenant) = tables.tenants.get(*to as usize) {
                add(tenant, ended, before.as_ref().and_then(|before| before.get(n)));
            }
        }
        self.tenants = Some(now);
        let before = self.reasons.take();
        let mut now = Vec::new();
        for (n, reason) in Reason::ALL.iter().enumerate() {
            let counted = old.counted(*reason)?;
            self.count(*reason, &counted, before.as_ref().map(|before| before[n].as_slice()))?;
            now.push(counted);
        }
        self.reasons = Some(now);
        Ok(())
    }

    /// Adds to a reason what was counted since `before`. A packet that is counted at this very moment may be missed.
    fn count(
        &mut self,
        reason: Reason,
        counted: &[u64],
        before: Option<&[u64]>,
    ) -> Result<(), LoadError> {
        let failed = |e| LoadError::kernel("carrying the counters over", &e);
        let there = self.counters.get(&(reason as u32), 0).map_err(failed)?;
        let mut values = there.to_vec();
        let Some(first) = values.first_mut() else { return Ok(()) };
        match before {
            Some(before) => {
                let at = |values: &[u64], n: usize| values.get(n).copied().unwrap_or(0);
                let more = |n| at(counted, n).saturating_sub(at(before, n));
                if (0..counted.len()).all(|n| more(n) == 0) {
                    return Ok(());
                }
                for n in 0..counted.len() {
                    // A machine has as many processors before as after.
                    if let Some(value) = values.get_mut(n) {
                        *value += more(n);
                    }
                }
            }
            None => {
                let missing = counted.iter().sum::<u64>().saturating_sub(there.iter().sum());
                if missing == 0 {
                    return Ok(());
                }
                *first += missing;
            }
        }
        let values = PerCpuValues::try_from(values)
            .map_err(|e| LoadError::kernel("carrying the counters over", &e))?;
        self.counters.set(reason as u32, values, 0).map_err(failed)
    }
}

/// Adds what was counted since `before`; what is missing, if that is not known.
fn add(tenant: &Tenant, now: Ended, before: Option<&Ended>) {
    let more =
        |now: u64, before: Option<u64>, there: u64| now.saturating_sub(before.unwrap_or(there));
    let words = [
        (&tenant.opened, now.opened, before.map(|b| b.opened)),
        (&tenant.refused, now.refused, before.map(|b| b.refused)),
    ];
    let limits = tenant.meters().into_iter().enumerate();
    let limits = limits.map(|(n, m)| (&m.refused, now.limited[n], before.map(|b| b.limited[n])));
    for (word, now, before) in words.into_iter().chain(limits) {
        word.add(more(now, before, word.load()));
    }
    let cells = [
        &tenant.ended,
        &tenant.ended_rx_packets,
        &tenant.ended_rx_bytes,
        &tenant.ended_tx_packets,
        &tenant.ended_tx_bytes,
    ];
    for (n, cell) in cells.into_iter().enumerate() {
        let before = before.map(|b| b.sums[n]);
        cell.set(cell.get() + more(now.sums[n], before, cell.get()));
    }
}

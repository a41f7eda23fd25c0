//! A concentrator dies.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::drain::busiest;
use super::{Check, Claim, Farm, SOON, ms};
use crate::error::Result;
use crate::traffic::Sequence;
use crate::wait::until;

/// WireGuard notices after 15 s of silence, and tries again every 5 s.
const BACK: Duration = Duration::from_secs(60);

/// What [`death`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Death {
    /// The concentrator.
    pub backend: String,
    /// From its death until the gateway listed no session on it any more.
    pub dropped_after_ms: u64,
    /// Its clients, and how long each was without an answer. Fifteen seconds of it are
    /// WireGuard's own patience.
    pub back_after_ms: BTreeMap<String, u64>,
    /// Who answers them now.
    pub now_on: BTreeMap<String, u8>,
    /// What the clients of the pool's other concentrators lost.
    pub others_lost: u64,
    /// Its number.
    pub concentrator: u8,
}

/// Kills the concentrator of a pool that has the most sessions, and waits until
/// its clients are back on others.
pub fn death(farm: &mut Farm, pool: usize) -> Result<Death> {
    let concentrator = busiest(farm, pool)?;
    let backend = farm.backend_name(concentrator);
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for member in farm.members_of(pool) {
        let sequence = farm.traffic(member, 20)?;
        sequence.wait_for(5, SOON)?;
        match farm.session(member)?.concentrator() {
            n if n == concentrator => {
                own.push((farm.members()[member].name().to_owned(), sequence))
            }
            _ => others.push(sequence),
        }
    }
    farm.pool(pool).concentrator(concentrator).die()?;
    let died = Instant::now();

    let mut dropped_after_ms = None;
    let mut back_after_ms = BTreeMap::new();
    until("the clients' return to other concentrators", BACK, || {
        if dropped_after_ms.is_none()
            && farm.gateway().sessions()?.iter().all(|s| s.concentrator() != concentrator)
        {
            dropped_after_ms = Some(ms(died.elapsed()));
        }
        for (client, sequence) in &own {
            if !back_after_ms.contains_key(client) && elsewhere(sequence, concentrator).is_some() {
                back_after_ms.insert(client.clone(), ms(died.elapsed()));
            }
        }
        Ok((dropped_after_ms.is_some() && back_after_ms.len() == own.len()).then_some(()))
    })?;
    Ok(Death {
        backend,
        dropped_after_ms: dropped_after_ms.unwrap_or_default(),
        back_after_ms,
        now_on: own
            .iter()
            .filter_map(|(client, sequence)| {
                Some((client.clone(), elsewhere(sequence, concentrator)?))
            })
            .collect(),
        others_lost: others.into_iter().map(|sequence| sequence.stop().lost).sum(),
        concentrator,
    })
}

/// Who else has answered than this concentrator.
fn elsewhere(sequence: &Sequence, concentrator: u8) -> Option<u8> {
    sequence.so_far().answered_by.into_keys().find(|&n| n != concentrator)
}

impl Claim for Death {
    fn failures(&self) -> Vec<String> {
        Check::default()
            .that(!self.back_after_ms.is_empty(), || "nobody was on it".to_owned())
            .that(self.now_on.len() == self.back_after_ms.len(), || {
                format!("the clients are on {:?}", self.now_on)
            })
            .that(self.others_lost == 0, || {
                format!("clients of other concentrators lost {} packets", self.others_lost)
            })
            .failures()
    }

    fn summary(&self) -> String {
        let places: Vec<String> = self.now_on.values().map(|n| format!("wg-{n}")).collect();
        let slowest = self.back_after_ms.values().max().copied().unwrap_or(0);
        format!(
            "{} died: dropped after {} ms, its {} clients back on {} after {:.1} s \
             (15 s are WireGuard's own), others lost {}",
            self.backend,
            self.dropped_after_ms,
            self.back_after_ms.len(),
            places.join(", "),
            slowest as f64 / 1000.0,
            self.others_lost,
        )
    }
}

//! How many labs work at once on this machine: a lab's measurements are worth
//! nothing when too many of them share its processors.

use std::env;
use std::fs::{self, File};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Result, Tried};
use crate::record::ROOT;
use crate::wait::until;

/// Labs at once. Every lab has a dozen processes; two keep a small machine busy, one
/// an emulated one.
const PLACES: u32 = 2;
/// Says how many, instead.
const VARIABLE: &str = "FERNPASS_LAB_PLACES";
/// Others' scenarios end sooner.
const PATIENCE: Duration = Duration::from_secs(1800);

/// A place among the labs that work at once; free again when it is dropped,
/// or when the process ends.
#[derive(Debug)]
pub struct Place {
    _lock: File,
}

/// Waits for a place, shared with all processes of the machine.
pub fn enter() -> Result<Place> {
    let folder = format!("{ROOT}/.gate");
    fs::create_dir_all(&folder).tried(|| format!("creating {folder}"))?;
    let mut places = Vec::new();
    let named = env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
    for n in 0..named.unwrap_or(PLACES).max(1) {
        let path = format!("{folder}/{n}");
        places.push(File::create(&path).tried(|| format!("creating {path}"))?);
    }
    until("a place for another lab", PATIENCE, || {
        let free = |place: &File| flock(place, FlockOperation::NonBlockingLockExclusive).is_ok();
        Ok(places.iter().position(free).map(|n| Place { _lock: places.swap_remove(n) }))
    })
}

//! What the tests share.

use std::time::Duration;

use lab::gate::{self, Place};
use lab::{Lab, Options, record};

/// How long anything may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A lab, as soon as the machine has room for it.
pub(crate) fn lab() -> (Place, Lab) {
    let place = gate::enter().unwrap();
    (place, Lab::new(Options::default()).unwrap())
}

/// The processes are gone, or are others now, and so is the lab.
#[track_caller]
pub(crate) fn assert_gone(id: &str, pids: &[u32]) {
    assert!(!record::standing().unwrap().iter().any(|lab| lab.id == id), "lab {id} stands");
    for pid in pids {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        assert!(!command.contains(&format!("fernpass-lab/{id}/")), "{pid} lives: {command}");
    }
}

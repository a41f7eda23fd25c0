//! What a daemon pinned for the next one is taken from it.

use std::fs;

use super::scratch::Scratch;
use super::world::SIZES;
use crate::config::XdpMode;
use crate::loader::{Bpffs, PacketLog, Pins, Program, adopt, create};

#[test]
fn what_is_gone_with_its_directory_is_pinned_again_and_nothing_is_attached_before() {
    let scratch = Scratch::new("unpinned");
    // As a bpffs that is mounted anew, without the gateway's directory in it.
    let bpffs = Bpffs::prepare(&scratch.bpffs().path().join("fernpass")).unwrap();
    let pins = Pins::under(&bpffs);
    create(&bpffs, &pins, SIZES).unwrap();
    let mut program = Program::load(&pins, PacketLog::Off).unwrap();
    assert!(program.is_pinned());
    fs::remove_dir_all(bpffs.path()).unwrap();
    assert!(!program.is_pinned());

    // Its link could not be pinned, and would be gone at once.
    let refused = program.attach("lo", 1, XdpMode::Generic).unwrap_err().to_string();
    assert!(refused.contains(&pins.links().display().to_string()), "{refused}");

    let missing = program.pin_again().unwrap();
    assert!(missing.len() > 15, "{missing:?}");
    assert!(program.is_pinned() && adopt(&pins).unwrap().is_some());
    assert_eq!(program.pin_again().unwrap(), Vec::<String>::new());
    pins.remove().unwrap();
}

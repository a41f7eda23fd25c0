//! What is committed of the corpora is fed to the targets: what was found once does not come back.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;

use fuzz::{TARGETS, corpus};

/// Most bytes that are committed of all corpora.
const ROOM: usize = 1 << 20;

#[test]
fn every_committed_input_is_taken() {
    let mut bytes = 0;
    for target in TARGETS {
        let inputs = corpus::committed(target).unwrap_or_else(|e| panic!("{}: {e}", target.name));
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for (file, input) in &inputs {
            bytes += input.len();
            if catch_unwind(|| (target.run)(input)).is_err() {
                panic!("{} does not take {}", target.name, file.display());
            }
        }
        println!("{}: {} inputs", target.name, inputs.len());
    }
    assert!(bytes <= ROOM, "{bytes} bytes: `cargo xtask fuzz --minimise` leaves fewer");
}

#[test]
fn every_seed_is_taken() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in seeds.into_iter().filter(|seed| seed.len() <= target.longest).step_by(7) {
            (target.run)(&seed);
        }
    }
}

#[test]
fn every_corpus_is_a_targets() {
    let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len(), "two targets have one name");
    let parent = corpus::directory(&TARGETS[0]).parent().expect("it has one").to_owned();
    for entry in fs::read_dir(parent).expect("corpora are committed") {
        let name = entry.expect("it can be read").file_name();
        assert!(names.contains(name.to_str().unwrap_or_default()), "{name:?} is no target");
    }
}

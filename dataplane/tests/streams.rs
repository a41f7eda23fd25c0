//! Random streams on the host: what must be true after every packet, and that the hot path decides
//! as the general path does.

use dataplane::fixture::check::{Shared, consistency};
use dataplane::fixture::stream::{self, Step, Stream};
use dataplane::packet::Buffer;
use dataplane::pipeline::{self, Action};
use dataplane::reason::{Kind, Reason};
use dataplane::table::host::HostTables;

const STREAMS: u64 = 300;
const STEPS: usize = 300;

/// What became of the packets: forwarded, passed, dropped.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ends {
    forwarded: u64,
    passed: u64,
    dropped: u64,
}

#[test]
fn every_packet_ends_once_and_the_tables_stay_whole() {
    for seed in 0..STREAMS {
        let world = stream::world(seed);
        let t = &world.tables;
        let shared = Shared::of(t);
        let mut ends = Ends::default();
        for (number, step) in Stream::new(seed).take(STEPS).enumerate() {
            match step {
                Step::Change(change) => change.apply(&shared),
                Step::Frame { bytes, ingress, metadata } => {
                    let mut packet = Buffer::with_metadata(&bytes, ingress, metadata);
                    let verdict = pipeline::run(&mut packet, t);
                    let (end, kind) = match verdict.action {
                        Action::Drop if verdict.reason.kind() == Kind::Taken => {
                            (&mut ends.dropped, Kind::Taken)
                        }
                        Action::Drop => (&mut ends.dropped, Kind::Dropped),
                        Action::Pass => (&mut ends.passed, Kind::Passed),
                        Action::Transmit | Action::Redirect(_) => {
                            (&mut ends.forwarded, Kind::Forwarded)
                        }
                    };
                    *end += 1;
                    assert_eq!(verdict.reason.kind(), kind, "seed {seed}, step {number}");
                }
            }
            if let Err(wrong) = consistency(&shared) {
                panic!("seed {seed}, step {number}: {wrong}");
            }
        }
        let sum = |kind| {
            Reason::ALL.iter().filter(|r| r.kind() == kind).map(|r| t.counter(*r)).sum::<u64>()
        };
        let counted = Ends {
            forwarded: sum(Kind::Forwarded),
            passed: sum(Kind::Passed),
            dropped: sum(Kind::Dropped) + sum(Kind::Taken),
        };
        assert_eq!(counted, ends, "seed {seed}");
    }
}

/// All that a packet may change, counters and sessions' counts too.
fn everything(t: &HostTables) -> String {
    format!("{:?} {:?} {:?} {:?}", t.slots, t.details, t.counters, t.hints)
}

#[test]
fn the_hot_path_decides_as_the_general_path_does() {
    const STREAMS: u64 = 60;
    let mut hot = 0;
    for seed in 0..STREAMS {
        let (one, two) = (stream::world(seed), stream::world(seed));
        for (number, step) in Stream::new(seed).take(STEPS).enumerate() {
            match step {
                Step::Change(change) => {
                    change.apply(&Shared::of(&one.tables));
                    change.apply(&Shared::of(&two.tables));
                }
                Step::Frame { bytes, ingress, metadata } => {
                    let packet = || Buffer::with_metadata(&bytes, ingress, metadata);
                    let (mut a, mut b) = (packet(), packet());
                    let verdict = pipeline::run(&mut a, &one.tables);
                    let general = pipeline::run_general(&mut b, &two.tables);
                    assert_eq!(verdict, general, "seed {seed}, step {number}");
                    assert_eq!(a.bytes(), b.bytes(), "seed {seed}, step {number}");
                    hot += u64::from(matches!(
                        verdict.reason,
                        Reason::InEstablished | Reason::OutEstablished
                    ));
                }
            }
            assert_eq!(one.image(), two.image(), "seed {seed}, step {number}");
        }
        assert_eq!(everything(&one.tables), everything(&two.tables), "seed {seed}");
    }
    assert!(hot > 1_000, "{hot} packets of established sessions");
}

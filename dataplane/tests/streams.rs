//! Random streams on the host: what must be true after every packet.

use dataplane::fixture::check::{Shared, consistency};
use dataplane::fixture::stream::{self, Step, Stream};
use dataplane::packet::Buffer;
use dataplane::pipeline::{self, Action};
use dataplane::reason::{Kind, Reason};

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
            dropped: sum(Kind::Dropped),
        };
        assert_eq!(counted, ends, "seed {seed}");
    }
}

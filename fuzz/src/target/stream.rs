//! Streams of frames, of time, and of what a daemon does to the tables, in worlds of which some things are wrong.

use arbitrary::{Result, Unstructured};
use dataplane::fixture::catalog::Packet;
use dataplane::fixture::check::{Shared, consistency, sessions};
use dataplane::fixture::oracle::comes_from_inside;
use dataplane::fixture::stream::{Change, world};
use dataplane::fixture::{World, mutate, read, site};
use dataplane::packet::Buffer;
use dataplane::pipeline::{Action, Verdict, run as pipeline, run_general};
use dataplane::reason::{Kind, Reason};
use dataplane::table::host::HostTables;

use crate::{Target, pool};

pub(crate) const TARGET: Target = Target {
    longest: 1024,
    ..Target::new(
        "stream",
        "streams of mutated frames, time and the daemon's work, and what holds after each",
        run,
        seeds,
    )
};

/// Most steps of a stream.
const STEPS: usize = 60;
/// So many bytes of a driver's before the frame leave no room for a tag.
const METADATA: usize = 216;

/// Two worlds that must stay alike: the second one decides without the hot path.
struct Twins([World; 2]);

/// A world's number, and the choices of the steps.
fn run(data: &[u8]) {
    let Some((&seed, choices)) = data.split_first() else { return };
    let twins = Twins([world(seed.into()), world(seed.into())]);
    let choices = &mut Unstructured::new(choices);
    let bytes = pool::bytes(&pool::ALL);
    for _ in 0..STEPS {
        if choices.is_empty() || twins.step(choices, &bytes).is_err() {
            break;
        }
    }
    let [one, two] = twins.0;
    assert_eq!(one.image(), two.image(), "the hot path wrote otherwise");
    let [one, two] = [one, two].map(|world| everything(&world.tables));
    assert_eq!(one, two, "the hot path counted otherwise");
}

impl Twins {
    fn step(&self, choices: &mut Unstructured<'_>, bytes: &[&[u8]]) -> Result<()> {
        if choices.ratio(1, 8)? {
            let change = change(choices)?;
            self.0.iter().for_each(|world| change.apply(&Shared::of(&world.tables)));
        } else {
            let Packet { bytes: mut frame, mut ingress, .. } = choices.choose(&pool::ALL)?.clone();
            // What was changed until the choices end is a frame as well.
            let more =
                if choices.ratio(1, 3)? { mutate(choices, &mut frame, bytes) } else { Ok(()) };
            if choices.ratio(1, 16)? {
                ingress = site::WAN + site::LAN - ingress;
            }
            let metadata = if choices.ratio(1, 32)? { METADATA } else { 0 };
            self.frame(&frame, ingress, metadata);
            more?;
        }
        for world in &self.0 {
            consistency(&Shared::of(&world.tables)).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
        Ok(())
    }

    fn frame(&self, frame: &[u8], ingress: u32, metadata: usize) {
        let [one, two] = &self.0;
        let (counted, before) = (ends(&one.tables), sessions(&Shared::of(&one.tables)));
        let packet = || Buffer::with_metadata(frame, ingress, metadata);
        let (mut hot, mut general) = (packet(), packet());
        let verdict = pipeline(&mut hot, &one.tables);
        assert_eq!(verdict, run_general(&mut general, &two.tables), "of {frame:02x?}");
        assert_eq!(hot.bytes(), general.bytes(), "{verdict:?} of {frame:02x?}");
        fits(verdict);
        let mut expected = counted;
        expected[verdict.reason as usize] += 1;
        assert_eq!(ends(&one.tables), expected, "counted once: {verdict:?} of {frame:02x?}");
        if !comes_from_inside(frame) {
            let after = sessions(&Shared::of(&one.tables));
            assert_eq!(
                before, after,
                "only answers make, move and end: {verdict:?} of {frame:02x?}"
            );
        }
        sums_stay(frame, &hot.bytes(), verdict);
    }
}

/// The action is of the reason's kind.
fn fits(verdict: Verdict) {
    let fits = match verdict.reason.kind() {
        Kind::Forwarded => matches!(verdict.action, Action::Transmit | Action::Redirect(_)),
        Kind::Passed => verdict.action == Action::Pass,
        Kind::Dropped | Kind::Taken => verdict.action == Action::Drop,
        Kind::Event => false,
    };
    assert!(fits, "{verdict:?}");
}

/// How often each end was counted, by its number; events are none.
fn ends(t: &HostTables) -> Vec<u64> {
    let count = |reason: &Reason| if reason.kind() == Kind::Event { 0 } else { t.counter(*reason) };
    Reason::ALL.iter().map(count).collect()
}

/// Sums that were right still are, where the packet is still one, and a host's packet is untouched.
fn sums_stay(before: &[u8], after: &[u8], verdict: Verdict) {
    let is_translated = verdict.reason.kind() == Kind::Forwarded
        || matches!(
            verdict.reason,
            Reason::StackInbound | Reason::StackOutbound | Reason::StackTooBig | Reason::StackIcmp
        );
    if !is_translated {
        let taken = verdict.reason.kind() != Kind::Passed;
        assert!(taken || before == after, "{verdict:?} of {before:02x?}");
        return;
    }
    let (Some(old), Some(new)) = (read::read(before), read::read(after)) else { return };
    if verdict.reason != Reason::IcmpTooBig && !old.obstructed {
        assert!(new.ip_sum_right || !old.ip_sum_right, "{verdict:?} of {before:02x?}");
        assert!(new.udp_sum_right || !old.udp_sum_right, "{verdict:?} of {before:02x?}");
    }
}

/// All that a packet may change.
fn everything(t: &HostTables) -> String {
    format!("{:?} {:?} {:?} {:?}", t.slots, t.details, t.counters, t.hints)
}

fn change(choices: &mut Unstructured<'_>) -> Result<Change> {
    Ok(match choices.int_in_range(0..=9)? {
        0 => Change::Time(choices.int_in_range(0..=2_000_000)?),
        1 => Change::Time(choices.int_in_range(0..=100_000_000_000)?),
        2 => Change::Routes,
        3 => Change::End(choices.int_in_range(0..=511)?),
        4 => Change::Bury,
        5 => Change::Sweep,
        6 => {
            let tenant = choices.int_in_range(0..=site::TENANTS - 1)?;
            Change::Quota(
                tenant,
                *choices.choose(&[0, 1, 3, 1000])?,
                *choices.choose(&[0, 1, 3, 1000])?,
            )
        }
        7 => Change::Budget(choices.int_in_range(0..=2000)?, choices.int_in_range(0..=4000)?),
        8 => Change::Hop(choices.int_in_range(0..=site::HOPS - 1)?, choices.arbitrary()?),
        _ => Change::Most(choices.int_in_range(0..=20)?),
    })
}

fn seeds() -> Vec<Vec<u8>> {
    (0..150_u8)
        .map(|seed| {
            let mut random = fastrand::Rng::with_seed(seed.into());
            let choices = std::iter::repeat_with(|| random.u8(..)).take(40 + 4 * usize::from(seed));
            [seed].into_iter().chain(choices.collect::<Vec<_>>()).collect()
        })
        .collect()
}

//! Rates with bursts: of a tenant's packets, bytes, handshakes and new sessions, and of a backend's handshakes.
//!
//! The generic cell rate algorithm (ITU-T I.371), as in [`budget`](super::budget), but exact: what is taken on several processors at
//! once is all counted.
//!
//! A packet that belongs to no session may only use the first half of a burst. So whoever floods a tenant with packets that prove
//! nothing takes nothing from its sessions: while those keep to the rate, they find the other half free.

use super::Tables;
use crate::abi::{
    ENDPOINT_PACED, Endpoint, Meter, POOL_STRIDE, meter_time, pace_index, share_index,
};

/// No meter is so far ahead: it was last used before the clock went round.
const STALE: u64 = 1 << 46;

/// From when on the meter is used up at `now`, if it has room: `None` if it has none.
#[inline(always)]
fn base(meter: &Meter, now: u64, is_minor: bool) -> Option<(u64, u64)> {
    let until = meter.until.load();
    let ahead = until.wrapping_sub(now);
    if until == 0 || ahead >= STALE {
        return Some((until, now));
    }
    let burst = meter.burst.get() >> u32::from(is_minor);
    (ahead <= burst).then_some((until, until))
}

/// Uses the meter by so many units, whether it has room or not.
#[inline(always)]
fn charge(meter: &Meter, units: u64, now: u64) {
    let until = meter.until.load();
    let is_old = until == 0 || until.wrapping_sub(now) >= STALE;
    let base = if is_old { now } else { until };
    spend(meter, (until, base), units);
}

#[inline(always)]
fn spend(meter: &Meter, (until, base): (u64, u64), units: u64) {
    let cost = units.wrapping_mul(meter.cost.get()) >> 8;
    // Whoever was quicker has set it to the clock or later: there it goes on.
    if !meter.until.replace(until, base.wrapping_add(cost)) {
        meter.until.add(cost);
    }
}

/// Takes so many units: false if there is no room for them, which is counted.
#[inline(always)]
pub fn take(meter: &Meter, units: u64, ns: u64) -> bool {
    if meter.cost.get() == 0 {
        return true;
    }
    let now = meter_time(ns);
    match base(meter, now, false) {
        Some(from) => {
            spend(meter, from, units);
            true
        }
        None => {
            meter.refused.add(1);
            false
        }
    }
}

/// Of [`packet_apart`]: the packet goes to a client.
pub const OUT: u64 = 1;
/// It belongs to no session.
pub const MINOR: u64 = 2;
/// If it is refused, it will be asked for again: it is not counted.
pub const QUIET: u64 = 4;

/// There is room for the packet.
pub const ROOM: u64 = 0;
/// There is none for a packet.
pub const NO_PACKETS: u64 = 1;
/// There is none for its bytes.
pub const NO_BYTES: u64 = 2;

/// Takes a packet of a tenant's, of so many bytes, from the tenant's rates; `class` is of [`OUT`], [`MINOR`] and [`QUIET`].
/// [`ROOM`], or what there is too little of: then nothing is taken. See [`Tables`] for why it is apart.
#[inline(always)]
pub fn packet_apart<T: Tables>(t: &T, tenant: u64, bytes: u64, class: u64) -> u64 {
    let Some(tenant) = t.tenant(tenant as u32) else { return ROOM };
    let (packets, octets) = if class & OUT == 0 {
        (&tenant.packets_in, &tenant.bytes_in)
    } else {
        (&tenant.packets_out, &tenant.bytes_out)
    };
    let (now, is_minor) = (meter_time(t.now()), class & MINOR != 0);
    let by_packets = base(packets, now, is_minor);
    if packets.cost.get() != 0 && by_packets.is_none() {
        if class & QUIET == 0 {
            packets.refused.add(1);
        }
        return NO_PACKETS;
    }
    if octets.cost.get() != 0 {
        let Some(from) = base(octets, now, is_minor) else {
            if class & QUIET == 0 {
                octets.refused.add(1);
            }
            return NO_BYTES;
        };
        spend(octets, from, bytes);
    }
    if let Some(from) = by_packets
        && packets.cost.get() != 0
    {
        spend(packets, from, 1);
    }
    ROOM
}

/// The tenant's clients began as many handshakes as they may.
pub const NO_HANDSHAKES: u64 = 1;
/// The backend was given as many as it takes.
pub const NO_PACE: u64 = 2;

/// Takes a handshake from what clients of an endpoint's tenant may begin, and from what its backend is given: [`ROOM`],
/// [`NO_HANDSHAKES`] or [`NO_PACE`]. See [`Tables`] for why it is apart.
///
/// Each tenant at the backend has a share, which is always there, and may borrow what the others leave.
#[inline(always)]
pub fn handshake_apart<T: Tables>(t: &T, endpoint: u64) -> u64 {
    let index = endpoint as u32;
    let Some(&Endpoint { tenant, flags, source, share, .. }) = t.endpoint(index) else {
        return ROOM;
    };
    let Some(tenant) = t.tenant(tenant.into()) else { return ROOM };
    let now = t.now();
    if !take(&tenant.handshakes, 1, now) {
        return NO_HANDSHAKES;
    }
    if flags & ENDPOINT_PACED == 0 {
        return ROOM;
    }
    let ordinal = index % POOL_STRIDE;
    let Some(all) = t.pace(pace_index(u32::from(source >> 1), ordinal)) else { return ROOM };
    let Some(own) = t.pace(share_index(share, ordinal)) else { return ROOM };
    let time = meter_time(now);
    if let Some(from) = base(own, time, false) {
        spend(own, from, 1);
        charge(all, 1, time);
        return ROOM;
    }
    if take(all, 1, now) { ROOM } else { NO_PACE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::host::{HostTables, Sizes};
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::vec::Vec;

    const SECOND: u64 = 1_000_000_000;

    /// So many a second, so many at once.
    fn meter(rate: u64, burst: u64) -> Meter {
        let meter = Meter::default();
        let cost = (SECOND << 16) / rate;
        meter.cost.set(cost);
        meter.burst.set(((burst - 1) * cost) >> 8);
        meter
    }

    /// How many pass of those that come each `step` ns from `from` to `to`.
    fn passed(meter: &Meter, (from, to, step): (u64, u64, u64)) -> u64 {
        (from..to).step_by(step as usize).map(|now| u64::from(take(meter, 1, now))).sum()
    }

    #[test]
    fn a_burst_at_once_then_the_rate() {
        let meter = meter(100, 50);
        let start = 5 * SECOND;
        assert_eq!((0..200).filter(|_| take(&meter, 1, start)).count(), 50);
        assert_eq!(meter.refused.load(), 150);
        let more = passed(&meter, (start + 1, start + 10 * SECOND, 1_000_000));
        assert!((999..=1001).contains(&more), "{more}");
        // What was not used is there again, and no more than the burst.
        let later = start + 1000 * SECOND;
        assert_eq!((0..200).filter(|_| take(&meter, 1, later)).count(), 50);
    }

    #[test]
    fn no_limit_refuses_nothing_and_a_new_meter_is_full() {
        let none = Meter::default();
        assert!((0..1000).all(|_| take(&none, 1_000_000, 1)));
        for start in [0, 1, u64::MAX >> 8, u64::MAX >> 9] {
            let meter = meter(1, 1);
            assert!(take(&meter, 1, start), "at {start}");
            assert!(!take(&meter, 1, start));
        }
    }

    #[test]
    fn the_clock_may_go_round() {
        let meter = meter(10, 10);
        let last = u64::MAX >> 8;
        assert_eq!((0..100).filter(|_| take(&meter, 1, last)).count(), 10);
        let more = passed(&meter, (last + 1, last + SECOND + 1, 1_000_000));
        assert!((9..=11).contains(&more), "{more}");
    }

    /// Each of them may have looked before the others took; what they took is all counted.
    #[test]
    fn several_processors_take_no_more_than_one_and_another_each() {
        const PROCESSORS: usize = 4;
        const TRIES: usize = 20_000;
        const STEP: u64 = 10_000;
        let (rate, burst) = (20_000, 50);
        let meter = meter(rate, burst);
        let clock = AtomicU64::new(SECOND);
        let one = || {
            let tries = (0..TRIES).map(|_| clock.fetch_add(STEP, Ordering::Relaxed));
            tries.filter(|now| take(&meter, 1, *now)).collect::<Vec<_>>()
        };
        let mut passed = thread::scope(|scope| {
            let all: Vec<_> = (0..PROCESSORS).map(|_| scope.spawn(one)).collect();
            all.into_iter().flat_map(|one| one.join().expect("it ends")).collect::<Vec<_>>()
        });
        passed.sort_unstable();
        // However long a period: what passes in it is what passes at all, less what passed before.
        let cost = SECOND / rate;
        let more = burst + PROCESSORS as u64 - 1;
        let mut least = i64::MAX;
        for (n, now) in passed.iter().enumerate() {
            let beyond = n as i64 * cost as i64 - *now as i64;
            least = least.min(beyond);
            assert!(beyond - least < (more * cost) as i64, "{n} until {now}");
        }
        let tries = (PROCESSORS * TRIES) as u64;
        assert_eq!(passed.len() as u64 + meter.refused.load(), tries);
        // They ask for twice as much as there is.
        let there = burst + tries * STEP / cost;
        assert!(passed.len() as u64 >= there - 1, "{} of {there}", passed.len());
    }

    /// Of a packet's two meters only one refuses it, and none is used then.
    #[test]
    fn packets_that_several_processors_refuse_are_counted_once() {
        const PROCESSORS: usize = 4;
        const TRIES: u64 = 5_000;
        let world = HostTables::new(Sizes::default());
        world.settings.test_clock.set(SECOND);
        let tenant = &world.tenants[0];
        for (of, burst) in [(&tenant.packets_in, 1_000), (&tenant.bytes_in, 60_000)] {
            let like = meter(1_000, burst);
            of.cost.set(like.cost.get());
            of.burst.set(like.burst.get());
        }
        let one = || (0..TRIES).filter(|n| packet_apart(&world, 0, 50 + n % 50, 0) == ROOM).count();
        let passed: usize = thread::scope(|scope| {
            let all: Vec<_> = (0..PROCESSORS).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|one| one.join().expect("it ends")).sum()
        });
        let refused = tenant.packets_in.refused.load() + tenant.bytes_in.refused.load();
        assert_eq!(passed as u64 + refused, PROCESSORS as u64 * TRIES);
        let used = |of: &Meter| (of.until.load() - meter_time(SECOND)) / (of.cost.get() >> 8);
        assert_eq!(used(&tenant.packets_in), passed as u64);
        let bytes = used(&tenant.bytes_in);
        assert!((60_000..60_000 + PROCESSORS as u64 * 100).contains(&bytes), "{bytes}");
    }

    proptest! {
        #[test]
        fn never_more_than_rate_and_burst_and_never_less_than_the_rate(
            rate in 1_u64..1_000_000,
            burst in 1_u64..100_000,
            gaps in proptest::collection::vec(0_u64..SECOND / 100, 1..300),
        ) {
            let meter = meter(rate, burst);
            let (mut now, mut passed) = (SECOND, 0);
            for gap in &gaps {
                now += gap;
                passed += u64::from(take(&meter, 1, now));
            }
            let by_rate = u128::from(now - SECOND) * u128::from(rate) / u128::from(SECOND);
            let most = by_rate + u128::from(burst) + 1;
            // A cost is rounded down by less than a 2^-16th ns.
            prop_assert!(u128::from(passed) <= most + most / 1000, "{passed} of {most}");
            prop_assert!(
                passed == gaps.len() as u64 || u128::from(passed) + 1 >= u128::from(burst).min(gaps.len() as u128),
                "{passed}"
            );
        }
    }
}

//! Weighted Maglev hashing: which backend each position of a ring belongs to.
//!
//! After Eisenbud et al., *Maglev: A Fast and Reliable Software Network Load
//! Balancer* (NSDI 2016), section 3.4: each backend prefers the positions in an
//! order of its own, and the backends take turns in taking the first of
//! their preferences that is free. A weight is how often its turn comes.
//!
//! The order of preferences depends on nothing but the backend's name, and turns are
//! taken in the order of names, so every gateway that has the same backends
//! builds the same ring.

use std::hash::Hasher;

use dataplane::abi::RING_SIZE;
use siphasher::sip::SipHasher13;

use super::wanted::{RING_BYTES, Ring};

/// One backend on its way into a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its name: what places it.
    pub name: &'a str,
    /// Its ordinal in the pool: what the ring holds.
    pub ordinal: u8,
    /// Its share relative to the others; with none it is left out.
    pub weight: u32,
}

/// Keys of the two hashes that make up the order of preferences. Any will do, but
/// all gateways must have the same, for ever: other keys move every client.
const OFFSET_KEY: (u64, u64) = (0x6665_726e_7061_7373, 0x6f66_6673_6574_0001);
const SKIP_KEY: (u64, u64) = (0x6665_726e_7061_7373, 0x736b_6970_0000_0002);

fn hash(key: (u64, u64), name: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(key.0, key.1);
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// A backend's order of preferences, and whose turn it is.
struct Turn {
    ordinal: u8,
    weight: u64,
    credit: u64,
    position: u64,
    skip: u64,
}

/// Builds a ring; `None` if no candidate has a weight. Each candidate gets at
/// least one position, as long as there are fewer of them than positions.
pub fn ring(candidates: &[Candidate<'_>]) -> Option<Ring> {
    const SIZE: u64 = RING_SIZE as u64;
    let mut candidates: Vec<_> = candidates.iter().filter(|c| c.weight > 0).collect();
    candidates.sort_by_key(|candidate| candidate.name);
    let heaviest = u64::from(candidates.iter().map(|candidate| candidate.weight).max()?);
    let mut turns: Vec<_> = candidates
        .iter()
        .map(|candidate| Turn {
            ordinal: candidate.ordinal,
            weight: u64::from(candidate.weight),
            // Everybody has a turn in the first round, however light.
            credit: heaviest,
            position: hash(OFFSET_KEY, candidate.name) % SIZE,
            skip: hash(SKIP_KEY, candidate.name) % (SIZE - 1) + 1,
        })
        .collect();

    let mut bytes = [0; RING_BYTES];
    let mut taken = [false; SIZE as usize];
    let mut free = SIZE;
    loop {
        for turn in &mut turns {
            if turn.credit >= heaviest {
                turn.credit -= heaviest;
                // Ends: the size is a prime, so the steps visit every position.
                while taken[turn.position as usize] {
                    turn.position = (turn.position + turn.skip) % SIZE;
                }
                taken[turn.position as usize] = true;
                bytes[turn.position as usize] = turn.ordinal;
                free -= 1;
                if free == 0 {
                    return Some(Ring::new(bytes));
                }
            }
            turn.credit += turn.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(ring: &Ring) -> [u32; 256] {
        let mut shares = [0; 256];
        for ordinal in ring.ordinals() {
            shares[*ordinal as usize] += 1;
        }
        shares
    }

    fn build(backends: &[(String, u32)]) -> Ring {
        let candidates: Vec<_> = backends
            .iter()
            .enumerate()
            .map(|(ordinal, (name, weight))| Candidate {
                name,
                ordinal: ordinal as u8,
                weight: *weight,
            })
            .collect();
        ring(&candidates).expect("there are weights")
    }

    fn names(count: usize) -> impl Strategy<Value = Vec<String>> {
        prop::collection::btree_set("[a-z][a-z0-9-]{0,12}", count..=count)
            .prop_map(|names| names.into_iter().collect())
    }

    fn pool(
        most: usize,
        weights: std::ops::RangeInclusive<u32>,
    ) -> impl Strategy<Value = Vec<(String, u32)>> {
        (1..=most).prop_flat_map(move |count| {
            (names(count), prop::collection::vec(weights.clone(), count))
                .prop_map(|(names, weights)| names.into_iter().zip(weights).collect())
        })
    }

    /// The ring of this test was computed by this code: it guards against a
    /// change of hash or order, which would move clients at an upgrade.
    #[test]
    fn rings_do_not_change_between_versions() {
        let backends =
            [("wg-1".to_owned(), 100), ("wg-2".to_owned(), 100), ("wg-3".to_owned(), 50)];
        let ring = build(&backends);
        assert_eq!(&shares(&ring)[..3], [3277, 3276, 1638]);
        let first = [0, 2, 1, 1, 2, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2, 0, 0, 2, 0, 2, 1, 1, 1, 1];
        assert_eq!(ring.ordinals()[..24], first);
    }

    #[test]
    fn without_weights_there_is_no_ring() {
        assert_eq!(ring(&[]), None);
        assert_eq!(ring(&[Candidate { name: "a", ordinal: 0, weight: 0 }]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Shares follow the weights to within one turn each, and nobody is left out.
        #[test]
        fn shares_follow_weights(backends in pool(128, 1..=1000)) {
            let ring = build(&backends);
            let total: u64 = backends.iter().map(|(_, weight)| u64::from(*weight)).sum();
            let shares = shares(&ring);
            // Everybody's first turn comes early, which costs the others a position each at most.
            let slack = 2.0 + backends.len() as f64 * 0.02;
            for (ordinal, (_, weight)) in backends.iter().enumerate() {
                let share = f64::from(shares[ordinal]);
                let due = f64::from(RING_SIZE) * f64::from(*weight) / total as f64;
                prop_assert!(share >= 1.0);
                prop_assert!((share - due).abs() <= slack + due * 0.02, "{share} instead of {due}");
            }
        }

        /// The order in which the backends are given is of no account, nor are their ordinals.
        #[test]
        fn only_names_and_weights_count(backends in pool(32, 1..=200), turn in any::<prop::sample::Index>()) {
            let mut turned = backends.clone();
            turned.rotate_left(turn.index(backends.len()));
            let (one, other) = (build(&backends), build(&turned));
            for (a, b) in one.ordinals().iter().zip(other.ordinals()) {
                prop_assert_eq!(&backends[*a as usize].0, &turned[*b as usize].0);
            }
        }

        /// When a backend goes, hardly a client of the others moves; and the same
        /// when it comes, which is the way back.
        #[test]
        fn others_hardly_move(backends in pool(32, 100..=100), leaver in any::<prop::sample::Index>()) {
            prop_assume!(backends.len() > 1);
            let gone = leaver.index(backends.len());
            let before = build(&backends);
            let mut rest = backends.clone();
            rest[gone].1 = 0;
            let after = build(&rest);
            let moved = before
                .ordinals()
                .iter()
                .zip(after.ordinals())
                .filter(|(a, b)| **a as usize != gone && a != b)
                .count();
            prop_assert!(moved < RING_SIZE as usize / 8, "{moved} of {RING_SIZE} moved");
            prop_assert!(after.ordinals().iter().all(|ordinal| *ordinal as usize != gone));
        }
    }
}

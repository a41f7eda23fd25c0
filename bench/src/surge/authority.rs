//! Who there is: authorities of very unequal sizes, and the concentrators that serve them.

use std::ops::Range;

/// Authorities.
pub(super) const AUTHORITIES: usize = 40;
/// The first one's port; each has its own, at the same addresses.
pub(super) const FIRST_PORT: u16 = 51_820;
/// Into how many parts the work is cut: about so many concentrators there are, and one more for
/// each pool.
const SHARES: u32 = 36;

/// An authority: a tenant of the gateway, with a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) name: String,
    /// Its employees, and its quota: not one more.
    pub(super) employees: u32,
    pub(super) port: u16,
    /// Index of its pool.
    pub(super) pool: usize,
}

/// A pool: of one large authority, or of several small ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pool {
    pub(super) name: String,
    /// Numbers of its concentrators.
    pub(super) concentrators: Range<usize>,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) authorities: Vec<Authority>,
    pub(super) pools: Vec<Pool>,
}

impl Region {
    /// The n-th authority has 1/n of the first one's employees (Zipf).
    pub(super) fn new(employees: u32) -> Self {
        let sizes = sizes(employees);
        let share = employees / SHARES;
        let mut region = Self { authorities: Vec::new(), pools: Vec::new() };
        let (mut waiting, mut first) = (0, 0);
        for (index, size) in sizes.iter().enumerate() {
            let pool = region.pools.len();
            region.authorities.push(Authority {
                name: format!("authority-{:02}", index + 1),
                employees: *size,
                port: FIRST_PORT + index as u16,
                pool,
            });
            waiting += size;
            if waiting >= share * 2 || index + 1 == sizes.len() {
                // One can die, and the others hold all.
                let count = (waiting.div_ceil(share) + 1).max(2) as usize;
                let concentrators = first..first + count;
                region.pools.push(Pool { name: format!("pool-{:02}", pool + 1), concentrators });
                (waiting, first) = (0, first + count);
            }
        }
        region
    }

    /// How many concentrators there are.
    pub(super) fn concentrators(&self) -> usize {
        self.pools.last().map_or(0, |pool| pool.concentrators.end)
    }

    /// The pool of a concentrator.
    pub(super) fn pool_of(&self, concentrator: usize) -> usize {
        let of = |pool: &Pool| pool.concentrators.contains(&concentrator);
        self.pools.iter().position(of).unwrap_or_default()
    }

    /// Those that die: one in ten, each of another pool.
    pub(super) fn dying(&self) -> Vec<usize> {
        let dead = self.concentrators() / 10;
        self.pools.iter().map(|pool| pool.concentrators.start).take(dead).collect()
    }

    /// The one that is drained: of the largest pool.
    pub(super) fn drained(&self) -> usize {
        self.pools[0].concentrators.end - 1
    }
}

/// Employees of each authority, the largest first.
fn sizes(employees: u32) -> Vec<u32> {
    let harmonic: f64 = (1..=AUTHORITIES).map(|n| 1.0 / n as f64).sum();
    let size = |n: usize| (f64::from(employees) / harmonic / n as f64) as u32;
    let mut sizes: Vec<u32> = (1..=AUTHORITIES).map(size).collect();
    sizes[0] += employees - sizes.iter().sum::<u32>();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_a_place_also_when_one_in_ten_dies() {
        for employees in [6_000, 60_000] {
            let region = Region::new(employees);
            assert_eq!(region.authorities.len(), AUTHORITIES);
            assert_eq!(region.authorities.iter().map(|a| a.employees).sum::<u32>(), employees);
            assert!(region.authorities.iter().all(|a| a.employees >= 10));
            assert!(region.concentrators() >= 40, "{}", region.concentrators());
            let (dying, drained) = (region.dying(), region.drained());
            assert_eq!(dying.len(), region.concentrators() / 10);
            assert!(!dying.contains(&drained));
            for (index, pool) in region.pools.iter().enumerate() {
                assert!(pool.concentrators.len() >= 2);
                let takes = |c: &usize| !dying.contains(c) && *c != drained;
                assert!(pool.concentrators.clone().any(|c| takes(&c)), "{}", pool.name);
                assert!(region.authorities.iter().any(|a| a.pool == index));
                assert!(pool.concentrators.clone().all(|c| region.pool_of(c) == index));
            }
            let pools: std::collections::BTreeSet<_> =
                dying.iter().map(|c| region.pool_of(*c)).collect();
            assert_eq!(pools.len(), dying.len(), "each of another pool");
        }
    }
}

//! What others' programs cost, measured earlier on such a machine and not in these runs.
//!
//! Source: docs/performance.md, "Peers": one core of a virtual machine with two, kernel
//! 6.18, 64-byte frames over IPv4, test runs of the whole program.

/// Another's program, and nanoseconds for a packet by number of flows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference {
    pub(super) name: &'static str,
    pub(super) costs: &'static [(f64, f64)],
}

/// Katran: UDP, found in its LRU, encapsulated. It carries only what comes in.
pub(super) const KATRAN: Reference = Reference {
    name: "Katran",
    costs: &[(1.0, 90.0), (1_000.0, 98.0), (60_000.0, 181.0), (1_000_000.0, 513.0)],
};

/// Firezone's TURN router, logs and timing off.
pub(super) const FIREZONE: Reference =
    Reference { name: "Firezone", costs: &[(1.0, 51.0), (60_000.0, 127.0)] };

/// How they are named where they are drawn.
pub(super) const NOTE: &str = "measured earlier, docs/performance.md";

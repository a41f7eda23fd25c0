//! IPsec with IKEv2 and MOBIKE: strongSwan 5.9 from Debian, with [ESP](Esp) in user space or the kernel's.

mod charon;
mod client;
mod pool;

/// Who makes ESP of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Esp {
    /// strongSwan itself (kernel-libipsec), always in UDP.
    InUdp,
    /// The kernel, as its IP protocol 50 where there is no NAT: not every kernel can.
    Kernel,
}

impl Esp {
    /// charon's plugins that make it.
    fn plugins(self) -> &'static str {
        match self {
            // libipsec before netlink: the first that takes a policy has it.
            Self::InUdp => "kernel-libipsec kernel-netlink",
            Self::Kernel => "kernel-netlink",
        }
    }

    /// Whether it has to be in UDP without a NAT, too, as charon's configuration says it.
    fn encap(self) -> &'static str {
        match self {
            Self::InUdp => "yes",
            Self::Kernel => "no",
        }
    }
}

pub use client::IkeClient;
pub use pool::{IkePool, IkeServer, IkeSession};

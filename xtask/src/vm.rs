//! The demo and the tests inside QEMU.

/// The demo.
pub(crate) fn demo(_arguments: &[&str]) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}

/// The tests that need a kernel.
pub(crate) fn test() -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}

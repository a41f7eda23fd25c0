//! The `unsafe` of the benches: shared memory, plain values of maps, namespaces.

use std::ffi::c_void;
use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut};

use bench_ebpf::{Arrived, Play};
use dataplane::abi::Slot;
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// A new namespace for mounts.
pub(crate) fn unshare_mounts() -> std::io::Result<()> {
    // SAFETY: it unshares no file descriptors and no memory, of which others could rely
    // on being shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.map_err(Into::into)
}

/// A new namespace for the network.
pub(crate) fn unshare_network() -> std::io::Result<()> {
    // SAFETY: as above.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(Into::into)
}

/// The one element of a map that the benches' programs use. Mapped until the process ends.
#[derive(Debug)]
pub(crate) struct Element<T>(NonNull<T>);

/// Integers without padding.
///
/// # Safety
/// Any bit pattern must be a value.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: integers.
unsafe impl Plain for Play {}
// SAFETY: integers.
unsafe impl Plain for Arrived {}

impl<T: Plain> Element<T> {
    /// Maps the map, whose value is a `T`.
    pub(crate) fn new(map: impl AsFd) -> std::io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, which overlaps nothing.
        let at = unsafe {
            mmap(null_mut::<c_void>(), size_of::<T>(), access, MapFlags::SHARED, map, 0)
        }?;
        let pointer = NonNull::new(at.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self(pointer))
    }

    /// Sets it. The programs that use it run in this thread's system calls only.
    pub(crate) fn set(&mut self, value: T) {
        // SAFETY: mapped, aligned to a page, and nobody else uses it while this runs.
        unsafe { self.0.write_volatile(value) };
    }

    /// What it is.
    pub(crate) fn get(&self) -> T {
        // SAFETY: as above, and any bit pattern is a value.
        unsafe { self.0.read_volatile() }
    }
}

/// A session as the value of a map.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct PlainSlot(pub(crate) [u64; 8]);

// SAFETY: integers without padding.
unsafe impl aya::Pod for PlainSlot {}

/// A slot's words, as they are at this moment.
pub(crate) fn words(slot: &Slot) -> [u64; 8] {
    const { assert!(size_of::<Slot>() == 64) };
    // SAFETY: a slot is 64 bytes of integers without padding, see `dataplane::abi`; each
    // word is read once, and nothing writes while benches copy.
    unsafe { std::ptr::from_ref(slot).cast::<[u64; 8]>().read_volatile() }
}

//! Array maps as shared memory, and tables as words. The `unsafe` of these tests is here.

use dataplane::abi::{
    Address, Bucket, Detail, DirectoryEntry, Endpoint, Meter, NextHop, Settings, Slot, Tenant,
};
use dataplane::cell::Word;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};

/// Types without padding, a multiple of eight bytes long and aligned to them, valid for
/// every bit pattern.
///
/// # Safety
/// As it says.
pub(crate) unsafe trait Words: Sync {}
// SAFETY: see `dataplane::abi`, which promises it for all types of the ABI.
unsafe impl Words for Slot {}
// SAFETY: as above.
unsafe impl Words for Detail {}
// SAFETY: as above.
unsafe impl Words for Bucket {}
// SAFETY: as above.
unsafe impl Words for DirectoryEntry {}
// SAFETY: as above.
unsafe impl Words for Settings {}
// SAFETY: as above.
unsafe impl Words for Tenant {}
// SAFETY: as above.
unsafe impl Words for Meter {}
// SAFETY: as above. Its alignment is four, but the elements of a table lie on multiples
// of 32 from a beginning that [`words`] checks.
unsafe impl Words for NextHop {}
// SAFETY: as above. Nobody writes it: a map of endpoints is opened as words.
unsafe impl Words for Endpoint {}
// SAFETY: as above.
unsafe impl Words for Word {}
// SAFETY: as above; its alignment is four, as of a next hop. Nobody writes it.
unsafe impl Words for Address {}
// SAFETY: an integer.
unsafe impl Words for u64 {}

/// A mapped array map.
#[derive(Debug)]
pub(crate) struct Array<T: Words> {
    first: NonNull<T>,
    len: usize,
}

// SAFETY: it gives out shared references to `T: Sync`.
unsafe impl<T: Words> Send for Array<T> {}
// SAFETY: as above.
unsafe impl<T: Words> Sync for Array<T> {}

impl<T: Words> Array<T> {
    /// Maps the first `len` elements.
    pub(crate) fn new(map: impl AsFd, len: usize) -> std::io::Result<Self> {
        let bytes = len * size_of::<T>();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, which overlaps nothing.
        let at = unsafe { mmap(null_mut::<c_void>(), bytes, access, MapFlags::SHARED, map, 0) }?;
        let first = NonNull::new(at.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self { first, len })
    }
}

impl<T: Words> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements are mapped as long as `self` lives, valid for every bit
        // pattern; what is written meanwhile is in cells.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T: Words> Drop for Array<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is its own, and no reference outlives it.
        let _ = unsafe { munmap(self.first.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}

/// A table as words, to be compared or copied.
pub(crate) fn words<T: Words>(table: &[T]) -> &[AtomicU64] {
    let first = table.as_ptr().cast::<AtomicU64>();
    assert!(first.is_aligned(), "tables begin at multiples of eight");
    // SAFETY: the same memory, in words: `T: Words`.
    unsafe { std::slice::from_raw_parts(first, size_of_val(table) / 8) }
}

/// Writes a table's words over another's, which has at least as many.
pub(crate) fn copy(from: &[AtomicU64], to: &[AtomicU64]) {
    assert!(from.len() <= to.len());
    for (from, to) in from.iter().zip(to) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The first word in which two tables of one length differ.
pub(crate) fn difference(one: &[AtomicU64], two: &[AtomicU64]) -> Option<usize> {
    assert_eq!(one.len(), two.len());
    let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
    one.iter().zip(two).position(|(one, two)| load(one) != load(two))
}

//! An array map as shared memory.

use std::ffi::c_void;
use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut};
use std::slice;

use dataplane::abi::{Bucket, Detail, DirectoryEntry, Meter, NextHop, Settings, Slot, Tenant};
use dataplane::cell::{Cell, Word};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Types that may lie in memory which the kernel program writes at the same time.
///
/// # Safety
/// Every field is a [`Cell`] or a [`Word`] (or an integer that nobody writes), every
/// bit pattern is valid, there is no padding, and the size is a multiple of 8, so
/// that the elements of an array map lie next to each other.
pub unsafe trait Shared: Sync {}

// SAFETY: made of cells only, see `dataplane::abi`, which asserts the sizes.
unsafe impl Shared for Slot {}
// SAFETY: as above.
unsafe impl Shared for Detail {}
// SAFETY: made of cells and a word only.
unsafe impl Shared for DirectoryEntry {}
// SAFETY: made of words only.
unsafe impl Shared for Bucket {}
// SAFETY: made of cells and words only.
unsafe impl Shared for Settings {}
// SAFETY: made of cells and words only.
unsafe impl Shared for Tenant {}
// SAFETY: as above.
unsafe impl Shared for Meter {}
// SAFETY: made of cells, and a reserved field that nobody writes.
unsafe impl Shared for NextHop {}
// SAFETY: a word, and eight bytes.
unsafe impl Shared for Word {}
// SAFETY: a cell, and eight bytes.
unsafe impl Shared for Cell<u64> {}

/// The elements of an mmapable array map.
#[derive(Debug)]
pub struct Mapped<T: Shared> {
    first: NonNull<T>,
    len: usize,
}

// SAFETY: it hands out shared references to `T: Sync` only, and owns the mapping.
unsafe impl<T: Shared> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Mapped<T> {}

impl<T: Shared> Mapped<T> {
    /// Maps an array map of `len` elements, whose values have the size of `T` (the caller
    /// has checked the map's shape).
    pub(super) fn new(map: impl AsFd, len: u32) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let len = len as usize;
        // SAFETY: a new mapping, which overlaps nothing. Length zero is refused by the kernel.
        let at = unsafe {
            mmap(
                null_mut::<c_void>(),
                len * size_of::<T>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map,
                0,
            )
        }?;
        let first = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { first, len })
    }
}

impl<T: Shared> Deref for Mapped<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements are mapped, page-aligned, as long as `self` lives; `T: Shared`
        // says that others may write them at the same time.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T: Shared> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is `self`'s own, and no reference into it outlives `self`.
        // It cannot fail for a whole mapping.
        let _ = unsafe { munmap(self.first.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}

//! Shared memory cells: what the kernel program and the daemon read and write
//! at the same time.
//!
//! Rust's BPF targets have no compare-and-swap in `core::sync::atomic` and LLVM
//! cannot select an atomic load below `-C target-cpu=v4`. [`Word`] and [`Cell`]
//! hide the two implementations: BPF instructions through compiler intrinsics
//! there, ordinary atomics on the host.
//!
//! * [`Word`] is the 64-bit cell that carries state: compare-and-swap,
//!   exchange and add are full barriers.
//! * [`Cell`] is plain shared data: relaxed, never torn, no read-modify-write.
//!
//! Both are `repr(transparent)` over the integer, and valid for every bit pattern.

#[cfg(target_arch = "bpf")]
mod imp {
    use core::cell::UnsafeCell;
    use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd, atomic_xchg};

    /// A 64-bit cell that carries state; see the module.
    #[repr(transparent)]
    pub struct Word(UnsafeCell<u64>);

    // SAFETY: all access is by single BPF instructions of the cell's width.
    unsafe impl Sync for Word {}

    impl Word {
        /// A cell with this value.
        pub const fn new(value: u64) -> Self {
            Self(UnsafeCell::new(value))
        }

        /// The value now.
        #[inline(always)]
        pub fn load(&self) -> u64 {
            // SAFETY: the pointer comes from a reference; a 64-bit load is one instruction.
            unsafe { self.0.get().read_volatile() }
        }

        /// Stores `value`; a full barrier.
        #[inline(always)]
        pub fn store(&self, value: u64) {
            self.swap(value);
        }

        /// Stores `value` and returns what was there; a full barrier.
        #[inline(always)]
        pub fn swap(&self, value: u64) -> u64 {
            // SAFETY: the pointer comes from a reference; BPF_XCHG is atomic.
            unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(self.0.get(), value) }
        }

        /// Adds, wrapping, and returns what was there; a full barrier.
        #[inline(always)]
        pub fn add(&self, value: u64) -> u64 {
            // SAFETY: the pointer comes from a reference; BPF_FETCH_ADD is atomic.
            unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(self.0.get(), value) }
        }

        /// Stores `new` if the value is `current`: true if it was; a full barrier.
        #[inline(always)]
        pub fn replace(&self, current: u64, new: u64) -> bool {
            // SAFETY: the pointer comes from a reference; BPF_CMPXCHG is atomic.
            unsafe {
                atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                    self.0.get(),
                    current,
                    new,
                )
                .1
            }
        }
    }

    /// Plain shared data; see the module.
    #[repr(transparent)]
    pub struct Cell<T>(UnsafeCell<T>);

    // SAFETY: all access is by single loads and stores of the cell's width.
    unsafe impl<T: Copy> Sync for Cell<T> {}

    impl<T: Copy> Cell<T> {
        /// A cell with this value.
        pub const fn new(value: T) -> Self {
            Self(UnsafeCell::new(value))
        }

        /// The value now.
        #[inline(always)]
        pub fn get(&self) -> T {
            // SAFETY: the pointer comes from a reference; T is an integer, so one load.
            unsafe { self.0.get().read_volatile() }
        }

        /// Stores `value`.
        #[inline(always)]
        pub fn set(&self, value: T) {
            // SAFETY: the pointer comes from a reference; T is an integer, so one store.
            unsafe { self.0.get().write_volatile(value) }
        }
    }
}

#[cfg(not(target_arch = "bpf"))]
mod imp {
    #[cfg(not(feature = "shuttle"))]
    use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
    // Each access is a step that the model checker may switch at.
    #[cfg(feature = "shuttle")]
    use shuttle::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

    /// Comes before each write.
    #[inline(always)]
    fn point() {
        #[cfg(feature = "faults")]
        crate::fault::point();
    }

    /// A 64-bit cell that carries state; see the module.
    #[cfg_attr(not(feature = "shuttle"), repr(transparent))]
    #[derive(Debug)]
    pub struct Word(AtomicU64);

    impl Default for Word {
        fn default() -> Self {
            Self::new(0)
        }
    }

    impl Word {
        /// A cell with this value.
        pub const fn new(value: u64) -> Self {
            Self(AtomicU64::new(value))
        }

        /// The value now.
        #[inline(always)]
        pub fn load(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }

        /// Stores `value`; a full barrier.
        #[inline(always)]
        pub fn store(&self, value: u64) {
            point();
            self.0.store(value, Ordering::SeqCst);
        }

        /// Stores `value` and returns what was there; a full barrier.
        #[inline(always)]
        pub fn swap(&self, value: u64) -> u64 {
            point();
            self.0.swap(value, Ordering::SeqCst)
        }

        /// Adds, wrapping, and returns what was there; a full barrier.
        #[inline(always)]
        pub fn add(&self, value: u64) -> u64 {
            point();
            self.0.fetch_add(value, Ordering::SeqCst)
        }

        /// Stores `new` if the value is `current`: true if it was; a full barrier.
        #[inline(always)]
        pub fn replace(&self, current: u64, new: u64) -> bool {
            point();
            self.0.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        }
    }

    /// An integer that has an atomic of its width.
    pub trait Integer: Copy + core::fmt::Debug {
        /// The atomic.
        type Atomic: core::fmt::Debug + Send + Sync + Default;
        /// A relaxed load.
        fn load(atomic: &Self::Atomic) -> Self;
        /// A relaxed store.
        fn store(atomic: &Self::Atomic, value: Self);
        /// The atomic with this value.
        fn wrap(value: Self) -> Self::Atomic;
    }

    macro_rules! integer {
        ($($int:ty => $atomic:ty),*) => {$(
            impl Integer for $int {
                type Atomic = $atomic;
                #[inline(always)]
                fn load(atomic: &$atomic) -> $int {
                    atomic.load(Ordering::Relaxed)
                }
                #[inline(always)]
                fn store(atomic: &$atomic, value: $int) {
                    atomic.store(value, Ordering::Relaxed);
                }
                fn wrap(value: $int) -> $atomic {
                    <$atomic>::new(value)
                }
            }
        )*};
    }
    integer!(u16 => AtomicU16, u32 => AtomicU32, u64 => AtomicU64);

    /// Plain shared data; see the module.
    #[cfg_attr(not(feature = "shuttle"), repr(transparent))]
    pub struct Cell<T: Integer>(T::Atomic);

    impl<T: Integer> Cell<T> {
        /// A cell with this value.
        pub fn new(value: T) -> Self {
            Self(T::wrap(value))
        }

        /// The value now.
        #[inline(always)]
        pub fn get(&self) -> T {
            T::load(&self.0)
        }

        /// Stores `value`.
        #[inline(always)]
        pub fn set(&self, value: T) {
            point();
            T::store(&self.0, value);
        }
    }

    impl<T: Integer> Default for Cell<T> {
        fn default() -> Self {
            Self(T::Atomic::default())
        }
    }

    impl<T: Integer> core::fmt::Debug for Cell<T> {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            self.get().fmt(f)
        }
    }
}

/// The same number, of which the compiler knows nothing: a loop that counts by it is not unrolled. What
/// each round of an unrolled one keeps would lie on a stack of 512 bytes.
#[inline(always)]
pub fn opaque(n: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    let n = {
        let mut n = n;
        // SAFETY: the number stays what it is. Of no instruction at all there may be two lines at one place in the debug information,
        // which the kernel refuses.
        unsafe { core::arch::asm!("{n} += 0", n = inout(reg) n, options(pure, nomem, nostack)) };
        n
    };
    n
}

pub use imp::{Cell, Word};

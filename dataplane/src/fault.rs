//! Where tests let whoever writes to shared tables die: before any one of its writes.

use std::boxed::Box;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

std::thread_local! {
    /// How many writes this thread may still make.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// What a thread that dies unwinds with.
struct Died;

/// Comes before each write to a [`cell`](crate::cell); others call it before theirs.
#[inline]
pub fn point() {
    match LEFT.get() {
        usize::MAX => {}
        0 => resume_unwind(Box::new(Died)),
        left => LEFT.set(left - 1),
    }
}

/// Runs `f`, which dies before it would write more than `most` times: `None` if it did.
pub fn within<T>(most: usize, f: impl FnOnce() -> T) -> Option<T> {
    LEFT.set(most);
    let ran = catch_unwind(AssertUnwindSafe(f));
    LEFT.set(usize::MAX);
    match ran {
        Ok(done) => Some(done),
        Err(e) if e.is::<Died>() => None,
        Err(e) => resume_unwind(e),
    }
}

/// Runs `f`, whose writes count as one.
pub fn as_one<T>(f: impl FnOnce() -> T) -> T {
    point();
    let left = LEFT.replace(usize::MAX);
    let done = f();
    LEFT.set(left);
    done
}

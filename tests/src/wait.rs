//! Bounded waiting: polling with a deadline, and a stop signal that wakes
//! blocking threads at once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::error::{LabError, Result, Tried};

/// How often a condition without an event to wait for is looked at.
const STEP: Duration = Duration::from_millis(20);
/// How many times longer than else a slow machine may take for anything.
const VARIABLE: &str = "FERNPASS_LAB_PATIENCE";

/// A deadline on this machine.
pub(crate) fn patient(deadline: Duration) -> Duration {
    static TIMES: OnceLock<u32> = OnceLock::new();
    let told = || std::env::var(VARIABLE).ok()?.parse().ok();
    deadline * *TIMES.get_or_init(|| told().unwrap_or(1).max(1))
}

/// Polls `condition` until it yields a value, or fails with a
/// [`LabError::Timeout`] that names `what`. Errors of the condition end the wait.
pub fn until<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = patient(deadline);
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            return Err(LabError::Timeout { what: what.to_owned(), after: deadline });
        }
        std::thread::sleep(STEP);
    }
}

/// A signal to end, seen by any number of threads that wait on file descriptors.
#[derive(Clone, Debug)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    /// A signal that has not been given.
    pub fn new() -> Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .tried(|| "creating an eventfd".to_owned())?;
        Ok(Self(Arc::new(fd)))
    }

    /// Gives the signal. It stays given.
    pub fn signal(&self) {
        // Cannot fail short of 2^64 signals; and then it is given anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Waits until `fd` is readable (true), or the signal is given or `timeout` passes (false).
    pub fn readable(&self, fd: BorrowedFd<'_>, timeout: Option<Duration>) -> bool {
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        let mut fds =
            [PollFd::new(&self.0, PollFlags::IN), PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        // An interrupted wait looks like a timeout: callers look again.
        let _ = poll(&mut fds, timeout.as_ref());
        fds[0].revents().is_empty() && !fds[1].revents().is_empty()
    }

    /// True once the signal was given; waits for it up to `timeout`.
    pub fn wait(&self, timeout: Duration) -> bool {
        let timeout = Timespec::try_from(timeout).ok();
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let _ = poll(&mut fds, timeout.as_ref());
        !fds[0].revents().is_empty()
    }

    /// True once the signal was given.
    pub fn is_given(&self) -> bool {
        self.wait(Duration::ZERO)
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A thread that ends when its owner is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts one that does `work` until it is told to end.
    pub(crate) fn spawn(work: impl FnOnce(&Stop) + Send + 'static) -> Result<Self> {
        let stop = Stop::new()?;
        let seen = stop.clone();
        Ok(Self { stop, thread: Some(std::thread::spawn(move || work(&seen))) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.signal();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_stays_given_and_wakes_a_waiter() {
        let stop = Stop::new().unwrap();
        assert!(!stop.is_given());
        let seen = stop.clone();
        let waiter = std::thread::spawn(move || seen.wait(Duration::from_secs(30)));
        stop.signal();
        assert!(waiter.join().unwrap());
        assert!(stop.is_given());
    }

    #[test]
    fn until_names_what_did_not_happen() {
        let e = until::<()>("the sun rising", Duration::ZERO, || Ok(None)).unwrap_err();
        assert!(e.to_string().starts_with("the sun rising did not happen"), "{e}");
    }
}

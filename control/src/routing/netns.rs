//! Network namespaces for tests: a thread that lives in one.

use std::future::Future;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{UnshareFlags, gettid, unshare_unsafe};

type Job = Box<dyn FnOnce() + Send>;

/// Longest that anything in a test may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A thread in a network namespace of its own, which goes with it.
pub(crate) struct Namespace {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    id: i32,
}

impl Namespace {
    /// A new namespace with `lo` up.
    ///
    /// # Panics
    /// It takes root.
    pub(crate) fn new() -> Self {
        let (ready, told) = mpsc::channel();
        let (jobs, queue) = mpsc::channel::<Job>();
        let thread = std::thread::spawn(move || {
            // SAFETY: the flag changes the network namespace of this thread only; no file
            // descriptor table and no memory is unshared.
            let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
            ready.send(unshared.map(|()| gettid().as_raw_nonzero().get())).expect("test waits");
            queue.into_iter().for_each(|job| job());
        });
        let id = told.recv().expect("thread started").expect("root, to make a namespace");
        let namespace = Self { jobs: Some(jobs), thread: Some(thread), id };
        namespace.ip("link set lo up");
        namespace
    }

    /// The id by which `ip link set ... netns` knows it.
    pub(crate) fn id(&self) -> i32 {
        self.id
    }

    /// Runs something in the namespace. A panic there is one here.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (send, result) = mpsc::channel();
        let job = move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            // The test has given up if nobody listens.
            let _ = send.send(outcome);
        };
        self.jobs.as_ref().expect("open until dropped").send(Box::new(job)).expect("it lives");
        match result.recv().expect("every job answers") {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs asynchronous work in the namespace, with a limit.
    pub(crate) fn run_async<T, F>(&self, job: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        self.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async { tokio::time::timeout(LIMIT, job()).await.expect("in time") })
        })
    }

    /// Runs `ip` in the namespace.
    pub(crate) fn ip(&self, arguments: &str) {
        let arguments = arguments.to_owned();
        self.run(move || ip(&arguments));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of a job has been reported where it was started.
            let _ = thread.join();
        }
    }
}

/// Runs `ip` in the calling thread's namespace.
pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {said}");
}

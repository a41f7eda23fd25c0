//! Peers that are no processes: asynchronous work on a thread in a namespace.

use std::future::Future;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::error::{LabError, Result, Tried};
use crate::net::Ns;

/// A thread that runs until its owner is dropped, or its work is done. Sockets that the work
/// opens are in the namespace.
#[derive(Debug)]
pub(super) struct Worker<T> {
    end: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<Result<T>>>,
}

/// Tells the work that its owner wants its end.
#[derive(Clone, Debug)]
pub(super) struct End(watch::Receiver<()>);

impl End {
    /// Whether it was wanted already.
    pub(super) fn is_given(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Waits for it.
    pub(super) async fn wait(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// Something the work is to do, and where it tells that it is done.
pub(super) type Order<T> = (T, mpsc::Sender<()>);

/// Gives an order and waits until it is done, or the work has ended.
pub(super) fn order<T>(to: &UnboundedSender<Order<T>>, what: T) {
    let (done, wait) = mpsc::channel();
    if to.send((what, done)).is_ok() {
        let _ = wait.recv();
    }
}

impl<T: Send + 'static> Worker<T> {
    /// Starts work in `ns`, on one thread.
    pub(super) fn start<F>(ns: &Ns, work: impl FnOnce(End) -> F + Send + 'static) -> Result<Self>
    where
        F: Future<Output = T>,
    {
        let (end, seen) = watch::channel(());
        let ns = ns.clone();
        let run = move || {
            ns.enter(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .tried(|| "starting a runtime".to_owned())?;
                Ok(runtime.block_on(work(End(seen))))
            })?
        };
        Ok(Self { end: Some(end), thread: Some(std::thread::spawn(run)) })
    }

    /// Tells it to end.
    pub(super) fn stop(&mut self) {
        self.end = None;
    }

    /// Waits until its work is done.
    pub(super) fn join(mut self) -> Result<T> {
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(result)) => result,
            _ => Err(LabError::Scenario("a peer's thread has ended before".to_owned())),
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

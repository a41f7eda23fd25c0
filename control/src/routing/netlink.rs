//! Threads for questions to the kernel.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// How many there are: for the mirror, for what an interface runs, for what stands in the way, and for one of them that was given up.
const THREADS: usize = 4;

/// Threads of their own for what asks the kernel by netlink. A request is worked off in the call that sends it, under the kernel's lock of all its
/// links (RTNL), for which a call waits as long as others hold it: a driver that resets a card, or whoever removes thousands of links. Nobody
/// else of the daemon is to stand still meanwhile.
#[derive(Debug)]
pub struct Netlink(Option<Runtime>);

impl Netlink {
    /// Starts the threads.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start() -> io::Result<Self> {
        let mut threads = Builder::new_multi_thread();
        threads.worker_threads(THREADS).thread_name("netlink").enable_all();
        threads.build().map(|runtime| Self(Some(runtime)))
    }

    /// For asking more.
    pub fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }

    /// Lets something be asked there. Who does not wait for the answer has not stopped it.
    pub fn ask<F>(&self, question: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.handle().spawn(question)
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Who waits for the kernel is not waited for.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_for_the_kernel_waits_alone() {
        let netlink = Netlink::start().unwrap();
        let (answer, answered) = channel::<u8>();
        // As in a call that the kernel does not come back from.
        let asked = netlink.ask(async move { answered.recv().unwrap() });
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(netlink.ask(async { 1 }).await.unwrap(), 1);
        assert!(!asked.is_finished());
        answer.send(2).unwrap();
        assert_eq!(asked.await.unwrap(), 2);
        // Nor does its end.
        let (answer, answered) = channel::<u8>();
        netlink.ask(async move { answered.recv() });
        drop(netlink);
        drop(answer);
    }
}

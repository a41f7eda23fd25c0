//! How the rest of the program talks to the daemon.
//!
//! Reads are answered from the last published [`State`](super::published::Published) and from the
//! shared memory, and do not disturb the daemon. Changes are commands to the one task that owns the state.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::lists::{RouteRows, SessionRows};
use super::published::Published;
use super::view;
use crate::loader::Tables;

/// Why the daemon does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nothing of this name.
    #[error("{0}")]
    NotFound(String),
    /// The request makes no sense as it stands.
    #[error("{0}")]
    Invalid(String),
    /// The new configuration has mistakes: the rendered report.
    #[error("{0}")]
    Config(String),
    /// It was tried, and failed.
    #[error("{0}")]
    Failed(String),
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

/// A change that is asked for.
#[derive(Debug)]
pub(super) enum Command {
    Drain {
        backend: String,
        deadline: Option<Duration>,
        spread: Duration,
    },
    Undrain {
        backend: String,
    },
    Weight {
        backend: String,
        weight: Option<u32>,
    },
    Kill {
        session: String,
    },
    /// What the file would change.
    Difference,
    Apply {
        confirm: Option<Duration>,
    },
    Confirm,
    Revert,
    /// Whether the tables hold what was written to them.
    Verify,
}

/// What a command returns.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Done(view::Done),
    Reloaded(view::Reloaded),
    Difference(view::Difference),
    Verified(view::Verified),
}

pub(super) type Reply = oneshot::Sender<Result<Outcome, Refusal>>;

/// Talks to the daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<(Command, Reply)>,
    pub(super) published: watch::Receiver<Arc<Published>>,
    pub(super) unreachable: Unreachable,
}

/// Why the API cannot be reached, if it is so: readers of the metrics want to know.
pub(super) type Unreachable = Arc<Mutex<Option<String>>>;

type Answer<T> = Result<T, Refusal>;

impl Handle {
    async fn command(&self, command: Command) -> Answer<Outcome> {
        let (reply, answer) = oneshot::channel();
        self.commands.send((command, reply)).await.map_err(|_| Refusal::Stopping)?;
        answer.await.map_err(|_| Refusal::Stopping)?
    }

    async fn done(&self, command: Command) -> Answer<view::Done> {
        match self.command(command).await? {
            Outcome::Done(done) => Ok(done),
            _ => Err(unexpected()),
        }
    }

    /// Runs something that reads the tables where it may take its time.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Published, &Tables) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let published = Arc::clone(&self.published.borrow());
        tokio::task::spawn_blocking(move || read(&published, &published.tables))
            .await
            .map_err(|_| Refusal::Stopping)?
    }

    /// Says why the API cannot be reached, or that it can.
    pub fn is_unreachable(&self, why: Option<String>) {
        *self.unreachable.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Waits until the daemon's loop has turned once more, as it does each second at least; false if it has
    /// ended.
    pub async fn turned(&mut self) -> bool {
        self.published.changed().await.is_ok()
    }

    /// `fernpass status`.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub async fn status(&self) -> Answer<view::Status> {
        self.read(Published::status).await
    }

    /// `fernpass tenant list`.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub async fn tenants(&self) -> Answer<Vec<view::Tenant>> {
        self.read(|p, t| Ok(p.tenants(t))).await
    }

    /// `fernpass service list`.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub async fn services(&self) -> Answer<Vec<view::Service>> {
        self.read(|p, t| Ok(p.services(t))).await
    }

    /// `fernpass pool list`.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub async fn pools(&self) -> Answer<Vec<view::Pool>> {
        self.read(|p, t| Ok(p.pools(t))).await
    }

    /// `fernpass backend list`.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub async fn backends(&self) -> Answer<Vec<view::Backend>> {
        self.read(|p, t| Ok(p.backends(t))).await
    }

    /// `fernpass session list`.
    ///
    /// # Errors
    /// The filter names what does not exist.
    pub async fn sessions(&self, filter: view::SessionFilter) -> Answer<SessionRows> {
        let published = Arc::clone(&self.published.borrow());
        tokio::task::spawn_blocking(move || SessionRows::new(published, filter))
            .await
            .map_err(|_| Refusal::Stopping)?
    }

    /// `fernpass session show`.
    ///
    /// # Errors
    /// There is no such session.
    pub async fn session(&self, id: String) -> Answer<view::Session> {
        self.read(move |p, t| p.session(t, &id)).await
    }

    /// `fernpass route list`.
    pub fn routes(&self) -> RouteRows {
        RouteRows::new(Arc::clone(&self.published.borrow()))
    }

    /// `fernpass nexthop list`.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub async fn nexthops(&self) -> Answer<Vec<view::NextHop>> {
        self.read(|p, _| Ok(p.nexthops())).await
    }

    /// `fernpass counters`.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub async fn counters(&self) -> Answer<Vec<view::Counter>> {
        self.read(|_, t| Published::counters(t)).await
    }

    /// `fernpass backend drain`: no new sessions; those it has stay, until `deadline` if
    /// there is one, and are ended over `spread` then.
    ///
    /// # Errors
    /// There is no such backend, or the tables cannot be written.
    pub async fn drain(
        &self,
        backend: String,
        deadline: Option<Duration>,
        spread: Duration,
    ) -> Answer<view::Done> {
        self.done(Command::Drain { backend, deadline, spread }).await
    }

    /// `fernpass backend undrain`.
    ///
    /// # Errors
    /// There is no such backend, or the tables cannot be written.
    pub async fn undrain(&self, backend: String) -> Answer<view::Done> {
        self.done(Command::Undrain { backend }).await
    }

    /// `fernpass backend weight`; `None` goes back to the configured one.
    ///
    /// # Errors
    /// There is no such backend, or the tables cannot be written.
    pub async fn weight(&self, backend: String, weight: Option<u32>) -> Answer<view::Done> {
        self.done(Command::Weight { backend, weight }).await
    }

    /// `fernpass session kill`.
    ///
    /// # Errors
    /// There is no such session.
    pub async fn kill(&self, session: String) -> Answer<view::Done> {
        self.done(Command::Kill { session }).await
    }

    /// `fernpass reload`.
    ///
    /// # Errors
    /// The configuration has mistakes, or cannot be applied: then nothing has changed.
    pub async fn reload(&self) -> Answer<view::Reloaded> {
        self.apply(None).await
    }

    /// `fernpass apply`: a reload, which is taken back if it is not confirmed in time.
    ///
    /// # Errors
    /// As [`Self::reload`]; or another configuration is on trial.
    pub async fn apply(&self, confirm: Option<Duration>) -> Answer<view::Reloaded> {
        self.reloaded(Command::Apply { confirm }).await
    }

    /// `fernpass revert`: what is on trial is taken back now.
    ///
    /// # Errors
    /// Nothing is on trial, or what was before cannot be applied.
    pub async fn revert(&self) -> Answer<view::Reloaded> {
        self.reloaded(Command::Revert).await
    }

    /// `fernpass confirm`: what is on trial stays.
    ///
    /// # Errors
    /// Nothing is on trial, or the state directory cannot be written.
    pub async fn confirm(&self) -> Answer<view::Done> {
        self.done(Command::Confirm).await
    }

    /// `fernpass diff`: what a reload would change.
    ///
    /// # Errors
    /// The configuration has mistakes.
    pub async fn difference(&self) -> Answer<view::Difference> {
        match self.command(Command::Difference).await? {
            Outcome::Difference(difference) => Ok(difference),
            _ => Err(unexpected()),
        }
    }

    /// `fernpass verify`: whether the tables hold what was written to them; what does not is written again.
    ///
    /// # Errors
    /// A table cannot be read, or written.
    pub async fn verify(&self) -> Answer<view::Verified> {
        match self.command(Command::Verify).await? {
            Outcome::Verified(verified) => Ok(verified),
            _ => Err(unexpected()),
        }
    }

    async fn reloaded(&self, command: Command) -> Answer<view::Reloaded> {
        match self.command(command).await? {
            Outcome::Reloaded(reloaded) => Ok(reloaded),
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> Refusal {
    Refusal::Failed("unexpected outcome".to_owned())
}

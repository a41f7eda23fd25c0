//! The sockets.

use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::{Router, middleware};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::audit::audit;
use super::bounded::{Bounded, Peer};
use super::routes::{metrics_router, router};
use crate::config::Api;
use crate::daemon::Handle;

/// The API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The Unix socket.
    #[error("cannot listen on {path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon's socket.
    #[error("another daemon answers on {0}; give this one another [api] socket")]
    Taken(PathBuf),
    /// The metrics' address.
    #[error("cannot serve metrics on {address}: {source}")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// The sockets, open.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    api: UnixListener,
    metrics: Option<TcpListener>,
}

impl Server {
    /// Opens the sockets. The Unix socket can be used by root and its group.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn bind(api: &Api) -> Result<Self, ServeError> {
        let path = api.socket.clone();
        let listener = open(&path)?;
        let metrics = match api.metrics {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|source| ServeError::Metrics { address, source })?,
            ),
            None => None,
        };
        Ok(Self { path, api: listener, metrics })
    }

    /// Takes the Unix socket away again: nobody is going to answer.
    pub fn withdraw(self) {
        let _ = fs::remove_file(&self.path);
    }

    /// Answers until `shutdown`. A socket that somebody has removed is made again.
    pub async fn serve(self, handle: Handle, shutdown: impl Future<Output = ()> + Send + 'static) {
        if let Some(listener) = self.metrics {
            let app = metrics_router(handle.clone());
            tokio::spawn(async move { axum::serve(Bounded::new(listener), app).await });
        }
        let app = router(handle.clone()).layer(middleware::from_fn(audit));
        let (stop, stopped) = watch::channel(false);
        let mut served = JoinSet::new();
        let mut own = inode(&self.path);
        // What was said last of why it is not there.
        let mut failed = None;
        served.spawn(answer(self.api, app.clone(), stopped.clone()));
        let mut look = tokio::time::interval(LOOK);
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                _ = look.tick() => {}
            }
            let there = inode(&self.path);
            if there.is_some() && there == own {
                if failed.take().is_some() {
                    handle.is_unreachable(None);
                }
                continue;
            }
            // Another's in its place is left alone.
            if there.is_some() {
                let why = format!(
                    "{} is not this daemon's socket any more: the API cannot be reached there until it is removed",
                    self.path.display()
                );
                say(&mut failed, why);
            } else {
                match open(&self.path) {
                    Ok(listener) => {
                        tracing::warn!(path = %self.path.display(), "the socket was gone, and is there again");
                        served.spawn(answer(listener, app.clone(), stopped.clone()));
                        (own, failed) = (inode(&self.path), None);
                    }
                    Err(e) => {
                        say(&mut failed, e.to_string());
                        own = None;
                    }
                }
            }
            // Whoever cannot ask may still read the metrics.
            handle.is_unreachable(failed.clone());
        }
        stop.send_replace(true);
        while served.join_next().await.is_some() {}
        // The next daemon would find it stale.
        if own.is_some() && inode(&self.path) == own {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Says it, unless it was what was said last.
fn say(last: &mut Option<String>, why: String) {
    if last.as_ref() != Some(&why) {
        tracing::error!("{why}");
        *last = Some(why);
    }
}

/// How often the socket is looked for.
const LOOK: Duration = Duration::from_secs(5);

/// Makes the Unix socket.
fn open(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |source| ServeError::Socket { path: path.to_owned(), source };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(ServeError::Taken(path.to_owned()));
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    remove_stale(path).map_err(failed)?;
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// Which file this is, if it is there.
fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|there| there.ino())
}

async fn answer(listener: UnixListener, app: Router, mut stopped: watch::Receiver<bool>) {
    let until = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let app = app.into_make_service_with_connect_info::<Peer>();
    let served = axum::serve(Bounded::new(listener), app).with_graceful_shutdown(until).await;
    if let Err(e) = served {
        tracing::error!("the API ended: {e}");
    }
}

/// Removes the socket that a daemon left behind which was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::routing::post;

    use super::*;

    /// It is logged when it is done, by what calls the handler.
    #[tokio::test]
    async fn what_was_asked_for_is_carried_out_also_if_who_asked_has_gone_away() {
        let path = std::env::temp_dir().join(format!("fernpass-server-{}", std::process::id()));
        let (begun, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let handler = {
            let (begun, done) = (Arc::clone(&begun), Arc::clone(&done));
            async move || {
                begun.store(true, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(300)).await;
                done.store(true, Ordering::SeqCst);
            }
        };
        let app = Router::new().route("/", post(handler)).layer(middleware::from_fn(audit));
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(answer(open(&path).unwrap(), app, stopped));
        let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").unwrap();
        let is = async |what: &AtomicBool| {
            while !what.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        is(&begun).await;
        drop(client);
        let carried_out = tokio::time::timeout(Duration::from_secs(20), is(&done)).await;
        stop.send_replace(true);
        served.await.unwrap();
        fs::remove_file(&path).unwrap();
        carried_out.expect("it goes on");
    }
}

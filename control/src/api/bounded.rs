//! Connections, of which there are only so many at once, and none for ever: who opens many, or reads slowly, keeps nobody else
//! from the API for long, and the daemon's memory and descriptors within bounds.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;

/// Connections at once; more wait to be accepted.
const MOST: usize = 128;
/// How long a connection may have nothing to say, or not take what it is told. Longer than the command line waits for an answer.
const PATIENCE: Duration = Duration::from_secs(70);
/// How long to wait when there is no descriptor for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// A listener with bounds.
pub(super) struct Bounded<L> {
    listener: L,
    room: Arc<Semaphore>,
}

impl<L> Bounded<L> {
    pub(super) fn new(listener: L) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(MOST)) }
    }

    /// Waits for room, and then for somebody, whatever goes wrong meanwhile.
    async fn next<I, A>(
        &mut self,
        accept: impl AsyncFn(&L) -> io::Result<(I, A)>,
    ) -> (Connection<I>, A)
    where
        I: AsyncRead + AsyncWrite,
    {
        let room = Arc::clone(&self.room).acquire_owned().await;
        loop {
            match accept(&self.listener).await {
                // The semaphore is never closed.
                Ok((io, from)) => return (Connection::new(io, room.ok()), from),
                // Somebody who is gone already, or a want of descriptors.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// A connection; it makes room when it ends.
pub(super) struct Connection<I> {
    io: Pin<Box<TimeoutStream<I>>>,
    _room: Option<OwnedSemaphorePermit>,
}

impl<I: AsyncRead + AsyncWrite> Connection<I> {
    fn new(io: I, room: Option<OwnedSemaphorePermit>) -> Self {
        let mut io = TimeoutStream::new(io);
        io.set_read_timeout(Some(PATIENCE));
        io.set_write_timeout(Some(PATIENCE));
        Self { io: Box::pin(io), _room: room }
    }
}

impl<I: AsyncRead + AsyncWrite> AsyncRead for Connection<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_read(cx, buffer)
    }
}

impl<I: AsyncRead + AsyncWrite> AsyncWrite for Connection<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write(cx, buffer)
    }

    // Without these, what is to be sent would be copied together first, up to 400 KB of it.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_shutdown(cx)
    }
}

/// Who is at the other end of a Unix socket, by what the kernel says (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Peer {
    /// User id.
    pub(super) uid: Option<u32>,
    /// Process id.
    pub(super) pid: Option<i32>,
}

impl Listener for Bounded<UnixListener> {
    type Io = Connection<UnixStream>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Peer) {
        self.next(async |listener| {
            let (stream, _) = listener.accept().await?;
            let credentials = stream.peer_cred().ok();
            let pid = credentials.as_ref().and_then(tokio::net::unix::UCred::pid);
            Ok((stream, Peer { uid: credentials.map(|c| c.uid()), pid }))
        })
        .await
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer::default())
    }
}

impl Connected<IncomingStream<'_, Bounded<UnixListener>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded<UnixListener>>) -> Self {
        *stream.remote_addr()
    }
}

impl Listener for Bounded<TcpListener> {
    type Io = Connection<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        self.next(async |listener| listener.accept().await).await
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

//! One client's connection, and who is at its other end.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tonic::transport::server::Connected;

use super::authority::Mended;
pub use crate::api::Peer;

#[derive(Debug)]
enum Io {
    // C-core clients send a faulty authority over unix sockets only.
    Unix(Mended<UnixStream>),
    Tcp(TcpStream),
}

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Connection {
    io: Io,
    peer: Peer,
}

impl Connection {
    pub(super) fn unix(stream: UnixStream) -> Self {
        let credentials = stream.peer_cred().ok();
        let peer = Peer::Unix {
            uid: credentials.map(|of| of.uid()),
            pid: credentials.and_then(|of| of.pid()),
        };
        Self {
            io: Io::Unix(Mended::new(stream)),
            peer,
        }
    }

    pub(super) fn tcp(stream: TcpStream, peer: SocketAddr) -> Self {
        Self {
            io: Io::Tcp(stream),
            peer: Peer::Tcp(peer),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Io::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Unix(stream) => stream.is_write_vectored(),
            Io::Tcp(stream) => stream.is_write_vectored(),
        }
    }
}

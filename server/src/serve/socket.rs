//! Listening: unix sockets that only this user may open, and TCP on loopback.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
            net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::net::{TcpListener, UnixListener};
use tracing::{info, warn};

use super::{ServeError, connection::Connection};
use crate::config::Listen;

/// An address that is listened at.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Socket,
    address: Listen,
    /// Goes when nobody listens any more.
    _file: Option<SocketFile>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Who else may use the socket: nobody.
const MODE: u32 = 0o600;
/// Files and memory come back within moments, and a loop without pause would take a processor.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

impl Listener {
    pub(super) async fn bind(listen: &Listen) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen {
            address: listen.clone(),
            source,
        };
        let listener = match listen {
            Listen::Unix(path) => {
                let (socket, file) = bind_unix(path).map_err(failed)?;
                Self {
                    socket: Socket::Unix(UnixListener::from_std(socket).map_err(failed)?),
                    address: listen.clone(),
                    _file: Some(file),
                }
            }
            Listen::Tcp(address) => {
                let socket = TcpListener::bind(address).await.map_err(failed)?;
                // Port 0 has become a real one.
                let address = Listen::Tcp(socket.local_addr().map_err(failed)?);
                Self {
                    socket: Socket::Tcp(socket),
                    address,
                    _file: None,
                }
            }
        };
        info!(address = %listener.address, "listening");
        Ok(listener)
    }

    pub(super) fn address(&self) -> &Listen {
        &self.address
    }

    /// The connections as they come. Dropping it ends the listening and takes the socket's file away.
    pub(super) fn incoming(self) -> impl Stream<Item = io::Result<Connection>> + Send {
        stream::unfold(self, |listener| async move {
            loop {
                match listener.accept().await {
                    Ok(connection) => return Some((Ok(connection), listener)),
                    Err(e) => {
                        warn!(address = %listener.address, error = %e, "a connection cannot be accepted");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                }
            }
        })
    }

    async fn accept(&self) -> io::Result<Connection> {
        match &self.socket {
            Socket::Unix(socket) => Ok(Connection::unix(socket.accept().await?.0)),
            Socket::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                // Answers are small and whole; waiting to fill a packet only delays them.
                stream.set_nodelay(true)?;
                Ok(Connection::tcp(stream, peer))
            }
        }
    }
}

/// The file of a socket; goes with it, unless another socket has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = inode(&self.path).is_ok_and(|inode| inode == self.inode);
        if ours && let Err(e) = fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), error = %e, "the socket cannot be removed");
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Binds at `path`, over the file that a dead server left. Made in a private folder and moved into place when its mode is
/// right, so that there is no moment in which another user could connect.
fn bind_unix(path: &Path) -> io::Result<(StdUnixListener, SocketFile)> {
    let folder = path
        .parent()
        .ok_or_else(|| io::Error::other("the path has no folder"))?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    refuse_what_lives(path)?;
    let nest = Nest::new(folder)?;
    // By the folder's descriptor, because the way to it may be longer than a socket address holds.
    let open = fs::File::open(&nest.0)?;
    let socket = StdUnixListener::bind(format!("/proc/self/fd/{}/s", open.as_raw_fd()))?;
    let born = nest.0.join("s");
    fs::set_permissions(&born, Permissions::from_mode(MODE))?;
    fs::rename(&born, path)?;
    socket.set_nonblocking(true)?;
    let file = SocketFile {
        path: path.to_owned(),
        inode: inode(path)?,
    };
    Ok((socket, file))
}

/// A folder that only we may enter; goes with all that is in it.
struct Nest(PathBuf);

impl Nest {
    fn new(beside: &Path) -> io::Result<Self> {
        let path = beside.join(format!(".listen-{}", uuid::Uuid::new_v4().simple()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            warn!(path = %self.0.display(), error = %e, "a folder cannot be removed");
        }
    }
}

fn refuse_what_lives(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
        Ok(found) if !found.file_type().is_socket() => {
            let said = "a file is there that is no socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, said));
        }
        Ok(_) => {}
    }
    match StdUnixStream::connect(path) {
        Ok(_) => {
            let said = "another server answers there";
            Err(io::Error::new(io::ErrorKind::AddrInUse, said))
        }
        // Nobody listens: a server that died left it.
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

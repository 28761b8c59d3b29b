//! Who calls.

use std::{fmt, net::SocketAddr};

use tonic::Request;

/// Who calls, as far as the kernel tells. Found in the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process of this host.
    Unix {
        /// Its user.
        uid: Option<u32>,
        /// Its id.
        pid: Option<i32>,
    },
    /// A client over TCP.
    Tcp(SocketAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { uid, pid } => {
                let uid = uid.map_or_else(|| "?".to_owned(), |uid| uid.to_string());
                let pid = pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
                write!(f, "unix:uid={uid},pid={pid}")
            }
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// Who sent the request, as it is written down with what they begin.
pub(super) fn caller<T>(request: &Request<T>) -> Option<String> {
    request.extensions().get::<Peer>().map(Peer::to_string)
}

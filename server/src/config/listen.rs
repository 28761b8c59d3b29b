//! The addresses that calls are taken at.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::value::{Raw, Setting};

/// The kernel's `sockaddr_un` holds 108 bytes, one of them the end.
const UNIX_PATH: usize = 107;

/// One address that calls are taken at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A unix socket, of mode 0600.
    Unix(PathBuf),
    /// A TCP port on loopback.
    Tcp(SocketAddr),
}

impl Listen {
    /// Reads `unix:PATH` or `tcp:ADDRESS:PORT`.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return unix(Path::new(path));
        }
        if let Some(address) = text.strip_prefix("tcp:") {
            let address = address.strip_prefix("//").unwrap_or(address);
            return tcp(address);
        }
        Err("must be unix:PATH or tcp:ADDRESS:PORT".to_owned())
    }
}

impl Setting for Listen {
    fn read(raw: &Raw) -> Result<Self, String> {
        raw.text()
            .map_or_else(|| Err("must be a text".to_owned()), Self::parse)
    }
}

fn unix(path: &Path) -> Result<Listen, String> {
    if path.as_os_str().is_empty() || path.as_os_str().as_bytes().contains(&0) {
        return Err("must name a path after unix:".to_owned());
    }
    let path = std::path::absolute(path).map_err(|e| format!("has no absolute path: {e}"))?;
    if path.as_os_str().len() > UNIX_PATH {
        return Err(format!(
            "must be at most {UNIX_PATH} bytes long, as the kernel's socket addresses are; {} is {}",
            path.display(),
            path.as_os_str().len()
        ));
    }
    Ok(Listen::Unix(path))
}

fn tcp(text: &str) -> Result<Listen, String> {
    let named = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok())
        .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    let address = named
        .or_else(|| text.parse().ok())
        .ok_or("must be tcp:ADDRESS:PORT with a numeric address, as tcp:127.0.0.1:7070")?;
    if address.ip().is_loopback() {
        Ok(Listen::Tcp(address))
    } else {
        Err("is refused: TLS does not exist yet, so calls over TCP are taken on loopback only (tcp:127.0.0.1:PORT or tcp:[::1]:PORT)".to_owned())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

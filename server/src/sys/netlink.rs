//! Network devices of this host, asked of the kernel itself.
//!
//! Every call opens a socket of its own, in the network namespace of the thread that it runs on: calls are rare, and
//! nothing is left running between them. sysfs is not asked: it shows the namespace that it was mounted in.

use std::{io, pin::pin, sync::Arc};

use futures::{
    TryStreamExt,
    future::{Either, select},
};
use rtnetlink::{
    Handle, new_connection,
    packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
};
use rustix::io::Errno;

/// What a network device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A Linux bridge.
    Bridge,
    /// A tap (or tun) device.
    Tap,
    /// Anything else.
    Other,
}

/// A network device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of it.
    pub index: u32,
    /// What it is.
    pub kind: LinkKind,
    /// Largest packet that it carries, in bytes; none when the kernel does not say.
    pub mtu: Option<u32>,
}

/// Why the kernel did not answer, or did not obey.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NetlinkError {
    /// There is no socket to ask through.
    #[error("no netlink socket can be opened")]
    Socket(#[source] Arc<io::Error>),
    /// It refused.
    #[error("the kernel refused to {what}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The kernel's reason.
        #[source]
        source: Arc<rtnetlink::Error>,
    },
    /// The socket closed before the answer came.
    #[error("the netlink socket closed before the kernel answered")]
    Closed,
}

/// The device named `name` in the network namespace of this thread.
///
/// # Errors
/// When the kernel cannot be asked; that there is no such device is an answer.
pub async fn link(name: &str) -> Result<Option<Link>, NetlinkError> {
    // The kernel would take a longer name for another device's.
    if name.is_empty() || name.len() > NAME_MAX {
        return Ok(None);
    }
    let name = name.to_owned();
    let found = ask(move |handle| async move {
        let mut links = pin!(handle.link().get().match_name(name).execute());
        links.try_next().await
    });
    match found.await? {
        Ok(found) => Ok(found.as_ref().map(read)),
        Err(e) if is(&e, Errno::NODEV) => Ok(None),
        Err(source) => Err(NetlinkError::Refused {
            what: "show a network device",
            source: Arc::new(source),
        }),
    }
}

/// The names of all bridges in the network namespace of this thread.
///
/// # Errors
/// When the kernel cannot be asked.
pub async fn bridges() -> Result<Vec<String>, NetlinkError> {
    let found = ask(|handle| async move {
        let links = handle.link().get().execute();
        links.try_collect::<Vec<_>>().await
    });
    let found = found.await?.map_err(|source| NetlinkError::Refused {
        what: "list network devices",
        source: Arc::new(source),
    })?;
    let bridges = found
        .iter()
        .filter(|link| read(link).kind == LinkKind::Bridge);
    Ok(bridges.filter_map(name).collect())
}

fn name(message: &LinkMessage) -> Option<String> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })
}

/// Removes a device; one that is not there is as good.
///
/// # Errors
/// When the kernel cannot be asked, or refuses.
pub async fn remove(link: Link) -> Result<(), NetlinkError> {
    let removed =
        ask(move |handle| async move { handle.link().del(link.index).execute().await }).await?;
    match removed {
        Err(e) if !is(&e, Errno::NODEV) => Err(NetlinkError::Refused {
            what: "remove a network device",
            source: Arc::new(e),
        }),
        _ => Ok(()),
    }
}

/// IFNAMSIZ less the closing zero.
const NAME_MAX: usize = 15;

/// Drives a connection for as long as one question needs it.
async fn ask<T, F: Future<Output = T>>(
    question: impl FnOnce(Handle) -> F,
) -> Result<T, NetlinkError> {
    let (connection, handle, _) =
        new_connection().map_err(|e| NetlinkError::Socket(Arc::new(e)))?;
    match select(pin!(question(handle)), pin!(connection)).await {
        Either::Left((answer, _)) => Ok(answer),
        Either::Right(((), _)) => Err(NetlinkError::Closed),
    }
}

fn is(e: &rtnetlink::Error, errno: Errno) -> bool {
    match e {
        rtnetlink::Error::NetlinkError(message) => message
            .code
            .is_some_and(|code| code.get() == -errno.raw_os_error()),
        _ => false,
    }
}

fn read(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        kind: LinkKind::Other,
        mtu: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = Some(*mtu),
            LinkAttribute::LinkInfo(infos) => link.kind = kind(infos),
            _ => {}
        }
    }
    link
}

fn kind(infos: &[LinkInfo]) -> LinkKind {
    let kinds = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kinds {
        Some(InfoKind::Bridge) => LinkKind::Bridge,
        Some(InfoKind::Tun) => LinkKind::Tap,
        _ => LinkKind::Other,
    }
}

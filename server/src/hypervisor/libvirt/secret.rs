//! Secrets of volumes through libvirt's secret driver.
//!
//! They are not private in libvirt's sense: the size of a volume that grows is looked at with its secret, and whoever may
//! ask libvirt for one may do anything on this host. Beside an embedded QEMU driver there is an embedded secret driver, over
//! the same folder, which nobody but this process can ask.

use async_trait::async_trait;
use tracing::{info, warn};
use virt::{
    connect::Connect,
    error::{Error as VirtError, ErrorNumber},
    secret::Secret as Handle,
};

use super::{
    Libvirt,
    call::{Call, Kind},
    fault::Fault,
    ffi,
    line::{Conn, Keeper, Route},
};
use crate::{
    domain,
    hypervisor::{HypervisorError, Result, secret::Secrets},
    model::{Secret, SecretName, SecretUse},
};

/// What keeps secrets beside the embedded driver at `uri`; to be opened before that. None, and a word to the operator,
/// where there is nothing that does.
pub(super) fn beside(uri: &str) -> Option<Keeper> {
    let own = uri.replacen("qemu://", "secret://", 1);
    let conn = match Conn::open(&own) {
        Ok(conn) => conn,
        Err(e) => {
            warn!(
                reason = e.message(),
                "no secret of a volume can be kept: libvirt's secret driver is not there"
            );
            return None;
        }
    };
    if !ffi::identity::assume(conn.get()) {
        warn!(
            "no secret of a volume can be kept: this libvirt has no identity for its own process"
        );
        return None;
    }
    info!("secrets of volumes are kept");
    Some(Keeper::new(conn))
}

/// What a hypervisor says that was asked whether it keeps secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeps {
    /// It does, or never will while this link lasts.
    Known(bool),
    /// Its part that would is not there now. It may be started any time.
    NotNow,
}

/// What a libvirtd without the daemon for secrets says.
const NO_SOCKET: [&str; 2] = ["Failed to connect socket", "No such file or directory"];

/// Asks whether secrets are kept at the other end. Any error that does not say so is one of the asking.
pub(super) fn asked(conn: &Connect) -> Result<Keeps, Fault> {
    judged(conn.num_of_secrets())
}

fn judged(answer: Result<u32, VirtError>) -> Result<Keeps, Fault> {
    let Err(e) = answer else {
        return Ok(Keeps::Known(true));
    };
    if NO_SOCKET.iter().all(|words| e.message().contains(words)) {
        return Ok(Keeps::NotNow);
    }
    let fault = Fault::from(e);
    match fault.is(ErrorNumber::NoSupport) {
        true => Ok(Keeps::Known(false)),
        false => Err(fault),
    }
}

/// The connection to ask, of a worker's own and that which is for secrets.
fn keeper<'a>(route: &'a Route, conn: &'a Connect) -> &'a Connect {
    route.secrets.as_ref().map_or(conn, |keeper| keeper.get())
}

impl Libvirt {
    async fn ask_keeper<T: Send + 'static>(
        &self,
        name: &'static str,
        f: impl FnOnce(&Connect) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        if !self.keeps_secrets().await? {
            let message = "libvirt's secret driver is not there".to_owned();
            return Err(HypervisorError::Unsupported { message });
        }
        let route = self.exchange.route()?;
        let call = Call::plain(Kind::Cheap, name);
        self.call(call, move |conn| f(keeper(&route, conn))).await
    }
}

#[async_trait]
impl Secrets for Libvirt {
    async fn keeps_secrets(&self) -> Result<bool> {
        if let Some(keeper) = self.exchange.route()?.secrets {
            return Ok(keeper.is_open());
        }
        if let Some(known) = self.exchange.keeps() {
            return Ok(known);
        }
        let call = Call::plain(Kind::Cheap, "virConnectNumOfSecrets");
        let keeps = self.call(call, asked).await?;
        self.exchange.learn_keeps(keeps);
        Ok(keeps == Keeps::Known(true))
    }

    async fn keep_secret(
        &self,
        name: SecretName,
        usage: SecretUse,
        value: &Secret<Vec<u8>>,
    ) -> Result<()> {
        let (xml, value) = (domain::secret(name, usage), value.clone());
        let keep = move |conn: &Connect| {
            let secret = conn.define_secret_xml(&xml, 0)?;
            Ok(secret.set_value(value.expose(), 0)?)
        };
        self.ask_keeper("virSecretSetValue", keep).await
    }

    async fn kept_secret(&self, name: SecretName) -> Result<Option<Secret<Vec<u8>>>> {
        let read = move |conn: &Connect| {
            let secret = found(conn, name)?;
            let value = secret.map(|secret| ffi::secret_value(&secret)).transpose();
            Ok(or_none(value)?.flatten().map(Secret::new))
        };
        self.ask_keeper("virSecretGetValue", read).await
    }

    async fn forget_secret(&self, name: SecretName) -> Result<()> {
        if !self.keeps_secrets().await? {
            warn!(secret = %name, "it cannot be forgotten as long as libvirt's secret driver is not there");
            return Ok(());
        }
        let forget = move |conn: &Connect| {
            let secret = found(conn, name)?;
            or_none(secret.map(|secret| secret.undefine()).transpose())?;
            Ok(())
        };
        self.ask_keeper("virSecretUndefine", forget).await
    }

    async fn kept_secrets(&self) -> Result<Vec<SecretName>> {
        if !self.keeps_secrets().await? {
            return Ok(Vec::new());
        }
        let list = |conn: &Connect| {
            let all = conn.list_all_secrets(0)?;
            let usages = all.iter().filter_map(ffi::secret_usage);
            Ok(usages.filter_map(|usage| usage.parse().ok()).collect())
        };
        self.ask_keeper("virConnectListAllSecrets", list).await
    }
}

fn found(conn: &Connect, name: SecretName) -> Result<Option<Handle>, VirtError> {
    or_none(conn.lookup_secret_by_uuid(name.uuid()))
}

/// None of what is not there.
fn or_none<T>(found: Result<T, VirtError>) -> Result<Option<T>, VirtError> {
    match found {
        Err(e) if e.code().is_known_and(|code| code == ErrorNumber::NoSecret) => Ok(None),
        found => found.map(Some),
    }
}

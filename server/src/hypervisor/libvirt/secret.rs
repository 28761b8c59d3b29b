//! Secrets of volumes through libvirt's secret driver.
//!
//! They are not private in libvirt's sense: the size of a volume that grows is looked at with its secret, and whoever may
//! ask libvirt for one may do anything on this host. Beside an embedded QEMU driver there is an embedded secret driver, over
//! the same folder, which nobody but this process can ask.

use std::sync::Arc;

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
    line::{Conn, Route},
};
use crate::{
    domain,
    hypervisor::{HypervisorError, Result, secret::Secrets},
    model::{Secret, SecretName, SecretUse},
};

/// What keeps secrets beside the embedded driver at `uri`; to be opened before that. None, and a word to the operator,
/// where there is nothing that does.
pub(super) fn beside(uri: &str) -> Option<Arc<Conn>> {
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
    Some(Arc::new(conn))
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
        if !self.exchange.capabilities()?.secrets {
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
        if !self.exchange.capabilities()?.secrets {
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
        if !self.exchange.capabilities()?.secrets {
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

//! Where a volume is, as it is said on a command line. A secret never is: everybody on the host may read that.

use std::path::PathBuf;

use clap::Args;
use computedriver_client::v1::{self, block_device::Source, nbd_target, volume_connection::Target};
use uuid::Uuid;

use crate::exit::Failure;

/// The variable that may hold a volume's secret.
const VARIABLE: &str = "COMPUTECTL_VOLUME_SECRET";

/// All forms, for people.
pub(crate) const PLACES: &str = "Where it is: a path on the host, `nbd:ADDRESS:PORT[/EXPORT]`, \
    `nbd:/path/of/socket[#EXPORT]`, `iscsi:ADDRESS:PORT/NAME[/LUN]` or `rbd:POOL/IMAGE@MONITOR[,MONITOR]`";

/// How the host proves to a storage service who it is.
#[derive(Debug, Default, Args)]
pub(crate) struct LoginArgs {
    /// User of the volume's storage, of CHAP or cephx.
    #[arg(long, value_name = "NAME")]
    volume_user: Option<String>,
    /// File whose first line is that user's secret (`-` is stdin). Default: what `COMPUTECTL_VOLUME_SECRET` holds.
    #[arg(long, value_name = "FILE", requires = "volume_user")]
    volume_secret_file: Option<PathBuf>,
}

impl LoginArgs {
    /// The way to a volume.
    pub(crate) fn target(&self, said: &str) -> Result<Target, Failure> {
        let Some((kind, rest)) = said.split_once(':').filter(|_| !said.starts_with('/')) else {
            return Ok(local(said));
        };
        match kind {
            "nbd" => Ok(nbd(rest)),
            "iscsi" => self.iscsi(rest),
            "rbd" => self.rbd(rest),
            _ => Ok(local(said)),
        }
    }

    /// A disk of a new volume.
    pub(crate) fn device(&self, said: &str) -> Result<v1::BlockDevice, Failure> {
        let volume_id = Uuid::new_v4().to_string();
        let volume = v1::VolumeConnection {
            volume_id: volume_id.clone(),
            target: Some(self.target(said)?),
            ..Default::default()
        };
        Ok(v1::BlockDevice {
            disk_id: volume_id,
            source: Some(Source::Volume(volume)),
            ..Default::default()
        })
    }

    fn iscsi(&self, rest: &str) -> Result<Target, Failure> {
        let wrong = || {
            let form = "iscsi:ADDRESS:PORT/NAME[/LUN]";
            Failure::Usage(format!("{rest:?} is not of the form {form}"))
        };
        let (portal, unit) = rest.split_once('/').ok_or_else(wrong)?;
        let (iqn, lun) = match unit.split_once('/') {
            Some((iqn, lun)) => (iqn, lun.parse().map_err(|_| wrong())?),
            None => (unit, 0),
        };
        let (chap_username, chap_password) = self.login()?;
        Ok(Target::Iscsi(v1::IscsiTarget {
            portals: vec![portal.to_owned()],
            iqn: iqn.to_owned(),
            lun,
            chap_username,
            chap_password,
            ..Default::default()
        }))
    }

    fn rbd(&self, rest: &str) -> Result<Target, Failure> {
        let parts = rest
            .split_once('@')
            .and_then(|(image, monitors)| Some((image.split_once('/')?, monitors)));
        let ((pool, image), monitors) = parts.ok_or_else(|| {
            let form = "rbd:POOL/IMAGE@MONITOR[,MONITOR]";
            Failure::Usage(format!("{rest:?} is not of the form {form}"))
        })?;
        let (username, secret_key) = self.login()?;
        Ok(Target::Rbd(v1::RbdTarget {
            monitors: monitors.split(',').map(str::to_owned).collect(),
            pool: pool.to_owned(),
            image: image.to_owned(),
            username,
            secret_key,
        }))
    }

    fn login(&self) -> Result<(String, String), Failure> {
        let Some(user) = self.volume_user.clone() else {
            return Ok(Default::default());
        };
        let Some(file) = &self.volume_secret_file else {
            let secret = std::env::var(VARIABLE);
            let missing = format!("--volume-user goes with --volume-secret-file or {VARIABLE}");
            return Ok((user, secret.map_err(|_| Failure::Usage(missing))?));
        };
        let read = match file.to_str() {
            Some("-") => std::io::read_to_string(std::io::stdin()),
            _ => std::fs::read_to_string(file),
        };
        let name = file.display();
        let text = read.map_err(|e| Failure::Usage(format!("{name} cannot be read: {e}")))?;
        let secret = text.lines().next().filter(|line| !line.is_empty());
        let missing = || Failure::Usage(format!("{name} has no secret"));
        Ok((user, secret.ok_or_else(missing)?.to_owned()))
    }
}

fn local(path: &str) -> Target {
    let path = path.to_owned();
    Target::Local(v1::LocalTarget { path })
}

fn nbd(rest: &str) -> Target {
    let (server, export) = if rest.starts_with('/') {
        let (socket, export) = rest.split_once('#').unwrap_or((rest, ""));
        (nbd_target::Server::Socket(socket.to_owned()), export)
    } else {
        let (address, export) = rest.split_once('/').unwrap_or((rest, ""));
        (nbd_target::Server::Address(address.to_owned()), export)
    };
    Target::Nbd(v1::NbdTarget {
        server: Some(server),
        export: export.to_owned(),
        tls: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_by_its_form_and_its_secret_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "a long secret\nmore\n").unwrap();
        let login = LoginArgs {
            volume_user: Some("me".to_owned()),
            volume_secret_file: Some(file),
        };
        let said = "iscsi:[2001:db8::7]:3260/iqn.2001-04.com.example:storage/7";
        let expected = v1::IscsiTarget {
            portals: vec!["[2001:db8::7]:3260".to_owned()],
            iqn: "iqn.2001-04.com.example:storage".to_owned(),
            lun: 7,
            chap_username: "me".to_owned(),
            chap_password: "a long secret".to_owned(),
            ..Default::default()
        };
        assert_eq!(login.target(said).ok(), Some(Target::Iscsi(expected)));
        let said = "rbd:volumes/one@192.0.2.1:3300,192.0.2.2:3300";
        let expected = v1::RbdTarget {
            monitors: ["192.0.2.1:3300", "192.0.2.2:3300"]
                .map(str::to_owned)
                .to_vec(),
            pool: "volumes".to_owned(),
            image: "one".to_owned(),
            username: "me".to_owned(),
            secret_key: "a long secret".to_owned(),
        };
        assert_eq!(login.target(said).ok(), Some(Target::Rbd(expected)));
        let nobody = LoginArgs::default();
        for path in ["/srv/a:b", "/srv/vol"] {
            assert_eq!(nobody.target(path).ok(), Some(local(path)));
        }
        assert!(nobody.target("iscsi:192.0.2.1:3260").is_err());
        assert!(nobody.target("iscsi:192.0.2.1:3260/iqn.x/y").is_err());
        assert!(nobody.target("rbd:one@192.0.2.1:3300").is_err());
    }
}

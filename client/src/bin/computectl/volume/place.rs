//! Where a volume is, as it is said on a command line. A secret never is: everybody on the host may read that.

use computedriver_client::v1::{self, block_device::Source, nbd_target, volume_connection::Target};
use uuid::Uuid;

use super::login::LoginArgs;
use crate::exit::Failure;

/// All forms, for people.
pub(crate) const PLACES: &str = "Where it is: a path on the host, `nbd:ADDRESS:PORT[/EXPORT]`, \
    `nbd:/path/of/socket[#EXPORT]`, `iscsi:ADDRESS:PORT/NAME[/LUN]` or `rbd:POOL/IMAGE@MONITOR[,MONITOR]`";

/// The way to volumes, with the logins of a command line.
impl LoginArgs {
    /// The way to a volume.
    pub(crate) fn target(&mut self, said: &str) -> Result<Target, Failure> {
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

    /// The way to the only volume of a command.
    pub(crate) fn only(mut self, said: &str) -> Result<Target, Failure> {
        let target = self.target(said)?;
        self.end()?;
        Ok(target)
    }

    /// A disk of a new volume.
    pub(crate) fn device(&mut self, said: &str) -> Result<v1::BlockDevice, Failure> {
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

    fn iscsi(&mut self, rest: &str) -> Result<Target, Failure> {
        let wrong = || {
            let form = "iscsi:ADDRESS:PORT/NAME[/LUN]";
            Failure::Usage(format!("{rest:?} is not of the form {form}"))
        };
        let (portal, unit) = rest.split_once('/').ok_or_else(wrong)?;
        let (iqn, lun) = match unit.split_once('/') {
            Some((iqn, lun)) => (iqn, lun.parse().map_err(|_| wrong())?),
            None => (unit, 0),
        };
        let (chap_username, chap_password) = self.next()?;
        Ok(Target::Iscsi(v1::IscsiTarget {
            portals: vec![portal.to_owned()],
            iqn: iqn.to_owned(),
            lun,
            chap_username,
            chap_password,
            ..Default::default()
        }))
    }

    fn rbd(&mut self, rest: &str) -> Result<Target, Failure> {
        let parts = rest
            .split_once('@')
            .and_then(|(image, monitors)| Some((image.split_once('/')?, monitors)));
        let ((pool, image), monitors) = parts.ok_or_else(|| {
            let form = "rbd:POOL/IMAGE@MONITOR[,MONITOR]";
            Failure::Usage(format!("{rest:?} is not of the form {form}"))
        })?;
        let (username, secret_key) = self.next()?;
        Ok(Target::Rbd(v1::RbdTarget {
            monitors: monitors.split(',').map(str::to_owned).collect(),
            pool: pool.to_owned(),
            image: image.to_owned(),
            username,
            secret_key,
        }))
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
        let mut login = LoginArgs::of(&["me"], &[file]);
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
        let mut nobody = LoginArgs::default();
        for path in ["/srv/a:b", "/srv/vol"] {
            assert_eq!(nobody.target(path).ok(), Some(local(path)));
        }
        assert!(nobody.target("iscsi:192.0.2.1:3260").is_err());
        assert!(nobody.target("iscsi:192.0.2.1:3260/iqn.x/y").is_err());
        assert!(nobody.target("rbd:one@192.0.2.1:3300").is_err());
        let unused = LoginArgs::of(&["me"], &[]);
        assert!(unused.only("/srv/vol").is_err(), "a file asks for no login");
    }
}

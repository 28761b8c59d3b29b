//! This host as an initiator of storage connections: the names that its own tools have written down.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The names by which storage knows this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Initiator {
    /// iSCSI.
    pub iqn: Option<String>,
    /// NVMe over fabrics.
    pub nqn: Option<String>,
    /// Fibre Channel ports that are online.
    pub ports: Vec<FcPort>,
}

/// A Fibre Channel port, its names in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FcPort {
    /// Its own name.
    pub port: String,
    /// Its node's name.
    pub node: String,
}

/// Reads them. What is not installed is absent.
///
/// # Errors
/// When something is there and cannot be read.
pub fn read() -> io::Result<Initiator> {
    below(Path::new("/"))
}

fn below(root: &Path) -> io::Result<Initiator> {
    let iscsi = text(&root.join("etc/iscsi/initiatorname.iscsi"))?;
    let nvme = text(&root.join("etc/nvme/hostnqn"))?;
    Ok(Initiator {
        iqn: iscsi.lines().find_map(iqn),
        nqn: nvme
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with("nqn."))
            .map(str::to_owned),
        ports: ports(&root.join("sys/class/fc_host"))?,
    })
}

/// The name in a line of open-iscsi's file, which may also ask for one to be made.
fn iqn(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let named = key.trim() == "InitiatorName" && !value.trim().is_empty();
    named.then(|| value.trim().to_owned())
}

fn ports(folder: &Path) -> io::Result<Vec<FcPort>> {
    let found = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let mut hosts: Vec<PathBuf> = found
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    hosts.sort();
    let mut ports = Vec::new();
    for host in hosts {
        let read = |name: &str| {
            let text = text(&host.join(name))?;
            Ok::<_, io::Error>(text.trim().trim_start_matches("0x").to_owned())
        };
        if read("port_state")? == "Online" {
            ports.push(FcPort {
                port: read("port_name")?,
                node: read("node_name")?,
            });
        }
    }
    Ok(ports)
}

fn text(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_host_without_any_has_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(below(root.path()).unwrap(), Initiator::default());
        let generate = "# InitiatorName=iqn.no\nGenerateName=yes\n";
        write(root.path(), "etc/iscsi/initiatorname.iscsi", generate);
        assert_eq!(below(root.path()).unwrap(), Initiator::default());
    }

    #[test]
    fn names_are_read_as_their_tools_write_them() {
        let root = tempfile::tempdir().unwrap();
        let iscsi = "## DO NOT EDIT\nInitiatorName = iqn.1993-08.org.debian:01:abc\n";
        write(root.path(), "etc/iscsi/initiatorname.iscsi", iscsi);
        let nqn = "nqn.2014-08.org.nvmexpress:uuid:1";
        write(root.path(), "etc/nvme/hostnqn", &format!("{nqn}\n"));
        for (host, state) in [("host1", "Online"), ("host2", "Linkdown")] {
            let folder = format!("sys/class/fc_host/{host}");
            write(root.path(), &format!("{folder}/port_state"), state);
            let port = "0x10000090fa8d1c5e\n";
            write(root.path(), &format!("{folder}/port_name"), port);
            let node = "0x20000090fa8d1c5e\n";
            write(root.path(), &format!("{folder}/node_name"), node);
        }
        let port = FcPort {
            port: "10000090fa8d1c5e".to_owned(),
            node: "20000090fa8d1c5e".to_owned(),
        };
        let there = Initiator {
            iqn: Some("iqn.1993-08.org.debian:01:abc".to_owned()),
            nqn: Some(nqn.to_owned()),
            ports: vec![port],
        };
        assert_eq!(below(root.path()).unwrap(), there);
    }
}

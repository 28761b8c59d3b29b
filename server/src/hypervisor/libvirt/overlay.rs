//! Files of disks through libvirt's external snapshots and block jobs.
//!
//! libvirt is told every file by its name: left to itself, a commit goes down to the file at the bottom.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use virt::{connect::Connect, domain::Domain, sys};

use super::{
    Libvirt,
    call::{Call, Kind},
    fault::Fault,
    ffi,
    guest::{PATIENCE, definition, must, ours, unreadable},
    xml::Element,
};
use crate::{
    domain::{self, Disk, DiskSource},
    hypervisor::{
        HypervisorError, Result,
        overlay::{Merge, Overlays},
    },
    model::InstanceId,
};

#[async_trait]
impl Overlays for Libvirt {
    async fn overlay(&self, id: InstanceId, to: &Disk) -> Result<()> {
        let DiskSource::File(file) = to.source.clone() else {
            let message = "what is no file cannot be put over a disk".to_owned();
            return Err(HypervisorError::Unsupported { message });
        };
        let (target, format) = (to.target.clone(), to.format);
        let call = Call::of(Kind::Monitor, "virDomainSnapshotCreateXML", id);
        let overlay = move |conn: &Connect| {
            let guest = must(ours(conn, id)?, id)?;
            if !guest.is_active()? {
                let message = "domain is not running".to_owned();
                return Err(HypervisorError::State { guest: id, message }.into());
            }
            let live = live(&guest)?;
            if files(&live, &target).first() == Some(&file) {
                return Ok(());
            }
            let names = live.all(&["devices", "disk", "target"]);
            let others = names.filter_map(|name| name.attribute("dev"));
            let others = others.filter(|other| *other != target);
            let xml = domain::overlay(&target, (&file, format), others);
            Ok(ffi::overlay::snapshot(&guest, &xml)?)
        };
        self.call(call, overlay).await
    }

    async fn begin_merge(&self, id: InstanceId, to: &Disk, merge: &Merge) -> Result<()> {
        let (target, merge) = (to.target.clone(), merge.clone());
        let call = Call::of(Kind::Monitor, "virDomainBlockCommit", id);
        let begin = move |conn: &Connect| {
            let domain = must(ours(conn, id)?, id)?;
            // The names in the files' headers stay as short as they are, where libvirt knows that they are: it does not
            // once the guest was started with them.
            match begin(&domain, (&target, &merge), true) {
                Err(_) => begin(&domain, (&target, &merge), false),
                begun => begun,
            }
        };
        self.call(call, begin).await
    }

    async fn files(&self, id: InstanceId, target: &str) -> Result<Vec<PathBuf>> {
        let target = target.to_owned();
        let call = Call::reading(Kind::Monitor, "virDomainGetXMLDesc", id);
        let look = move |conn: &Connect| Ok(files(&live(&must(ours(conn, id)?, id)?)?, &target));
        self.call(call, look).await
    }
}

fn live(domain: &Domain) -> Result<Element, Fault> {
    let xml = definition(domain, PATIENCE)?;
    Element::parse(&xml).map_err(|e| unreadable(&e))
}

fn begin(domain: &Domain, (target, merge): (&str, &Merge), relative: bool) -> Result<(), Fault> {
    let flag = |flag: u32| if relative { flag } else { 0 };
    let commit = flag(sys::VIR_DOMAIN_BLOCK_COMMIT_RELATIVE);
    let done = match merge {
        Merge::Up { base: Some(base) } => {
            let rebase = flag(sys::VIR_DOMAIN_BLOCK_REBASE_RELATIVE);
            ffi::overlay::pull(domain, (target, Some(base.as_path())), rebase)
        }
        Merge::Up { base: None } => ffi::overlay::pull(domain, (target, None), 0),
        Merge::Down { top, base } => {
            let files = (base.as_path(), Some(top.as_path()));
            ffi::overlay::commit(domain, target, files, commit)
        }
        // Nothing rests on the file that the guest writes to: no name is written anywhere.
        Merge::Top { base } => {
            let active = sys::VIR_DOMAIN_BLOCK_COMMIT_ACTIVE;
            ffi::overlay::commit(domain, target, (base.as_path(), None), active)
        }
    };
    Ok(done?)
}

/// The files of a disk in a definition.
fn files(domain: &Element, target: &str) -> Vec<PathBuf> {
    let named = |disk: &&Element| {
        let name = disk.first(&["target"]);
        name.and_then(|name| name.attribute("dev")) == Some(target)
    };
    let disk = domain.all(&["devices", "disk"]).find(named);
    let chain = std::iter::successors(disk, |above| above.first(&["backingStore"]));
    let file = |layer: &Element| {
        let source = layer.first(&["source"])?;
        source
            .attribute("file")
            .map(|file| Path::new(file).to_owned())
    };
    chain.map_while(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_disk_are_read_top_first() {
        let xml = "<domain><devices><disk><source file='/a'/><target dev='vda'/></disk><disk><source file='/f2'/>
            <backingStore type='file'><format type='qcow2'/><source file='/f1'/><backingStore type='file'>
            <source file='/f0'/><backingStore/></backingStore></backingStore><target dev='vdb'/></disk></devices></domain>";
        let domain = Element::parse(xml).unwrap();
        let found = files(&domain, "vdb");
        assert_eq!(found, ["/f2", "/f1", "/f0"].map(PathBuf::from));
        assert_eq!(files(&domain, "vdc"), Vec::<PathBuf>::new());
    }
}

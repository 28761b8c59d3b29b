//! The disks and interfaces of an instance, in pages, and what is seen of them.

use std::{os::unix::fs::MetadataExt, path::Path, sync::Arc};

use computedriver::v1;
use tonic::Response;

use super::super::{
    Api, convert, convert::Look, instance::not_found, page, status::status, work::Reply,
};
use crate::{
    error::Error,
    hypervisor::LiveGuest,
    model::{Bytes, InstanceId, InstanceRecord, NbdServer, PowerState, Volume, VolumeTarget},
    plan::DiskPlan,
};

/// A file's length on the host; a device has none of its own.
fn file(path: &Path) -> Look {
    let found = std::fs::metadata(path).ok();
    let allocated = found.as_ref().filter(|found| found.is_file());
    Look {
        reachable: found.is_some(),
        allocated: allocated.map(|file| Bytes(file.blocks() * 512)),
    }
}

fn volume(volume: &Volume) -> Look {
    let elsewhere = |reachable| Look {
        reachable,
        allocated: None,
    };
    match &volume.target {
        VolumeTarget::Local { path } => {
            let real = volume.seen.as_ref().and_then(|seen| seen.path.as_ref());
            file(real.unwrap_or(path))
        }
        VolumeTarget::Nbd {
            server: NbdServer::Unix(socket),
            ..
        } => elsewhere(std::fs::metadata(socket).is_ok()),
        // Its server is not asked for a list.
        VolumeTarget::Nbd {
            server: NbdServer::Tcp(_),
            ..
        }
        | VolumeTarget::Iscsi(_)
        | VolumeTarget::Rbd(_) => elsewhere(true),
    }
}

/// The entries after the one of that id, at most so many, and the token of what follows.
fn paged<T>(
    all: Vec<T>,
    id: impl Fn(&T) -> &str,
    (of, size, token): (&str, u32, &str),
) -> Result<(Vec<T>, String), Error> {
    let begin = match page::after(of, token)? {
        None => 0,
        // What has gone since then was the last of its page: the rest is told from the begin, never left out.
        Some(last) => all
            .iter()
            .position(|each| id(each) == last)
            .map_or(0, |at| at + 1),
    };
    let size = page::size(size);
    let more = all.len() > begin + size;
    let page: Vec<T> = all.into_iter().skip(begin).take(size).collect();
    let last = page.last().filter(|_| more);
    let next = last.map(|last| page::token(of, id(last)));
    Ok((page, next.unwrap_or_default()))
}

impl Api {
    /// What is seen of a disk on the host.
    pub(in crate::api) fn look(&self, id: InstanceId, disk: &DiskPlan) -> Look {
        match &disk.volume {
            Some(own) => volume(own),
            None => file(&self.host.paths.instance(id).join(&disk.file_name)),
        }
    }

    pub(super) fn record(&self, id: InstanceId) -> Result<Arc<InstanceRecord>, Error> {
        self.host.store.instance(id).ok_or_else(|| not_found(id))
    }

    /// All disks of an instance, in the guest's order.
    pub(super) async fn disks_of(&self, id: InstanceId) -> Result<Vec<v1::Disk>, Error> {
        let record = self.record(id)?;
        let plan = crate::step::plan_of(&self.host, &record).await?;
        let disks = plan.disks.iter();
        let told = disks.map(|disk| convert::disk(&record, disk, self.look(id, disk)));
        Ok(told.collect())
    }

    /// All interfaces of an instance, in the guest's order.
    pub(super) async fn interfaces_of(&self, id: InstanceId) -> Result<Vec<v1::Interface>, Error> {
        let record = self.record(id)?;
        let state = self.guest(&record).await?.state;
        let live = match state {
            PowerState::Running | PowerState::Paused => {
                self.host.hypervisor.live(id).await.unwrap_or_default()
            }
            _ => LiveGuest::default(),
        };
        let vifs = record.spec.vifs.iter();
        Ok(vifs
            .map(|vif| convert::interface(vif, &live, state))
            .collect())
    }

    pub(super) async fn do_list_disks(
        &self,
        asked: v1::ListDisksRequest,
    ) -> Reply<v1::ListDisksResponse> {
        let list = async {
            let id = convert::instance_id(&asked.instance_id)?;
            let of = format!("disks {id}");
            let page = (of.as_str(), asked.page_size, asked.page_token.as_str());
            paged(self.disks_of(id).await?, |disk| &disk.disk_id, page)
        };
        let (disks, next_page_token) = list.await.map_err(|e: Error| status(&e))?;
        Ok(Response::new(v1::ListDisksResponse {
            disks,
            next_page_token,
        }))
    }

    pub(super) async fn do_list_interfaces(
        &self,
        asked: v1::ListInterfacesRequest,
    ) -> Reply<v1::ListInterfacesResponse> {
        let list = async {
            let id = convert::instance_id(&asked.instance_id)?;
            let of = format!("interfaces {id}");
            let page = (of.as_str(), asked.page_size, asked.page_token.as_str());
            paged(self.interfaces_of(id).await?, |nic| &nic.interface_id, page)
        };
        let (interfaces, next_page_token) = list.await.map_err(|e: Error| status(&e))?;
        Ok(Response::new(v1::ListInterfacesResponse {
            interfaces,
            next_page_token,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_to_the_whole_and_a_token_is_of_its_list() {
        let all = || ["a", "b", "c"].map(str::to_owned).to_vec();
        let mut seen = Vec::new();
        let mut token = String::new();
        loop {
            let (page, next) = paged(all(), |id| id, ("disks x", 2, &token)).unwrap();
            seen.extend(page);
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert_eq!(seen, all());
        let e = paged(all(), |id| id, ("disks y", 2, &token)).unwrap_err();
        assert_eq!(e.reason(), "PAGE_TOKEN_INVALID");
    }
}

//! Instances as lists: in pages, and as one stream of all.

use std::{collections::HashMap, sync::Arc};

use computedriver::v1;
use futures::stream;
use tonic::{Response, Status};

use super::silent;
use crate::{
    api::{Api, convert, page, status::status, stream::Answers, work::Reply},
    error::Error,
    hypervisor::HypervisorError,
    model::{InstanceRecord, PowerState},
};

/// A batch of StreamInstances when the caller does not say.
const BATCH: usize = 500;

type Records = Vec<Arc<InstanceRecord>>;

/// ListInstances.
pub(super) fn ids(
    api: &Api,
    request: &v1::ListInstancesRequest,
) -> Reply<v1::ListInstancesResponse> {
    let page = api.page(request.page_size, &request.page_token);
    let (records, next_page_token) = page.map_err(|e| status(&e))?;
    let ids = records.iter().map(|record| record.spec.id.to_string());
    Ok(Response::new(v1::ListInstancesResponse {
        instance_ids: ids.collect(),
        next_page_token,
        total_size: api.total(),
    }))
}

/// ListInstancesDetail.
pub(super) async fn details(
    api: &Api,
    request: &v1::ListInstancesDetailRequest,
) -> Reply<v1::ListInstancesDetailResponse> {
    let page = api.page(request.page_size, &request.page_token);
    let (records, next_page_token) = page.map_err(|e| status(&e))?;
    let instances = api.infos(&records).await.map_err(|e| status(&e))?;
    Ok(Response::new(v1::ListInstancesDetailResponse {
        instances,
        next_page_token,
        total_size: api.total(),
    }))
}

/// StreamInstances. One look at the store for all: the set is consistent, whatever begins or ends while it is sent. How
/// its guests are is asked batch by batch, when the caller has taken the one before.
pub(super) fn stream(
    api: &Api,
    request: &v1::StreamInstancesRequest,
) -> Answers<v1::StreamInstancesResponse> {
    let batch = match request.batch_size {
        0 => BATCH,
        asked => page::size(asked),
    };
    let whole = Whole {
        api: api.clone(),
        records: api.host.store.instances(),
        batch,
        next: Some(0),
    };
    Box::pin(stream::unfold(whole, |mut whole| async move {
        let answer = whole.take().await?;
        Some((answer, whole))
    }))
}

/// What is being streamed.
struct Whole {
    api: Api,
    records: Records,
    batch: usize,
    /// Where the next batch begins; none after the last one. Of nothing there is one batch too.
    next: Option<usize>,
}

impl Whole {
    async fn take(&mut self) -> Option<Result<v1::StreamInstancesResponse, Status>> {
        let from = self.next.take()?;
        let total = self.records.len();
        let until = (from + self.batch).min(total);
        let asked = self.api.infos(&self.records[from..until]).await;
        Some(match asked {
            Ok(instances) => {
                self.next = Some(until).filter(|until| *until < total);
                Ok(v1::StreamInstancesResponse {
                    instances,
                    total_size: total as u64,
                })
            }
            Err(e) => Err(status(&e)),
        })
    }
}

impl Api {
    /// Many at once: one question to the hypervisor for each five hundred, so that none takes it for long.
    pub(in crate::api) async fn infos(
        &self,
        records: &[Arc<InstanceRecord>],
    ) -> Result<Vec<v1::InstanceInfo>, Error> {
        let mut told = Vec::with_capacity(records.len());
        for records in records.chunks(BATCH) {
            told.extend(self.infos_of(records).await?);
        }
        Ok(told)
    }

    async fn infos_of(
        &self,
        records: &[Arc<InstanceRecord>],
    ) -> Result<Vec<v1::InstanceInfo>, Error> {
        let ids = records.iter().map(|record| record.spec.id).collect();
        let found = match self.host.hypervisor.infos(ids).await {
            Ok(found) => Some(found.into_iter().collect::<HashMap<_, _>>()),
            Err(HypervisorError::Unavailable { .. } | HypervisorError::Timeout { .. }) => None,
            Err(e) => return Err(e.into()),
        };
        let guest = |record: &InstanceRecord| match &found {
            None => silent(record, PowerState::Unknown),
            Some(found) => match found.get(&record.spec.id) {
                Some(guest) => self.meant(record, *guest),
                None => silent(record, PowerState::NoState),
            },
        };
        let told = records
            .iter()
            .map(|record| self.info(record, guest(record)));
        Ok(told.collect())
    }

    fn total(&self) -> u64 {
        self.host.store.count() as u64
    }

    fn page(&self, size: u32, token: &str) -> Result<(Records, String), Error> {
        let size = page::size(size);
        let after = page::after("instances", token)?;
        let after = after.map(|id| convert::instance_id(&id)).transpose()?;
        let mut records = self.host.store.instances_after(after, size + 1);
        let more = records.len() > size;
        records.truncate(size);
        let last = records.last().filter(|_| more);
        let token = last.map(|last| page::token("instances", &last.spec.id.to_string()));
        Ok((records, token.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests;

//! Whole lists: pages and batches put together.

use computedriver::v1;

use crate::Result;
use crate::client::Client;
use crate::error::Error;
use crate::progress::Rejoin;

/// The most that a server puts into one page.
const PAGE: u32 = 1000;

impl Client {
    /// Every instance of the host, as it is at one moment. A stream that is cut is begun again, so the answer is whole
    /// or an error.
    ///
    /// # Errors
    /// Whatever the contract lists for `StreamInstances`.
    pub async fn stream_instances(&self) -> Result<Vec<v1::InstanceInfo>> {
        let mut rejoin = Rejoin::new(self);
        loop {
            match self.instances_at_once().await {
                Err(error) if rejoin.lost(&error) => rejoin.pause().await,
                answer => return answer,
            }
        }
    }

    async fn instances_at_once(&self) -> Result<Vec<v1::InstanceInfo>> {
        let request = v1::StreamInstancesRequest::default();
        let mut stream = self
            .instances()
            .stream_instances(request)
            .await?
            .into_inner();
        let mut all = Vec::new();
        let mut total = 0;
        while let Some(batch) = stream.message().await? {
            total = batch.total_size;
            all.extend(batch.instances);
        }
        // A proxy may end a stream that its server did not.
        if all.len() as u64 != total {
            let seen = all.len();
            return Err(Error::cut(format!(
                "the list was cut after {seen} of {total} instances"
            )));
        }
        Ok(all)
    }

    /// Every image in the host's cache.
    ///
    /// # Errors
    /// Whatever the contract lists for `ListImages`.
    pub async fn list_images(&self) -> Result<Vec<v1::CachedImage>> {
        let mut all = Vec::new();
        let mut request = v1::ListImagesRequest {
            page_size: PAGE,
            ..Default::default()
        };
        loop {
            let page = self.images().list_images(request.clone()).await?;
            let page = page.into_inner();
            all.extend(page.images);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Every operation that the request's `instance_id` and `states` select, newest first.
    ///
    /// # Errors
    /// Whatever the contract lists for `ListOperations`.
    pub async fn list_operations(
        &self,
        mut request: v1::ListOperationsRequest,
    ) -> Result<Vec<v1::Operation>> {
        let mut all = Vec::new();
        if request.page_size == 0 {
            request.page_size = PAGE;
        }
        loop {
            let page = self.operations().list_operations(request.clone()).await?;
            let page = page.into_inner();
            all.extend(page.operations);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }
}

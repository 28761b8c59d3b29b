//! What a host has left, followed over lost connections.

use std::fmt;

use computedriver::v1;
use computedriver::v1::report_available_resource_response::Event;
use tonic::Streaming;

use crate::Result;
use crate::client::Client;
use crate::progress::Rejoin;

impl Client {
    /// Follows what the host has left: first now, then on each change.
    ///
    /// ```no_run
    /// # async fn example(client: computedriver_client::Client) -> computedriver_client::Result<()> {
    /// let mut resources = client.resources();
    /// loop {
    ///     let left = resources.next().await?;
    ///     println!("{:?}", left.memory_mib.map(|memory| memory.left));
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn resources(&self) -> Resources {
        Resources {
            rejoin: Rejoin::new(self),
            client: self.clone(),
            stream: None,
        }
    }
}

/// What a host has left; made by [`Client::resources`]. After a lost connection it begins anew.
pub struct Resources {
    client: Client,
    stream: Option<Streaming<v1::ReportAvailableResourceResponse>>,
    rejoin: Rejoin,
}

impl Resources {
    /// What the host has left, once that has changed.
    ///
    /// # Errors
    /// Whatever the contract lists for `ReportAvailableResource`; `Unavailable` when the server was not found again.
    ///
    /// # Cancel safety
    /// May be dropped and called again: the latest is always told.
    pub async fn next(&mut self) -> Result<v1::AvailableResource> {
        loop {
            match self.hear().await {
                Ok(Some(resource)) => return Ok(resource),
                // A server ends it only with a status; one that does not is asked again.
                Ok(None) => self.stream = None,
                Err(error) => {
                    self.stream = None;
                    if !self.rejoin.lost(&error) {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn hear(&mut self) -> Result<Option<v1::AvailableResource>> {
        if self.stream.is_none() {
            self.rejoin.pause().await;
            let request = v1::ReportAvailableResourceRequest {};
            let opened = self
                .client
                .host()
                .report_available_resource(request)
                .await?;
            self.stream = Some(opened.into_inner());
        }
        let stream = self.stream.as_mut().expect("opened above");
        while let Some(message) = stream.message().await? {
            self.rejoin.heard();
            match message.event {
                Some(Event::Resource(resource)) => return Ok(Some(resource)),
                Some(Event::Heartbeat(_)) | None => {}
            }
        }
        Ok(None)
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resources").finish_non_exhaustive()
    }
}

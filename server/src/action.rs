//! One recipe a verb: which steps, in which order.

mod destroy;
mod pull_image;
mod spawn;
#[cfg(test)]
mod tests;

use async_trait::async_trait;

use crate::{
    error::Result,
    host::Host,
    model::{InstanceId, InstanceRecord, Verb},
    task::Task,
};

pub use destroy::Destroy;
pub use pull_image::PullImage;
pub use spawn::Spawn;

/// The recipe of one verb.
#[async_trait]
pub trait Action: Send + Sync + 'static {
    /// The verb.
    const VERB: Verb;

    /// The instance that it holds while it runs.
    fn instance(&self) -> Option<InstanceId>;

    /// The image it works on, for work on the image cache.
    fn image(&self) -> Option<String> {
        None
    }

    /// Whether it may begin now; asked once nothing else holds the instance.
    ///
    /// # Errors
    /// When the host's present state forbids it.
    fn admit(&self, host: &Host) -> Result<()>;

    /// Does it, step by step. When it fails, the task takes back what it began.
    async fn run(&self, task: &mut Task) -> Result<()>;

    /// The instance as it is from now on, to be written down with the operation's end.
    fn result(&self) -> Option<InstanceRecord> {
        None
    }
}

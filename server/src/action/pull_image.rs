//! PullImage: an image is in the cache before anyone needs it.

use async_trait::async_trait;

use crate::{
    action::Action,
    error::Result,
    image::ImageProgress,
    model::{ImageSource, InstanceId, Phase, Verb},
    task::{Task, cancelled},
};

/// Fetches an image into the cache.
#[derive(Debug)]
pub struct PullImage {
    /// Which one.
    pub source: ImageSource,
}

#[async_trait]
impl Action for PullImage {
    const VERB: Verb = Verb::PullImage;

    fn instance(&self) -> Option<InstanceId> {
        None
    }

    fn image(&self) -> Option<String> {
        Some(self.source.file.id.clone())
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let report = task.report().clone();
        report.begin(Phase::FetchImage, "fetching the image");
        let shown = report.clone();
        let show =
            move |progress: ImageProgress| shown.advance(progress.phase, "", Some(progress.amount));
        // The cache takes back what it had of a fetch that failed, or that nobody waits for any more.
        let pulled = tokio::select! {
            biased;
            pulled = task.host().images.ensure(&self.source, show) => pulled.map(drop).map_err(Into::into),
            () = task.cancel().cancelled() => Err(cancelled()),
        };
        pulled.map_err(|e: crate::error::Error| e.in_phase(Phase::FetchImage))?;
        report.end(Phase::FetchImage);
        Ok(())
    }
}

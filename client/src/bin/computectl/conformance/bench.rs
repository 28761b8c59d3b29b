//! What checks work with: the server, what it says that it serves, and the instances that they make.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::Duration;

use computedriver_client::{Client, Error, v1};
use tonic::transport::Channel;
use uuid::Uuid;

use super::suite::{Fault, Verdict, hold};

/// How often, and how long apart, an instance is removed that something else still holds.
const TRIES: usize = 60;
const PAUSE: Duration = Duration::from_millis(500);

/// The place where checks are done.
pub(super) struct Bench {
    pub(super) client: Client,
    /// The same server, without the library's repeats and deadlines.
    pub(super) channel: Channel,
    pub(super) capabilities: v1::GetCapabilitiesResponse,
    /// What an instance is made from.
    pub(super) template: v1::SpawnRequest,
    /// A volume that such an instance boots from too.
    pub(super) boot_volume: Option<v1::BlockDevice>,
    /// An empty file over that volume, by its name.
    pub(super) boot_volume_layer: Option<String>,
    /// A folder on the host that images may be written to.
    pub(super) export: Option<PathBuf>,
    /// Whether what concerns the whole host may be changed for a moment.
    pub(super) host_changes: bool,
    /// The request of the instance that most checks look at, once it runs.
    pub(super) main: RefCell<Option<v1::SpawnRequest>>,
    made: RefCell<Vec<String>>,
    /// Images that were there before, by their checksums.
    cached: RefCell<Option<Vec<String>>>,
    pub(super) tidied: Cell<bool>,
}

impl Bench {
    pub(super) fn new(
        client: Client,
        template: v1::SpawnRequest,
        capabilities: v1::GetCapabilitiesResponse,
    ) -> Self {
        Self {
            channel: client.channel(),
            client,
            capabilities,
            template,
            boot_volume: None,
            boot_volume_layer: None,
            export: None,
            host_changes: false,
            main: RefCell::default(),
            made: RefCell::default(),
            cached: RefCell::default(),
            tidied: Cell::default(),
        }
    }

    /// Whether the server says that it serves `Service/Method`.
    pub(super) fn serves(&self, rpc: &str) -> bool {
        let is_it = |told: &&v1::RpcCapability| {
            let service = told.service.rsplit('.').next().unwrap_or_default();
            rpc.split_once('/') == Some((service, &told.method))
        };
        let told = self.capabilities.rpcs.iter().find(is_it);
        told.is_some_and(|told| told.supported)
    }

    /// A request for an instance of its own, which is removed at the end.
    pub(super) fn request(&self) -> v1::SpawnRequest {
        let mut request = self.template.clone();
        request.instance_id = Uuid::new_v4().to_string();
        request.request_id = Uuid::new_v4().to_string();
        for vif in &mut request.vifs {
            let random = Uuid::new_v4();
            let [a, b, c, ..] = random.as_bytes();
            vif.interface_id = random.to_string();
            vif.mac_address = format!("52:54:00:{a:02x}:{b:02x}:{c:02x}");
        }
        self.made.borrow_mut().push(request.instance_id.clone());
        request
    }

    /// Makes an instance to its end.
    pub(super) async fn spawn(&self, request: v1::SpawnRequest) -> Result<v1::Instance, Fault> {
        Ok(self.client.spawn(request, |_| ()).await?)
    }

    /// The instance that most checks look at.
    pub(super) fn id(&self) -> Result<String, Fault> {
        let main = self.main.borrow();
        let id = main.as_ref().map(|main| main.instance_id.clone());
        id.ok_or_else(|| Fault::Skipped("there is no instance to look at".to_owned()))
    }

    pub(super) async fn info(&self, id: &str) -> Result<v1::InstanceInfo, Fault> {
        let request = v1::GetInfoRequest {
            instance_id: id.to_owned(),
        };
        let answer = self.client.instances().get_info(request).await?;
        let info = answer.into_inner().info;
        info.ok_or_else(|| Fault::Failed("GetInfo answers without info".to_owned()))
    }

    pub(super) async fn instance(&self) -> Result<v1::Instance, Fault> {
        let request = v1::GetInstanceRequest {
            instance_id: self.id()?,
        };
        let answer = self.client.instances().get_instance(request).await?;
        let instance = answer.into_inner().instance;
        instance.ok_or_else(|| Fault::Failed("GetInstance answers without instance".to_owned()))
    }

    pub(super) async fn is_in(&self, id: &str, state: v1::PowerState) -> Verdict {
        let found = self.info(id).await?.state();
        hold!(found == state, "it is {found:?}, not {state:?}");
        Ok(())
    }

    /// Every cached image.
    pub(super) async fn images(&self) -> Result<Vec<v1::CachedImage>, Fault> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListImagesRequest {
                page_token,
                ..Default::default()
            };
            let page = self
                .client
                .images()
                .list_images(request)
                .await?
                .into_inner();
            all.extend(page.images);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            page_token = page.next_page_token;
        }
    }

    /// Notes which images are there before anything is done.
    pub(super) async fn look_at_images(&self) {
        let images = self.images().await.ok();
        let hashes =
            |all: Vec<v1::CachedImage>| all.into_iter().map(|image| image.sha256).collect();
        self.cached.replace(images.map(hashes));
    }

    pub(super) async fn destroy(&self, id: &str) -> Result<v1::Destroyed, Fault> {
        let request = v1::DestroyRequest {
            instance_id: id.to_owned(),
            ..Default::default()
        };
        Ok(self.client.destroy(request, |_| ()).await?)
    }

    /// Removes an instance, and ends what still works on it.
    async fn remove(&self, id: &str) -> Result<(), Error> {
        let request = v1::DestroyRequest {
            instance_id: id.to_owned(),
            ..Default::default()
        };
        for _ in 0..TRIES {
            let Err(e) = self.client.destroy(request.clone(), |_| ()).await else {
                return Ok(());
            };
            let (true, Some(operation)) = (e.reason() == "OPERATION_PENDING", e.operation_id())
            else {
                return Err(e);
            };
            let request = v1::CancelOperationRequest {
                operation_id: operation.to_owned(),
            };
            // It may have ended meanwhile, and is undone before the instance can be had.
            let _ = self.client.operations().cancel_operation(request).await;
            tokio::time::sleep(PAUSE).await;
        }
        self.client.destroy(request, |_| ()).await.map(drop)
    }

    /// Removes all that was made, as far as it goes, and tells what stays.
    pub(super) async fn tidy(&self) -> Verdict {
        self.tidied.set(true);
        let mut left = Vec::new();
        for id in self.made.take() {
            if let Err(e) = self.remove(&id).await {
                left.push(format!("instance {id}: {e}"));
            }
        }
        let before = self.cached.take();
        if let (Some(before), Ok(now)) = (before, self.images().await) {
            let wanted = self.template.image.as_ref().map(|image| &image.image_id);
            let ours = |image: &&v1::CachedImage| {
                Some(&image.image_id) == wanted && !before.contains(&image.sha256)
            };
            for image in now.iter().filter(ours) {
                let request = v1::RemoveImageRequest {
                    image: Some(v1::remove_image_request::Image::Sha256(
                        image.sha256.clone(),
                    )),
                    ..Default::default()
                };
                if let Err(e) = self.client.images().remove_image(request).await {
                    left.push(format!("image {}: {}", image.image_id, e.message()));
                }
            }
        }
        hold!(left.is_empty(), "left behind: {}", left.join("; "));
        Ok(())
    }
}

/// An id that nobody has.
pub(super) fn nobody() -> String {
    Uuid::new_v4().to_string()
}

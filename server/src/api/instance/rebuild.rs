//! Calls that make instances anew.

use computedriver::v1;
use tonic::Request;

use super::super::{
    Api,
    convert::{self, Faults},
    status::status,
    work::Streamed,
};
use crate::{
    action::{NewImage, NewWords, Rebuild},
    model::{Secret, WaitFor},
};

type Wish = (NewImage, NewWords, bool, Option<WaitFor>);

fn wish(faults: &mut Faults, request: &mut v1::RebuildRequest) -> Option<Wish> {
    let image = match request.image.take() {
        Some(asked) => convert::image(faults, "image", asked),
        None => {
            faults.wrong("image", "is required");
            None
        }
    };
    let files = std::mem::take(&mut request.injected_files);
    let injected_files = convert::injected_files(faults, files);
    let user_data = convert::user_data(faults, std::mem::take(&mut request.user_data));
    let keys = std::mem::take(&mut request.ssh_public_keys);
    let public_keys = convert::public_keys(faults, keys);
    let password = std::mem::take(&mut request.admin_password);
    let password = faults.text("admin_password", password, 255);
    let metadata = std::mem::take(&mut request.metadata);
    let metadata = convert::pairs(faults, "metadata", metadata);
    let wait_for = match &request.wait_for {
        Some(asked) => convert::wait_for(faults, asked).map(Some),
        None => Some(None),
    };
    let image = image?;
    let image = NewImage {
        source: image.source,
        properties: image.about.properties,
        kernel: image.about.kernel,
        nic: image.about.nic,
        config_drive: image.about.config_drive_mandatory,
    };
    let told = NewWords {
        injected_files: injected_files?,
        user_data: user_data?,
        public_keys: public_keys?,
        admin_password: password.filter(|p| !p.is_empty()).map(Secret::new),
        metadata: metadata?,
    };
    Some((image, told, request.preserve_ephemeral, wait_for?))
}

impl Api {
    pub(super) async fn do_rebuild(
        &self,
        request: Request<v1::RebuildRequest>,
    ) -> Streamed<v1::RebuildResponse> {
        let read = self.asked(request, wish);
        let (asked, (image, told, preserve_ephemeral, wait_for)) = read.map_err(|e| status(&e))?;
        let action = Rebuild {
            instance: asked.id,
            image,
            told,
            preserve_ephemeral,
            wait_for,
        };
        self.told(asked, action, Self::changed).await
    }
}

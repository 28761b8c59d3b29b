//! Rescue and Unrescue.

use computedriver::v1;
use tonic::Request;

use super::{
    super::{
        Api,
        convert::{self, Faults},
        status::status,
        work::Streamed,
    },
    power::nothing_more,
};
use crate::{
    action::{Rescue, Unrescue},
    model::ImageSource,
};

/// The rescue image. Its kernel and its wishes for the hardware are not honoured: the guest keeps its own.
fn image(faults: &mut Faults, request: &mut v1::RescueRequest) -> Option<Option<ImageSource>> {
    let password = std::mem::take(&mut request.admin_password);
    faults.refuse("admin_password", !password.is_empty());
    let Some(image) = request.image.take() else {
        return Some(None);
    };
    let asked = [
        ("image.kernel", image.kernel.is_some()),
        ("image.ramdisk", image.ramdisk.is_some()),
        (
            "image.kernel_command_line",
            !image.kernel_command_line.is_empty(),
        ),
        ("image.properties", image.properties.is_some()),
    ];
    let plain = v1::Image {
        kernel: None,
        ramdisk: None,
        kernel_command_line: String::new(),
        properties: None,
        ..image
    };
    for (field, asked) in asked {
        faults.refuse(field, asked);
    }
    convert::image(faults, "image", plain).map(|image| Some(image.source))
}

impl Api {
    pub(super) async fn do_rescue(
        &self,
        request: Request<v1::RescueRequest>,
    ) -> Streamed<v1::RescueResponse> {
        let (asked, image) = self.asked(request, image).map_err(|e| status(&e))?;
        let action = Rescue {
            instance: asked.id,
            image,
            fingerprint: asked.fingerprint().to_owned(),
        };
        self.told(asked, action, Self::changed).await
    }

    pub(super) async fn do_unrescue(
        &self,
        request: Request<v1::UnrescueRequest>,
    ) -> Streamed<v1::UnrescueResponse> {
        let (asked, ()) = self.asked(request, nothing_more).map_err(|e| status(&e))?;
        let action = Unrescue {
            instance: asked.id,
            by_itself: false,
        };
        self.told(asked, action, Self::changed).await
    }
}

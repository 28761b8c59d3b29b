//! AttachInterface and DetachInterface.

use computedriver::v1;
use tonic::Request;

use super::super::{Api, convert, convert::Faults, status::status, work::Reply};
use crate::{
    action::{AttachInterface, DetachInterface, DetachedBefore},
    model::{InterfaceId, Vif},
    step::Pace,
};

fn vif(faults: &mut Faults, asked: &mut v1::AttachInterfaceRequest) -> Option<Vif> {
    match asked.vif.take() {
        Some(vif) => convert::vif(faults, "vif", vif),
        None => {
            faults.wrong("vif", "is required");
            None
        }
    }
}

fn which(faults: &mut Faults, asked: &mut v1::DetachInterfaceRequest) -> Option<InterfaceId> {
    faults.take("interface_id", asked.interface_id.parse())
}

impl Api {
    pub(super) async fn do_attach_interface(
        &self,
        request: Request<v1::AttachInterfaceRequest>,
    ) -> Reply<v1::AttachInterfaceResponse> {
        let validate_only = request.get_ref().validate_only;
        let (asked, vif) = self.asked(request, vif).map_err(|e| status(&e))?;
        let (instance, id) = (asked.id, vif.id.to_string());
        let action = AttachInterface { instance, vif };
        if validate_only {
            action.check(&self.host).await.map_err(|e| status(&e))?;
            return Ok(v1::AttachInterfaceResponse::default().into());
        }
        let ended = self.done(asked, action).await?;
        let interfaces = self.interfaces_of(instance).await.map_err(|e| status(&e))?;
        let mut interfaces = interfaces.into_iter();
        Ok(v1::AttachInterfaceResponse {
            interface: interfaces.find(|nic| nic.interface_id == id),
            operation_id: ended.id.to_string(),
        }
        .into())
    }

    pub(super) async fn do_detach_interface(
        &self,
        request: Request<v1::DetachInterfaceRequest>,
    ) -> Reply<v1::DetachInterfaceResponse> {
        let (asked, interface) = self.asked(request, which).map_err(|e| status(&e))?;
        let action = DetachInterface {
            instance: asked.id,
            interface,
            pace: Pace::default(),
        };
        let ended = self.done(asked, action).await?;
        let DetachedBefore { absent } = ended.answer().map_err(|e| status(&e))?;
        Ok(v1::DetachInterfaceResponse {
            absent,
            operation_id: ended.id.to_string(),
        }
        .into())
    }
}

//! GuestService: inside a guest, through its agent.

use computedriver::v1::{self, guest_service_server::GuestService};
use tonic::{Request, Response};

use super::{Api, convert, status::status, work::Reply};
use crate::{
    action::{InjectFile, InjectNetworkInfo, ResetNetwork, SetAdminPassword, UpdateAgent, Updated},
    error::Error,
    hypervisor::{HypervisorError, agent::GuestInterface},
    model::{InstanceId, InstanceRecord, OperationRecord},
};

impl Api {
    fn known(&self, id: InstanceId) -> Result<std::sync::Arc<InstanceRecord>, Error> {
        let record = self.host.store.instance(id);
        record.ok_or_else(|| HypervisorError::NotFound(id).into())
    }

    async fn facts(
        &self,
        request: &v1::GetGuestInfoRequest,
    ) -> Result<v1::GetGuestInfoResponse, Error> {
        let id = convert::instance_id(&request.instance_id)?;
        let record = self.known(id)?;
        let facts = self.host.hypervisor.guest_facts(id).await?;
        Ok(convert::facts(facts, &record.spec.vifs))
    }

    fn injected(&self, ended: &OperationRecord) -> Result<v1::InjectNetworkInfoResponse, Error> {
        let told: Vec<GuestInterface> = ended.answer()?;
        let record = self.known(ended.about()?)?;
        let interfaces = convert::interfaces(told, &record.spec.vifs);
        Ok(v1::InjectNetworkInfoResponse { interfaces })
    }
}

#[tonic::async_trait]
impl GuestService for Api {
    async fn set_admin_password(
        &self,
        request: Request<v1::SetAdminPasswordRequest>,
    ) -> Reply<v1::SetAdminPasswordResponse> {
        let read = self.asked(request, convert::password);
        let (asked, (account, password)) = read.map_err(|e| status(&e))?;
        let action = SetAdminPassword {
            instance: asked.id,
            account,
            password,
        };
        self.done(asked, action).await?;
        Ok(Response::new(v1::SetAdminPasswordResponse {}))
    }

    async fn inject_file(
        &self,
        request: Request<v1::InjectFileRequest>,
    ) -> Reply<v1::InjectFileResponse> {
        let read = self.asked(request, convert::guest_file);
        let (asked, file) = read.map_err(|e| status(&e))?;
        let written_bytes = file.contents.expose().len() as u64;
        let action = InjectFile {
            instance: asked.id,
            path: file.path,
            contents: file.contents,
            mode: file.mode,
            owner: file.owner,
        };
        self.done(asked, action).await?;
        Ok(Response::new(v1::InjectFileResponse { written_bytes }))
    }

    async fn update_agent(
        &self,
        request: Request<v1::UpdateAgentRequest>,
    ) -> Reply<v1::UpdateAgentResponse> {
        let read = self.asked(request, convert::updater);
        let (asked, program) = read.map_err(|e| status(&e))?;
        let instance = asked.id;
        let ended = self.done(asked, UpdateAgent { instance, program }).await?;
        let Updated { version } = ended.answer().map_err(|e| status(&e))?;
        Ok(Response::new(v1::UpdateAgentResponse { version }))
    }

    async fn inject_network_info(
        &self,
        request: Request<v1::InjectNetworkInfoRequest>,
    ) -> Reply<v1::InjectNetworkInfoResponse> {
        let read = self.asked(request, convert::interface_ids);
        let (asked, interfaces) = read.map_err(|e| status(&e))?;
        let action = InjectNetworkInfo {
            instance: asked.id,
            interfaces,
        };
        let ended = self.done(asked, action).await?;
        let injected = self.injected(&ended);
        injected.map(Response::new).map_err(|e| status(&e))
    }

    async fn reset_network(
        &self,
        request: Request<v1::ResetNetworkRequest>,
    ) -> Reply<v1::ResetNetworkResponse> {
        let read = self.asked(request, |_, _| Some(()));
        let (asked, ()) = read.map_err(|e| status(&e))?;
        let instance = asked.id;
        self.done(asked, ResetNetwork { instance }).await?;
        Ok(Response::new(v1::ResetNetworkResponse {}))
    }

    async fn get_guest_info(
        &self,
        request: Request<v1::GetGuestInfoRequest>,
    ) -> Reply<v1::GetGuestInfoResponse> {
        let facts = self.facts(request.get_ref()).await;
        facts.map(Response::new).map_err(|e| status(&e))
    }
}

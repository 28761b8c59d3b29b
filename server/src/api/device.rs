//! DeviceService: disks and interfaces that come and go.

mod interface;
mod list;
mod snapshot;
mod swap;
mod volume;

use computedriver::v1::{self, device_service_server::DeviceService};
use tonic::Request;

use super::{
    Api,
    work::{Reply, Streamed},
};

#[tonic::async_trait]
impl DeviceService for Api {
    async fn attach_volume(
        &self,
        request: Request<v1::AttachVolumeRequest>,
    ) -> Reply<v1::AttachVolumeResponse> {
        self.do_attach_volume(request).await
    }

    async fn detach_volume(
        &self,
        request: Request<v1::DetachVolumeRequest>,
    ) -> Reply<v1::DetachVolumeResponse> {
        self.do_detach_volume(request).await
    }

    async fn swap_volume(
        &self,
        request: Request<v1::SwapVolumeRequest>,
    ) -> Streamed<v1::SwapVolumeResponse> {
        self.do_swap_volume(request).await
    }

    async fn extend_volume(
        &self,
        request: Request<v1::ExtendVolumeRequest>,
    ) -> Reply<v1::ExtendVolumeResponse> {
        self.do_extend_volume(request).await
    }

    async fn create_volume_snapshot(
        &self,
        request: Request<v1::CreateVolumeSnapshotRequest>,
    ) -> Reply<v1::CreateVolumeSnapshotResponse> {
        self.do_create_volume_snapshot(request).await
    }

    async fn delete_volume_snapshot(
        &self,
        request: Request<v1::DeleteVolumeSnapshotRequest>,
    ) -> Streamed<v1::DeleteVolumeSnapshotResponse> {
        self.do_delete_volume_snapshot(request).await
    }

    async fn attach_interface(
        &self,
        request: Request<v1::AttachInterfaceRequest>,
    ) -> Reply<v1::AttachInterfaceResponse> {
        self.do_attach_interface(request).await
    }

    async fn detach_interface(
        &self,
        request: Request<v1::DetachInterfaceRequest>,
    ) -> Reply<v1::DetachInterfaceResponse> {
        self.do_detach_interface(request).await
    }

    async fn list_disks(
        &self,
        request: Request<v1::ListDisksRequest>,
    ) -> Reply<v1::ListDisksResponse> {
        self.do_list_disks(request.into_inner()).await
    }

    async fn list_interfaces(
        &self,
        request: Request<v1::ListInterfacesRequest>,
    ) -> Reply<v1::ListInterfacesResponse> {
        self.do_list_interfaces(request.into_inner()).await
    }
}

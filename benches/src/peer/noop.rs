//! A bare tonic server: what gRPC itself costs.

use std::path::Path;

use anyhow::Result;
use computedriver::v1::{
    self,
    host_service_server::{HostService, HostServiceServer},
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

#[derive(Debug)]
struct Noop;

#[tonic::async_trait]
impl HostService for Noop {
    async fn get_host_ip_addr(
        &self,
        _: Request<v1::GetHostIpAddrRequest>,
    ) -> Result<Response<v1::GetHostIpAddrResponse>, Status> {
        Ok(Response::new(v1::GetHostIpAddrResponse {
            ip_address: "192.0.2.1".to_owned(),
        }))
    }
}

/// Serves until it is killed, on as many threads as computelet.
pub(crate) fn run(socket: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(socket)?;
        let serving = Server::builder()
            .add_service(HostServiceServer::new(Noop))
            .serve_with_incoming(UnixListenerStream::new(listener));
        Ok(serving.await?)
    })
}

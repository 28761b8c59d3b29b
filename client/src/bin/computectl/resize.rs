//! `computectl resize`.

use clap::Args;
use computedriver_client::v1;

use crate::args::Session;
use crate::exit::Failure;
use crate::long::Long;
use crate::out::Out;
use crate::show;

#[derive(Debug, Args)]
pub(crate) struct ResizeArgs {
    /// UUID of the instance.
    instance: String,
    /// Virtual CPUs. Default: as they are.
    #[arg(long)]
    vcpus: Option<u32>,
    /// Memory, MiB. Default: as it is.
    #[arg(long)]
    memory_mib: Option<u64>,
    /// Virtual CPUs that it may be given while it runs. Default: as they are.
    #[arg(long)]
    max_vcpus: Option<u32>,
    /// Memory that it may be given while it runs, MiB. Default: as it is.
    #[arg(long)]
    max_memory_mib: Option<u64>,
    /// Root disk, GiB; it only grows. Default: as it is.
    #[arg(long)]
    root_gib: Option<u64>,
    /// The new size's name. Default: as it is.
    #[arg(long)]
    flavor: Option<String>,
    /// Restart the guest where the change needs it.
    #[arg(long)]
    may_restart: bool,
    /// Check everything and change nothing.
    #[arg(long)]
    validate_only: bool,
}

pub(crate) async fn run(args: ResizeArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let client = session.connect().await?;
    let instance_id = args.instance;
    let request = v1::GetInstanceRequest {
        instance_id: instance_id.clone(),
    };
    let answer = client.instances().get_instance(request).await?;
    let present = answer.into_inner().instance.unwrap_or_default();
    let mut flavor = present.flavor.unwrap_or_default();
    flavor.vcpus = args.vcpus.unwrap_or(flavor.vcpus);
    flavor.memory_mib = args.memory_mib.unwrap_or(flavor.memory_mib);
    flavor.max_vcpus = most(args.max_vcpus, flavor.max_vcpus, flavor.vcpus);
    flavor.max_memory_mib = most(
        args.max_memory_mib,
        flavor.max_memory_mib,
        flavor.memory_mib,
    );
    flavor.root_gib = args.root_gib.unwrap_or(flavor.root_gib);
    flavor.name = args.flavor.unwrap_or(flavor.name);
    let mode = if args.may_restart {
        v1::ResizeMode::MayRestart
    } else {
        v1::ResizeMode::LiveOnly
    };
    let mut request = v1::ResizeRequest {
        instance_id: instance_id.clone(),
        flavor: Some(flavor),
        mode: mode.into(),
        ..Default::default()
    };
    if args.validate_only {
        request.validate_only = true;
        let mut answer = client.instances().resize(request).await?.into_inner();
        while answer.message().await?.is_some() {}
        return Ok(out.line(format_args!("{instance_id} can be resized"))?);
    }
    let long = Long {
        look: format!("computectl show {instance_id}"),
        follow: client.follow(request),
        limit: session.limit(),
    };
    let instance = long.run(out).await?;
    show::tell(&instance, out)
}

/// What is not asked for stays as it is, and is raised by a size beyond it.
fn most<T: Ord + Default>(asked: Option<T>, present: T, size: T) -> T {
    match asked {
        Some(asked) => asked,
        None if present == T::default() => present,
        None => present.max(size),
    }
}

//! `computectl rebuild`.

use clap::Args;
use computedriver_client::v1;

use crate::args::Session;
use crate::exit::Failure;
use crate::long::Long;
use crate::out::Out;
use crate::show;
use crate::spawn::{ImageArgs, TellArgs, WaitArgs};

#[derive(Debug, Args)]
pub(crate) struct RebuildArgs {
    /// UUID of the instance.
    instance: String,
    /// Image of the new root disk: a path on the host, `file:///path`, `http://…` or `https://…`.
    #[arg(long, value_name = "LOCATION")]
    image: String,
    #[command(flatten)]
    about_image: ImageArgs,
    #[command(flatten)]
    told: TellArgs,
    /// Keep the ephemeral and swap disks and those of this host beside them.
    #[arg(long)]
    preserve_ephemeral: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

pub(crate) async fn run(
    mut args: RebuildArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let image = args.about_image.take(args.image)?;
    let words = args.told.read()?;
    let request = v1::RebuildRequest {
        instance_id: args.instance.clone(),
        image: Some(image),
        injected_files: words.injected_files,
        user_data: words.user_data.unwrap_or_default(),
        ssh_public_keys: words.public_keys,
        admin_password: words.admin_password.unwrap_or_default(),
        metadata: words.metadata.into_iter().collect(),
        preserve_ephemeral: args.preserve_ephemeral,
        wait_for: args.wait.read()?,
        ..Default::default()
    };
    let client = session.connect().await?;
    let long = Long {
        look: format!("computectl show {}", args.instance),
        follow: client.follow(request),
        limit: session.limit(),
    };
    let instance = long.run(out).await?;
    show::tell(&instance, out)
}

//! `computectl rescue`.

use clap::Args;
use computedriver_client::v1;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;
use crate::power::changed;
use crate::spawn::image::{ImageFormat, image};

#[derive(Debug, Args)]
pub(crate) struct RescueArgs {
    /// UUID of the instance.
    instance: String,
    /// The rescue image: a path on the host, `file:///path`, `http://…` or `https://…`. Default: the instance's own.
    #[arg(long)]
    image: Option<String>,
    /// What its bytes are.
    #[arg(long, value_enum, default_value_t = ImageFormat::Qcow2, requires = "image")]
    image_format: ImageFormat,
    /// SHA-256 that its bytes must have.
    #[arg(long, requires = "image")]
    sha256: Option<String>,
}

pub(crate) async fn rescue(
    args: RescueArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let made = match args.image {
        Some(location) => Some(image(location, args.image_format, None, args.sha256)?),
        None => None,
    };
    let request = v1::RescueRequest {
        instance_id: args.instance.clone(),
        image: made,
        ..Default::default()
    };
    changed(request, &args.instance, session, out).await
}

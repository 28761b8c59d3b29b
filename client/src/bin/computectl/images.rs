//! `computectl images`: the host's image cache.

use std::time::Duration;

use clap::{Args, Subcommand};
use computedriver_client::v1;
use computedriver_client::v1::remove_image_request::Image as Which;
use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::long::Long;
use crate::out::Out;
use crate::power::wire;
use crate::spawn::image::{ImageFormat, image};
use crate::{json, text};

#[derive(Debug, Subcommand)]
pub(crate) enum ImagesCommand {
    /// List the images in the cache.
    List,
    /// Fetch an image into the cache.
    Pull(PullArgs),
    /// Remove an image from the cache; an absent one is a success.
    Rm(RmArgs),
    /// Remove the images that no disk rests on and that were not used for a while.
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Where it is: a path on the host, `file:///path`, `http://…` or `https://…`.
    location: String,
    /// What its bytes are.
    #[arg(long, value_enum, default_value_t = ImageFormat::Qcow2)]
    image_format: ImageFormat,
    /// The id to cache it by. Default: the last part of the location.
    #[arg(long)]
    image_id: Option<String>,
    /// SHA-256 that its bytes must have.
    #[arg(long)]
    sha256: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// The image's id, or the SHA-256 of its bytes.
    image: String,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Only those not used for so long, as `72h`. Default: what the server is set to.
    #[arg(long, value_name = "TIME", value_parser = text::parse_duration)]
    unused_for: Option<Duration>,
}

pub(crate) async fn run(
    command: ImagesCommand,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    match command {
        ImagesCommand::List => list(session, out).await,
        ImagesCommand::Pull(args) => pull(args, session, out).await,
        ImagesCommand::Rm(args) => remove(args, session, out).await,
        ImagesCommand::Prune(args) => prune(args, session, out).await,
    }
}

async fn list(session: &Session, out: &mut Out) -> Result<(), Failure> {
    let images = session.connect().await?.list_images().await?;
    if out.is_json() {
        for image in &images {
            out.object(&json!({ "image": json::view("CachedImage", image) }))?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = images
        .iter()
        .map(|i| {
            vec![
                i.sha256.get(..12).unwrap_or(&i.sha256).to_owned(),
                text::disk_format(i.source_format()).to_owned(),
                text::bytes(i.virtual_bytes),
                text::bytes(i.allocated_bytes),
                i.instance_ids.len().to_string(),
                text::time(i.used_time.as_ref()),
                i.image_id.clone(),
            ]
        })
        .collect();
    let headers = [
        "SHA256",
        "FORMAT",
        "VIRTUAL",
        "ON HOST",
        "INSTANCES",
        "USED",
        "IMAGE",
    ];
    out.table(&headers, &rows)?;
    Ok(())
}

async fn pull(args: PullArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let wanted = image(args.location, args.image_format, args.image_id, args.sha256)?;
    let request = v1::PullImageRequest {
        image: Some(wanted),
        ..Default::default()
    };
    let client = session.connect().await?;
    let long = Long {
        follow: client.follow(request),
        limit: session.limit(),
        look: "computectl images list".to_owned(),
    };
    let cached = long.run(out).await?;
    if out.is_json() {
        out.object(&json!({ "image": json::view("CachedImage", &cached) }))?;
    } else {
        let size = text::bytes(cached.source_bytes);
        out.line(format_args!(
            "{} cached: {size}, sha256 {}",
            cached.image_id, cached.sha256
        ))?;
    }
    Ok(())
}

async fn remove(args: RmArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let is_hash = args.image.len() == 64 && args.image.bytes().all(|b| b.is_ascii_hexdigit());
    let which = match is_hash {
        true => Which::Sha256(args.image.to_ascii_lowercase()),
        false => Which::ImageId(args.image.clone()),
    };
    let client = session.connect().await?;
    let request = v1::RemoveImageRequest {
        image: Some(which),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let removed = client.images().remove_image(request).await?.into_inner();
    if out.is_json() {
        out.object(&json!({ "removed": json::view("RemoveImageResponse", &removed) }))?;
    } else {
        let freed = text::bytes(removed.freed_bytes);
        out.line(format_args!("{} removed, {freed} freed", args.image))?;
    }
    Ok(())
}

async fn prune(args: PruneArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let client = session.connect().await?;
    let request = v1::PruneImagesRequest {
        unused_for: wire(args.unused_for),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let pruned = client.images().prune_images(request).await?.into_inner();
    if out.is_json() {
        out.object(&json!({ "pruned": json::view("PruneImagesResponse", &pruned) }))?;
        return Ok(());
    }
    for image in &pruned.images {
        let freed = text::bytes(image.allocated_bytes);
        out.line(format_args!("{} removed, {freed} freed", image.image_id))?;
    }
    let (count, freed) = (pruned.images.len(), text::bytes(pruned.freed_bytes));
    out.line(format_args!("{count} images removed, {freed} freed"))?;
    Ok(())
}

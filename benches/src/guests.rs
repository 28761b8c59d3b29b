//! Guests: what is asked for, spawned and destroyed to the end.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use computedriver::v1;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::server::{Server, repository};

/// Starts at a time while a crowd is made: as many as the server itself works on.
const AT_ONCE: usize = 4;

/// An image of so many MiB, a quarter of it written: one that a cloud could have.
pub(crate) fn image(folder: &Path, mib: u64) -> Result<v1::Image> {
    let path = folder.join(format!("image-{mib}.raw"));
    let file = fs::File::create(&path)?;
    file.set_len(mib << 20)?;
    let boot = fs::read(repository(".cache/guest/current/boot-sector.raw"))
        .context("the tiny guest; `make guest` builds it")?;
    use std::os::unix::fs::FileExt;
    file.write_all_at(&boot, 0)?;
    for mib in (1..mib).step_by(4) {
        file.write_all_at(&[0x5a; 4096], mib << 20)?;
    }
    Ok(v1::Image {
        image_id: format!("bench-{mib}"),
        location: format!("file://{}", path.display()),
        sha256: hex::encode(Sha256::digest(fs::read(&path)?)),
        format: v1::DiskFormat::Raw.into(),
        ..Default::default()
    })
}

/// A guest of 16 MiB that runs its boot sector and halts: QEMU idles.
pub(crate) fn small(image: &v1::Image) -> v1::SpawnRequest {
    v1::SpawnRequest {
        instance_id: Uuid::new_v4().to_string(),
        flavor: Some(v1::Flavor {
            vcpus: 1,
            memory_mib: 16,
            ..Default::default()
        }),
        image: Some(image.clone()),
        limits: Some(v1::Limits {
            vcpus: Some(1 << 20),
            memory_mib: Some(1 << 30),
            disk_gib: Some(1 << 30),
        }),
        ..Default::default()
    }
}

/// The same with an interface on the bridge `br0`.
pub(crate) fn bridged(image: &v1::Image) -> v1::SpawnRequest {
    let request = small(image);
    let id = Uuid::new_v4();
    let [a, b, c, ..] = *id.as_bytes();
    let bridge = v1::BridgeVif {
        bridge: "br0".to_owned(),
    };
    v1::SpawnRequest {
        vifs: vec![v1::Vif {
            interface_id: "eth0".to_owned(),
            mac_address: format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"),
            r#type: Some(v1::vif::Type::Bridge(bridge)),
            ..Default::default()
        }],
        ..request
    }
}

/// Spawns, and waits until it runs.
pub(crate) async fn spawn(server: &Server, request: v1::SpawnRequest) -> Result<String> {
    let id = request.instance_id.clone();
    let mut client = server.instances().await?;
    let mut stream = client.spawn(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        if let Some(v1::spawn_response::Event::Instance(_)) = message.event {
            return Ok(id);
        }
    }
    bail!("the spawn of {id} ended without a word")
}

/// Destroys, and waits until it is gone.
pub(crate) async fn destroy(server: &Server, id: &str) -> Result<()> {
    let request = v1::DestroyRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    let mut client = server.instances().await?;
    let mut stream = client.destroy(request).await?.into_inner();
    while stream.message().await?.is_some() {}
    Ok(())
}

/// Spawns so many.
pub(crate) async fn crowd(
    server: &Server,
    request: impl Fn() -> v1::SpawnRequest,
    count: usize,
) -> Result<Vec<String>> {
    let spawns = (0..count).map(|_| spawn(server, request()));
    stream::iter(spawns)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Destroys them all.
pub(crate) async fn disperse(server: &Server, ids: &[String]) -> Result<()> {
    let destroys = ids.iter().map(|id| destroy(server, id));
    stream::iter(destroys)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

//! InstanceService: another size, another root disk.

use computedriver_client::{Error, v1};
use tonic::Code;

use super::bench::Bench;
use super::suite::{Check, Fault, Verdict, check, hold, refused};

pub(super) const CHECKS: &[Check] = &[
    check!(
        ["InstanceService/Resize"],
        "its root disk grows and never shrinks, and a resize to what it is changes nothing",
        grown
    ),
    check!(
        ["InstanceService/Resize"],
        "it has another processor after a restart that is allowed, and none without",
        restarted
    ),
    check!(
        ["InstanceService/Rebuild"],
        "it is made anew under its id, and told its new metadata",
        rebuilt
    ),
];

const GIB: u64 = 1 << 30;

async fn resize(
    bench: &Bench,
    flavor: v1::Flavor,
    mode: v1::ResizeMode,
) -> Result<v1::Flavor, Error> {
    let request = v1::ResizeRequest {
        instance_id: bench.id().unwrap_or_default(),
        flavor: Some(flavor),
        mode: mode.into(),
        ..Default::default()
    };
    let told = bench.client.follow(request).finish(|_| ()).await?;
    Ok(told.flavor.unwrap_or_default())
}

/// Its flavor, and its root disk's size in GiB, rounded up.
async fn present(bench: &Bench) -> Result<(v1::Flavor, u64), Fault> {
    let instance = bench.instance().await?;
    let mut disks = instance.disks.iter();
    let root = disks.find(|disk| disk.kind() == v1::DiskKind::Root);
    let Some(root) = root else {
        return Err(Fault::Skipped("it has no root disk of its own".to_owned()));
    };
    let gib = root.size_bytes.div_ceil(GIB);
    Ok((instance.flavor.unwrap_or_default(), gib))
}

async fn grown(bench: &Bench) -> Verdict {
    let (flavor, gib) = present(bench).await?;
    let larger = v1::Flavor {
        root_gib: gib + 1,
        ..flavor
    };
    for _ in 0..2 {
        let told = resize(bench, larger.clone(), v1::ResizeMode::LiveOnly).await?;
        hold!(told == larger, "Resize answers with {told:?}");
        let (now, size) = present(bench).await?;
        hold!(now == larger, "GetInstance tells {now:?}");
        hold!(size == gib + 1, "its root disk has {size} GiB");
    }
    let smaller = v1::Flavor {
        root_gib: gib,
        ..larger
    };
    let outcome = resize(bench, smaller, v1::ResizeMode::MayRestart).await;
    refused(outcome, (Code::FailedPrecondition, "FLAVOR_DISK_TOO_SMALL")).map(drop)
}

async fn restarted(bench: &Bench) -> Verdict {
    let id = bench.id()?;
    let (flavor, _) = present(bench).await?;
    let more = v1::Flavor {
        vcpus: flavor.vcpus + 1,
        max_vcpus: 0,
        ..flavor.clone()
    };
    let outcome = resize(bench, more.clone(), v1::ResizeMode::LiveOnly).await;
    refused(outcome, (Code::FailedPrecondition, "NOT_SUPPORTED"))?;
    for wanted in [more, flavor] {
        resize(bench, wanted.clone(), v1::ResizeMode::MayRestart).await?;
        bench.is_in(&id, v1::PowerState::Running).await?;
        let has = bench.info(&id).await?.num_cpu;
        hold!(
            has == wanted.vcpus,
            "{has} processors, not {}",
            wanted.vcpus
        );
    }
    Ok(())
}

async fn rebuilt(bench: &Bench) -> Verdict {
    let id = bench.id()?;
    let image = bench.template.image.clone();
    let image = image.filter(|image| !image.location.is_empty());
    let image = image.ok_or_else(|| Fault::Skipped("it is made from no image".to_owned()))?;
    let request = v1::RebuildRequest {
        instance_id: id.clone(),
        image: Some(image),
        metadata: [("rebuilt".to_owned(), "yes".to_owned())].into(),
        ..Default::default()
    };
    let told = bench.client.follow(request).finish(|_| ()).await?;
    hold!(told.instance_id == id, "it is {} now", told.instance_id);
    let instance = bench.instance().await?;
    let said = instance.metadata.get("rebuilt");
    hold!(
        said.is_some_and(|said| said == "yes"),
        "its metadata is {:?}",
        instance.metadata
    );
    bench.is_in(&id, v1::PowerState::Running).await
}

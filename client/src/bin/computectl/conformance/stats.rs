//! StatsService: what instances use.

use computedriver_client::v1;
use tonic::Code;

use super::bench::{Bench, nobody};
use super::suite::{Check, Fault, Verdict, check, hold, refused};

pub(super) const CHECKS: &[Check] = &[
    check!(
        ["StatsService/StreamInstanceStats"],
        "a stream begins with all of an instance",
        instance
    ),
    check!(
        ["StatsService/GetBlockStats", "InstanceService/GetInstance"],
        "a disk has counters, and an absent one is not known",
        block
    ),
    check!(
        ["StatsService/StreamBlockStats"],
        "a stream of disks begins with the instance's",
        blocks
    ),
    check!(
        ["StatsService/GetInterfaceStats"],
        "an absent interface is not known",
        interface
    ),
    check!(
        ["StatsService/StreamInterfaceStats"],
        "a stream of interfaces begins with the instance's",
        interfaces
    ),
];

/// What is told of the instance by the first whole sample.
macro_rules! first {
    ($bench:expr, $call:ident, $request:ident) => {{
        let id = $bench.id()?;
        let request = v1::$request {
            instance_ids: vec![id.clone()],
            ..Default::default()
        };
        let mut stream = $bench.client.stats().$call(request).await?.into_inner();
        let mut first = None;
        while let Some(batch) = stream.message().await? {
            hold!(batch.full, "the first sample is not a full one");
            let is_it = |sample: &Option<v1::SampleState>| {
                sample
                    .as_ref()
                    .is_some_and(|sample| sample.instance_id == id)
            };
            first = batch.instances.into_iter().find(|told| is_it(&told.sample));
            if first.is_some() || !batch.more {
                break;
            }
        }
        first.ok_or_else(|| Fault::Failed("the instance is not in it".to_owned()))?
    }};
}

async fn instance(bench: &Bench) -> Verdict {
    let told = first!(bench, stream_instance_stats, StreamInstanceStatsRequest);
    let power = told.power_state();
    hold!(power == v1::PowerState::Running, "it is {power:?}");
    hold!(!told.cpus.is_empty() && !told.disks.is_empty(), "{told:?}");
    Ok(())
}

async fn block(bench: &Bench) -> Verdict {
    let instance = bench.instance().await?;
    let ask = async |disk_id: String| {
        let request = v1::GetBlockStatsRequest {
            instance_id: instance.instance_id.clone(),
            disk_id,
        };
        bench.client.stats().get_block_stats(request).await
    };
    let Some(disk) = instance.disks.first() else {
        return Err(Fault::Failed("it has no disk".to_owned()));
    };
    let told = ask(disk.disk_id.clone()).await?.into_inner();
    let counters = told.counters.unwrap_or_default();
    hold!(
        counters.disk_id == disk.disk_id,
        "it is told of {:?}",
        counters.disk_id
    );
    hold!(
        counters.rd_bytes.is_some_and(|bytes| bytes >= 0),
        "{counters:?}"
    );
    refused(ask(nobody()).await, (Code::NotFound, "DISK_NOT_FOUND")).map(drop)
}

async fn blocks(bench: &Bench) -> Verdict {
    let told = first!(bench, stream_block_stats, StreamBlockStatsRequest);
    hold!(!told.disks.is_empty(), "{told:?}");
    Ok(())
}

async fn interface(bench: &Bench) -> Verdict {
    let request = v1::GetInterfaceStatsRequest {
        instance_id: bench.id()?,
        interface_id: nobody(),
    };
    let outcome = bench.client.stats().get_interface_stats(request).await;
    refused(outcome, (Code::NotFound, "INTERFACE_NOT_FOUND")).map(drop)
}

async fn interfaces(bench: &Bench) -> Verdict {
    let told = first!(bench, stream_interface_stats, StreamInterfaceStatsRequest);
    hold!(told.sample.is_some(), "{told:?}");
    Ok(())
}

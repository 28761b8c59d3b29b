use std::collections::BTreeSet;

use futures::StreamExt;
use pretty_assertions::assert_eq;

use super::*;
use crate::{
    api::instance::tests::api, hypervisor::Hypervisor, model::InstanceId, testing::TestHost,
};

type Batches = Answers<v1::StreamInstancesResponse>;

async fn batch(batches: &mut Batches) -> Vec<v1::InstanceInfo> {
    let batch = batches.next().await.unwrap().unwrap();
    assert_eq!(batch.total_size, 4);
    batch.instances
}

#[tokio::test]
async fn all_that_were_there_are_streamed_once_whatever_goes_and_comes_meanwhile() {
    let test = TestHost::new().await;
    let mut there = BTreeSet::new();
    for _ in 0..4 {
        there.insert(test.spawned(test.spec()).await);
    }
    let request = v1::StreamInstancesRequest { batch_size: 1 };
    let mut batches = stream(&api(&test), &request);
    let mut told = batch(&mut batches).await;
    let last = *there.last().unwrap();
    test.fake.destroy(last).await.unwrap();
    test.fake.undefine(last).await.unwrap();
    test.host.store.remove_instance(last).await.unwrap();
    test.spawned(test.spec()).await;
    for _ in 0..2 {
        told.extend(batch(&mut batches).await);
    }
    let gone = batch(&mut batches).await;
    assert!(batches.next().await.is_none());
    assert_eq!(gone[0].state(), v1::PowerState::Nostate);
    assert!(
        told.iter()
            .all(|info| info.state() == v1::PowerState::Running)
    );
    told.extend(gone);
    let ids = told.iter().map(|info| info.instance_id.clone());
    let there: Vec<_> = there.iter().map(InstanceId::to_string).collect();
    assert_eq!(ids.collect::<Vec<_>>(), there);
}

#[tokio::test]
async fn of_nothing_there_is_one_empty_batch() {
    let test = TestHost::new().await;
    let mut batches = stream(&api(&test), &v1::StreamInstancesRequest::default());
    let only = batches.next().await.unwrap().unwrap();
    assert_eq!((only.instances.len(), only.total_size), (0, 0));
    assert!(batches.next().await.is_none());
}

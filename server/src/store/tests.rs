use std::time::{Duration, SystemTime};

use super::*;
use crate::model::{OperationId, OperationRecord, OperationState, RequestId, Verb};

fn operation(request: Option<RequestId>) -> OperationRecord {
    OperationRecord {
        id: OperationId::random(),
        instance: Some(InstanceId::random()),
        image: None,
        verb: Verb::Spawn,
        request,
        fingerprint: "f".into(),
        state: OperationState::Running,
        begun: SystemTime::now(),
        ended: None,
        caller: None,
        error: None,
        answer: None,
    }
}

fn step(number: u32) -> BegunStep {
    BegunStep {
        number,
        name: "claim".into(),
        body: "{}".into(),
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let request = RequestId::random();
    let record = operation(Some(request));
    {
        let store = Store::open(dir.path()).await.unwrap();
        store.put_operation(record.clone()).await.unwrap();
        store.begin_step(record.id, step(0)).await.unwrap();
        store.begin_step(record.id, step(1)).await.unwrap();
    }
    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(
        store.operation_of_request(request).await.unwrap(),
        Some(record.clone())
    );
    assert_eq!(store.steps(record.id).await.unwrap(), [step(0), step(1)]);
    assert_eq!(store.unsettled().await.unwrap(), [record]);
}

#[tokio::test]
async fn a_settled_operation_owes_nothing_and_is_pruned_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let mut record = operation(None);
    store.put_operation(record.clone()).await.unwrap();
    store.begin_step(record.id, step(0)).await.unwrap();
    record.state = OperationState::Succeeded;
    record.ended = Some(SystemTime::now() - Duration::from_secs(60));
    store.settle(record.clone(), None).await.unwrap();
    assert_eq!(store.unsettled().await.unwrap(), []);
    assert_eq!(
        store
            .prune_operations(Duration::from_secs(3600))
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        store
            .prune_operations(Duration::from_secs(30))
            .await
            .unwrap(),
        1
    );
    assert_eq!(store.operation(record.id).await.unwrap(), None);
}

#[tokio::test]
async fn listings_page_by_time_and_filter() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let records: Vec<_> = (0..5).map(|_| operation(None)).collect();
    for record in &records {
        store.put_operation(record.clone()).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let filter = OperationFilter {
            limit: 2,
            after,
            ..OperationFilter::default()
        };
        let page = store.operations(filter).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.begun, last.id));
        seen.extend(page.iter().map(|record| record.id));
    }
    let mut expected: Vec<_> = records
        .iter()
        .map(|record| {
            // As the store orders them: by microsecond, then by id.
            let since = record.begun.duration_since(SystemTime::UNIX_EPOCH);
            (since.unwrap().as_micros(), record.id)
        })
        .collect();
    expected.sort();
    expected.reverse();
    assert_eq!(
        seen,
        expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>()
    );
    let of_one = OperationFilter {
        instance: records[3].instance,
        limit: 9,
        ..OperationFilter::default()
    };
    assert_eq!(
        store.operations(of_one).await.unwrap(),
        [records[3].clone()]
    );
}

#[tokio::test]
async fn the_files_are_for_our_eyes_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let _store = Store::open(dir.path()).await.unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    Connection::open(path)
        .unwrap()
        .pragma_update(None, "user_version", 999)
        .unwrap();
    let refused = Store::open(dir.path()).await;
    assert!(
        matches!(refused, Err(StoreError::Newer { found: 999, .. })),
        "{refused:?}"
    );
}

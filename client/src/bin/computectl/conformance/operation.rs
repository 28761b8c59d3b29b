//! OperationService: what the server did and does, by the operations of the instance that was made.

use computedriver_client::v1;
use tonic::Code;

use super::bench::{Bench, nobody};
use super::suite::{Check, Fault, Verdict, check, hold, refused};

pub(super) const CHECKS: &[Check] = &[
    check!(
        ["OperationService/ListOperations"],
        "the spawn is listed, succeeded, with its phases",
        listed
    ),
    check!(
        ["OperationService/GetOperation"],
        "an operation is told as it is listed, and an absent one is not known",
        told
    ),
    check!(
        ["OperationService/WatchOperation"],
        "an operation that has ended is told to its watcher as it ended",
        watched
    ),
    check!(
        ["OperationService/CancelOperation"],
        "what has succeeded is not cancelled any more",
        ended
    ),
    check!(
        [
            "OperationService/CancelOperation",
            "InstanceService/Spawn",
            "InstanceService/GetInfo"
        ],
        "a spawn that is cancelled ends so, and leaves nothing",
        cancelled
    ),
];

/// The operation that made the instance.
async fn spawned(bench: &Bench) -> Result<v1::Operation, Fault> {
    let request = v1::ListOperationsRequest {
        instance_id: bench.id()?,
        page_size: 1000,
        ..Default::default()
    };
    let page = bench
        .client
        .operations()
        .list_operations(request)
        .await?
        .into_inner();
    let mut all = page.operations.into_iter();
    let spawned = all.find(|operation| operation.verb == "Spawn" && succeeded(operation));
    spawned.ok_or_else(|| Fault::Failed("it is not listed".to_owned()))
}

fn succeeded(operation: &v1::Operation) -> bool {
    operation.state() == v1::OperationState::Succeeded
}

async fn listed(bench: &Bench) -> Verdict {
    let spawned = spawned(bench).await?;
    hold!(
        spawned.instance_id == bench.id()?,
        "it is about {}",
        spawned.instance_id
    );
    hold!(!spawned.phases.is_empty(), "it has no phase");
    hold!(
        spawned.end_time.is_some() && spawned.error.is_none(),
        "it ended {:?}",
        spawned.end_time
    );
    hold!(!spawned.cancellable, "it may be cancelled");
    Ok(())
}

async fn told(bench: &Bench) -> Verdict {
    let spawned = spawned(bench).await?;
    let ask = async |operation_id: String| {
        let request = v1::GetOperationRequest { operation_id };
        bench.client.operations().get_operation(request).await
    };
    let told = ask(spawned.operation_id.clone())
        .await?
        .into_inner()
        .operation;
    hold!(told.as_ref() == Some(&spawned), "{told:?}, not {spawned:?}");
    refused(ask(nobody()).await, (Code::NotFound, "OPERATION_NOT_FOUND")).map(drop)
}

async fn watched(bench: &Bench) -> Verdict {
    let operation_id = spawned(bench).await?.operation_id;
    let request = v1::WatchOperationRequest { operation_id };
    let last = bench.client.follow(request).finish(|_| ()).await?;
    hold!(succeeded(&last), "it is {:?}", last.state());
    Ok(())
}

async fn ended(bench: &Bench) -> Verdict {
    let operation_id = spawned(bench).await?.operation_id;
    let request = v1::CancelOperationRequest { operation_id };
    let outcome = bench.client.operations().cancel_operation(request).await;
    let due = (Code::FailedPrecondition, "OPERATION_NOT_CANCELLABLE");
    refused(outcome, due).map(drop)
}

async fn cancelled(bench: &Bench) -> Verdict {
    let mut request = bench.request();
    let id = request.instance_id.clone();
    // No guest ever shows it: there is time to cancel.
    request.wait_for = Some(v1::WaitFor {
        timeout: None,
        condition: Some(v1::wait_for::Condition::ConsolePattern(format!(
            "never-{id}"
        ))),
    });
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let note = |progress: &v1::OperationProgress| {
        if let Some(tell) = tell.take() {
            let _ = tell.send(progress.operation_id.clone());
        }
    };
    let cancel = async {
        let Ok(operation_id) = told.await else {
            return Ok(());
        };
        let request = v1::CancelOperationRequest { operation_id };
        bench
            .client
            .operations()
            .cancel_operation(request)
            .await
            .map(drop)
    };
    let spawn = bench.client.spawn(request, note);
    let (spawned, asked) = tokio::join!(spawn, cancel);
    asked?;
    refused(spawned, (Code::Cancelled, "OPERATION_CANCELLED"))?;
    let request = v1::GetInfoRequest { instance_id: id };
    let outcome = bench.client.instances().get_info(request).await;
    refused(outcome, (Code::NotFound, "INSTANCE_NOT_FOUND")).map(drop)
}

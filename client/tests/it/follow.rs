//! Long calls: followed to their end whatever happens to the connection.

use std::time::Duration;

use computedriver_client::{Kind, News, v1};
use tonic::{Code, Status};

use crate::support::host::Cut;
use crate::support::{Server, make};

async fn spawn(server: &Server) -> (Vec<u64>, computedriver_client::Result<v1::Instance>) {
    let mut seen = Vec::new();
    let client = server.client().await;
    let outcome = client
        .spawn(make::spawn_request(), |p| seen.push(p.sequence))
        .await;
    (seen, outcome)
}

fn whole() -> Vec<u64> {
    make::progress().iter().map(|p| p.sequence).collect()
}

#[tokio::test]
async fn a_spawn_tells_its_progress_and_returns_the_instance() {
    let server = Server::start();
    let (seen, instance) = spawn(&server).await;
    assert_eq!(instance.expect("it runs"), make::instance());
    assert_eq!(seen, whole());
}

#[tokio::test]
async fn a_lost_stream_is_joined_again_and_each_progress_is_told_once() {
    let server = Server::start();
    for cut in [Cut::Lost(0), Cut::Lost(3), Cut::Short(5), Cut::Lost(2)] {
        server.host.cut_next(cut);
    }
    let (seen, instance) = spawn(&server).await;
    assert_eq!(instance.expect("it runs"), make::instance());
    assert_eq!(seen, whole());
    assert_eq!(server.host.calls().len(), 5);
    let spawns = server.host.spawns();
    assert_eq!(spawns.len(), 1, "each repeat is the same request");
    assert!(!spawns[0].request_id.is_empty());
}

#[tokio::test]
async fn a_server_killed_in_the_middle_is_joined_when_it_is_back() {
    let mut server = Server::start();
    server.host.cut_next(Cut::Silent(4));
    let client = server.client().await;
    let mut follow = client.follow(make::spawn_request());
    let mut seen = Vec::new();
    while seen.len() < 4 {
        match follow.next().await.expect("it goes on") {
            News::Progress(p) => seen.push(p.sequence),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(follow.operation_id(), Some(make::OPERATION));
    server.kill();
    let lost = follow.next().await.expect("it is worth another attempt");
    assert!(matches!(lost, News::Lost(_)), "{lost:?}");
    server.revive();
    let instance = follow.finish(|p| seen.push(p.sequence)).await;
    assert_eq!(instance.expect("it runs"), make::instance());
    assert_eq!(seen, whole());
    assert_eq!(server.host.spawns().len(), 1);
}

#[tokio::test]
async fn a_silent_stream_counts_as_lost() {
    let server = Server::start();
    server.host.cut_next(Cut::Silent(2));
    let builder = server.builder().silence(Duration::from_millis(60));
    let client = builder.connect().await.expect("the server answers");
    let mut follow = client.follow(make::spawn_request());
    let mut lost = Vec::new();
    loop {
        match follow.next().await.expect("it ends well") {
            News::Lost(error) => lost.push(error.to_string()),
            News::Done(instance) => break assert_eq!(instance, make::instance()),
            _ => {}
        }
    }
    assert_eq!(lost, ["the stream was silent for 0.06 s"]);
}

#[tokio::test]
async fn a_server_that_never_comes_back_is_given_up_with_the_operations_name() {
    let mut server = Server::start();
    server.host.cut_next(Cut::Silent(1));
    let builder = server.builder().rejoin_for(Duration::from_millis(80));
    let client = builder.connect().await.expect("the server answers");
    let mut follow = client.follow(make::spawn_request());
    follow.next().await.expect("the first");
    server.kill();
    let error = follow.finish(|_| ()).await.expect_err("it is gone");
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(error.operation_id(), Some(make::OPERATION));
}

#[tokio::test]
async fn the_operations_own_failure_is_told_at_once() {
    let server = Server::start();
    server.host.fail_spawns(make::error(
        Code::Unavailable,
        "IMAGE_FETCH_FAILED",
        "the image stalled",
    ));
    let (seen, outcome) = spawn(&server).await;
    let error = outcome.expect_err("it failed");
    assert_eq!(error.reason(), "IMAGE_FETCH_FAILED");
    assert_eq!(error.operation_id(), Some(make::OPERATION));
    assert_eq!(seen, whole());
    assert_eq!(server.host.calls(), ["Spawn"]);
}

#[tokio::test]
async fn a_server_that_drains_is_awaited() {
    let server = Server::start();
    server
        .host
        .refuse(make::error(Code::Unavailable, "DRAINING", "stopping"));
    let (seen, instance) = spawn(&server).await;
    instance.expect("it came back");
    assert_eq!(seen, whole());
}

#[tokio::test]
async fn the_callers_own_request_id_is_kept() {
    let server = Server::start();
    let request = v1::SpawnRequest {
        request_id: "mine".into(),
        ..make::spawn_request()
    };
    let client = server.client().await;
    client.spawn(request, |_| ()).await.expect("it runs");
    assert_eq!(server.host.spawns()[0].request_id, "mine");
}

#[tokio::test]
async fn an_operation_is_watched_from_where_it_stands() {
    let server = Server::start();
    server.host.cut_next(Cut::Lost(3));
    let client = server.client().await;
    let mut watch = client.watch_operation(make::OPERATION);
    let News::Standing(operation) = watch.next().await.expect("it is known") else {
        panic!("the first message tells where it stands");
    };
    assert_eq!(operation.progress.map(|p| p.sequence), Some(2));
    let mut seen = Vec::new();
    let end = watch.finish(|p| seen.push(p.sequence)).await.expect("ends");
    assert_eq!(end.state(), v1::OperationState::Succeeded);
    assert_eq!(seen, whole()[2..]);
}

#[tokio::test]
async fn a_list_that_was_cut_is_asked_for_again() {
    let server = Server::start();
    let all: Vec<_> = (0..3)
        .map(|n| v1::InstanceInfo {
            instance_id: format!("instance-{n}"),
            ..Default::default()
        })
        .collect();
    server.host.put_instances(all.clone());
    server.host.cut_next(Cut::Lost(2));
    server.host.cut_next(Cut::Short(1));
    let client = server.client().await;
    assert_eq!(client.stream_instances().await.expect("whole"), all);
    assert_eq!(server.host.calls().len(), 3);
}

#[tokio::test]
async fn a_list_that_fails_for_good_is_not_asked_for_again() {
    let server = Server::start();
    server.host.refuse(Status::permission_denied("not you"));
    let client = server.client().await;
    let error = client.stream_instances().await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(server.host.calls().len(), 1);
}

#[tokio::test]
async fn pages_are_put_together() {
    let server = Server::start();
    let all: Vec<_> = (0..3)
        .map(|n| v1::CachedImage {
            image_id: format!("image-{n}"),
            ..Default::default()
        })
        .collect();
    server.host.put_images(all.clone());
    let client = server.client().await;
    assert_eq!(client.list_images().await.expect("whole"), all);
}

//! Unary calls: deadlines, and repeats where they are safe and nowhere else.

use std::time::{Duration, Instant};

use computedriver_client::{Client, Error, Kind, RetryPolicy, v1};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::support::{Server, make};

async fn get_info(client: &Client) -> Result<v1::GetInfoResponse, Error> {
    let instance_id = make::INSTANCE.into();
    let request = v1::GetInfoRequest { instance_id };
    Ok(client.instances().get_info(request).await?.into_inner())
}

fn away() -> Status {
    make::error(
        Code::Unavailable,
        "HYPERVISOR_UNAVAILABLE",
        "the hypervisor is away",
    )
}

#[tokio::test]
async fn a_read_is_repeated_until_the_server_answers() {
    for server in [Server::start(), Server::start_tcp()] {
        server.host.put_instances(vec![make::info()]);
        for _ in 0..4 {
            server.host.refuse(away());
        }
        let info = get_info(&server.client().await).await.expect("the fifth");
        assert_eq!(info.info, Some(make::info()));
        assert_eq!(server.host.calls().len(), 5);
    }
}

#[tokio::test]
async fn five_attempts_are_all() {
    let server = Server::start();
    for _ in 0..9 {
        server.host.refuse(away());
    }
    let error = get_info(&server.client().await)
        .await
        .expect_err("it is away");
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(error.reason(), "HYPERVISOR_UNAVAILABLE");
    assert_eq!(server.host.calls().len(), 5);
}

#[tokio::test]
async fn an_idempotent_change_is_repeated_and_one_that_is_not_is_not() {
    let server = Server::start();
    let client = server.client().await;
    server.host.refuse(away());
    let pause = v1::PauseRequest::default();
    client.instances().pause(pause).await.expect("repeated");
    server.host.refuse(away());
    let dump = v1::TriggerCrashDumpRequest::default();
    let refused = client.instances().trigger_crash_dump(dump).await;
    assert_eq!(refused.expect_err("not repeated").code(), Code::Unavailable);
    assert_eq!(server.host.calls(), ["Pause", "Pause", "TriggerCrashDump"]);
}

#[tokio::test]
async fn other_failures_are_not_repeated() {
    let server = Server::start();
    let client = server.client().await;
    for code in [Code::Aborted, Code::ResourceExhausted, Code::Internal] {
        server.host.refuse(make::error(code, "OVERLOADED", "no"));
        let error = get_info(&client).await.expect_err("refused");
        assert_eq!(error.code(), code);
    }
    assert_eq!(server.host.calls().len(), 3);
}

#[tokio::test]
async fn the_policy_may_forbid_repeats() {
    let server = Server::start();
    let builder = server.builder().retry(RetryPolicy::never());
    let client = builder.connect().await.expect("the server answers");
    server.host.refuse(away());
    get_info(&client).await.expect_err("not repeated");
    assert_eq!(server.host.calls(), ["GetInfo"]);
}

#[tokio::test]
async fn the_servers_word_on_when_to_come_back_is_kept() {
    let server = Server::start();
    server.host.put_instances(vec![make::info()]);
    let pause = Duration::from_millis(150);
    server.host.refuse(make::detailed(
        Code::Unavailable,
        "STARTING",
        "starting",
        |details| {
            details.set_retry_info(Some(pause));
        },
    ));
    let client = server.client().await;
    let begun = Instant::now();
    get_info(&client).await.expect("the second");
    assert!(begun.elapsed() >= pause, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_pushback_that_forbids_is_obeyed() {
    let server = Server::start();
    let mut headers = MetadataMap::new();
    headers.insert("grpc-retry-pushback-ms", MetadataValue::from_static("-1"));
    server.host.refuse(Status::with_metadata(
        Code::Unavailable,
        "do not come back",
        headers,
    ));
    get_info(&server.client().await)
        .await
        .expect_err("not repeated");
    assert_eq!(server.host.calls(), ["GetInfo"]);
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again() {
    let mut server = Server::start();
    server.host.put_instances(vec![make::info()]);
    let client = server.client().await;
    get_info(&client).await.expect("it is there");
    server.kill();
    let error = get_info(&client).await.expect_err("it is away");
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.is_lost(), "{error}");
    server.revive();
    get_info(&client).await.expect("it is back");
}

#[tokio::test]
async fn a_read_ends_at_its_deadline_though_the_server_asks_for_patience() {
    let server = Server::start();
    let hour = Some(Duration::from_secs(3600));
    server.host.refuse(make::detailed(
        Code::Unavailable,
        "STARTING",
        "starting",
        |details| {
            details.set_retry_info(hour);
        },
    ));
    let error = get_info(&server.client().await)
        .await
        .expect_err("an hour is too long");
    assert_eq!(error.retry_after(), hour);
    assert_eq!(server.host.calls(), ["GetInfo"]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_the_deadline_and_no_more() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = silent.local_addr().expect("an address");
    let client = Client::builder()
        .endpoint(format!("http://{address}"))
        .read_deadline(Duration::from_millis(100))
        .connect_lazy()
        .expect("a good address");
    let error = get_info(&client).await.expect_err("nobody answers");
    assert_eq!(error.kind(), Kind::Deadline, "{error}");
    assert!(error.to_string().contains("GetInfo"), "{error}");
}

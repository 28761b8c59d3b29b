//! What a caller is told when there is no server.

use computedriver_client::{Client, Kind};

#[tokio::test]
async fn an_absent_socket_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let endpoint = format!("unix:{}/none.sock", folder.path().display());
    let error = Client::connect(&endpoint).await.expect_err("nobody there");
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.is_lost());
    assert!(error.to_string().contains(&endpoint), "{error}");
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[tokio::test]
async fn a_closed_port_is_named() {
    let error = Client::connect("http://127.0.0.1:1")
        .await
        .expect_err("nobody there");
    assert!(error.to_string().contains("refused"), "{error}");
}

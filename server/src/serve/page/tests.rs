use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::{CONNECTIONS, Page};
use crate::{
    config::Listen,
    metrics::{self, Scrape},
};

const LIMIT: Duration = Duration::from_secs(30);

async fn served(scrape: Scrape) -> (SocketAddr, CancellationToken) {
    let page = Page::bind(&Listen::parse("tcp:127.0.0.1:0").unwrap()).await;
    let page = page.unwrap();
    let Listen::Tcp(address) = *page.address() else {
        panic!("it is no TCP address");
    };
    let close = CancellationToken::new();
    tokio::spawn(page.serve(scrape, close.clone()));
    (address, close)
}

fn scrape() -> Scrape {
    Arc::new(|| Box::pin(std::future::ready(metrics::snapshot())))
}

async fn get(address: SocketAddr, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_page_is_written_as_the_reader_asks() {
    let (address, _close) = served(scrape()).await;
    let text = get(address, "/metrics", "*/*").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(
        text.contains("content-type: text/plain; version=0.0.4"),
        "{text}"
    );
    let open = get(address, "/metrics", "application/openmetrics-text").await;
    assert!(
        open.contains("content-type: application/openmetrics-text") && open.ends_with("# EOF\n"),
        "{open}"
    );
    assert!(get(address, "/", "*/*").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test(start_paused = true)]
async fn readers_that_hang_shut_nobody_out() {
    let (address, _close) = served(scrape()).await;
    let mut hung = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\n")
            .await
            .unwrap();
        hung.push(stream);
    }
    // They take every place until their time is up.
    assert!(
        get(address, "/metrics", "*/*")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn the_page_ends_with_the_server() {
    let (address, close) = served(scrape()).await;
    close.cancel();
    let gone = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.unwrap();
}

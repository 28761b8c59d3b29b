//! Console logs: every byte once, whatever happens to the connection.

use computedriver_client::v1;
use computedriver_client::v1::stream_console_output_request::Start;

use crate::support::host::Cut;
use crate::support::{Server, make};

const LOG: &[u8] = b"Linux version 6.1\nlogin: ";

async fn read(server: &Server, start: Option<Start>) -> Vec<u8> {
    let client = server.client().await;
    let mut console = client.console(v1::StreamConsoleOutputRequest {
        instance_id: make::INSTANCE.into(),
        start,
        follow: true,
    });
    let mut bytes = Vec::new();
    while let Some(chunk) = console.next().await.expect("it goes on") {
        bytes.extend(chunk.data);
    }
    bytes
}

#[tokio::test]
async fn a_lost_console_goes_on_at_the_byte_where_it_was() {
    let server = Server::start();
    server.host.write_console(LOG);
    server.host.cut_next(Cut::Lost(2));
    server.host.cut_next(Cut::Lost(0));
    server.host.cut_next(Cut::Lost(1));
    assert_eq!(read(&server, None).await, LOG);
    assert_eq!(server.host.calls().len(), 4);
}

#[tokio::test]
async fn a_tail_that_was_lost_does_not_begin_again() {
    let server = Server::start();
    server.host.write_console(LOG);
    server.host.cut_next(Cut::Lost(1));
    let tail = read(&server, Some(Start::TailBytes(7))).await;
    assert_eq!(tail, b"login: ");
}

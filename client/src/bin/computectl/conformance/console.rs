//! ConsoleService: what the guest has written, and its consoles.

use std::time::Duration;

use computedriver_client::v1;
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::bench::Bench;
use super::suite::{Check, Fault, Verdict, check, hold, refused};

pub(super) const CHECKS: &[Check] = &[
    check!(
        ["ConsoleService/GetConsoleOutput"],
        "the log has what was written, and its tail is its end",
        logged
    ),
    check!(
        ["ConsoleService/StreamConsoleOutput"],
        "the stream has what the log has, from any place",
        streamed
    ),
    check!(
        ["ConsoleService/OpenSerialConsole"],
        "one holds a serial port, the next is refused, or takes it by force",
        held
    ),
    check!(
        ["ConsoleService/OpenVncConsole"],
        "the screen speaks RFB",
        screen
    ),
    check!(
        [
            "ConsoleService/GetConsoleAccess",
            "ConsoleService/GetConsolePoolInfo"
        ],
        "access is a token for the host's proxy",
        access
    ),
];

/// Waits for a guest that has just begun to write.
const PATIENCE: Duration = Duration::from_secs(60);

async fn log(bench: &Bench, tail_bytes: u32) -> Result<v1::GetConsoleOutputResponse, Fault> {
    let request = v1::GetConsoleOutputRequest {
        instance_id: bench.id()?,
        tail_bytes,
        ..Default::default()
    };
    Ok(bench
        .client
        .consoles()
        .get_console_output(request)
        .await?
        .into_inner())
}

/// The log, once there is something in it.
async fn written(bench: &Bench) -> Result<v1::GetConsoleOutputResponse, Fault> {
    let ask = async {
        loop {
            let told = log(bench, 0).await?;
            if !told.output.is_empty() {
                return Ok::<_, Fault>(told);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let silent = |_| Err(Fault::Failed("the guest has written nothing".to_owned()));
    tokio::time::timeout(PATIENCE, ask)
        .await
        .unwrap_or_else(silent)
}

async fn logged(bench: &Bench) -> Verdict {
    let all = written(bench).await?;
    let tail = log(bench, 8).await?;
    hold!(
        tail.output.len() <= 8,
        "a tail of 8 bytes has {}",
        tail.output.len()
    );
    hold!(
        tail.offset >= all.offset,
        "the tail begins at {}, the log at {}",
        tail.offset,
        all.offset
    );
    Ok(())
}

async fn streamed(bench: &Bench) -> Verdict {
    let all = written(bench).await?;
    let from = all.offset + all.output.len() as u64 / 2;
    let request = |offset| -> Result<_, Fault> {
        Ok(v1::StreamConsoleOutputRequest {
            instance_id: bench.id()?,
            start: Some(v1::stream_console_output_request::Start::Offset(offset)),
            follow: false,
        })
    };
    let mut consoles = bench.client.consoles();
    let mut stream = consoles
        .stream_console_output(request(from)?)
        .await?
        .into_inner();
    let mut found = Vec::new();
    while let Some(message) = stream.message().await? {
        if let Some(v1::stream_console_output_response::Event::Chunk(chunk)) = message.event {
            let due = from + found.len() as u64;
            hold!(
                chunk.offset == due,
                "a chunk at {}, not at {due}",
                chunk.offset
            );
            found.extend(chunk.data);
        }
    }
    let rest = &all.output[all.output.len() / 2..];
    hold!(
        found.starts_with(rest),
        "the stream has other bytes than the log"
    );
    let outcome = match consoles.stream_console_output(request(u64::MAX / 2)?).await {
        Ok(stream) => stream.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    refused(outcome, (Code::OutOfRange, "CONSOLE_OFFSET")).map(drop)
}

type Typed = tokio_stream::wrappers::ReceiverStream<v1::OpenSerialConsoleRequest>;

/// The first message of a session, and what keeps it open.
fn opening(
    id: String,
    force: bool,
) -> (
    tokio::sync::mpsc::Sender<v1::OpenSerialConsoleRequest>,
    Typed,
) {
    let (typing, typed) = tokio::sync::mpsc::channel(1);
    let open = v1::SerialConsoleOpen {
        instance_id: id,
        port: 0,
        force,
    };
    let first = v1::OpenSerialConsoleRequest {
        event: Some(v1::open_serial_console_request::Event::Open(open)),
    };
    // There is room for one.
    let _ = typing.try_send(first);
    (typing, Typed::new(typed))
}

async fn held(bench: &Bench) -> Verdict {
    let id = bench.id()?;
    let mut consoles = bench.client.consoles();
    let (first_hand, first) = opening(id.clone(), false);
    let mut first = consoles.open_serial_console(first).await?.into_inner();
    let (_second_hand, second) = opening(id.clone(), false);
    let outcome = match consoles.open_serial_console(second).await {
        Ok(second) => second.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    refused(outcome, (Code::Aborted, "CONSOLE_BUSY"))?;
    let (_third_hand, third) = opening(id, true);
    let _third = consoles.open_serial_console(third).await?;
    let taken = async {
        loop {
            match first.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(status) => return Err(status),
            }
        }
    };
    let late = |_| Err(tonic::Status::deadline_exceeded("it keeps the port"));
    let taken = tokio::time::timeout(PATIENCE, taken)
        .await
        .unwrap_or_else(late);
    drop(first_hand);
    refused(taken, (Code::Aborted, "CONSOLE_TAKEN")).map(drop)
}

async fn screen(bench: &Bench) -> Verdict {
    let open = v1::VncConsoleOpen {
        instance_id: bench.id()?,
    };
    let first = v1::OpenVncConsoleRequest {
        event: Some(v1::open_vnc_console_request::Event::Open(open)),
    };
    let sent = tokio_stream::once(first).chain(tokio_stream::pending());
    let mut shown = bench
        .client
        .consoles()
        .open_vnc_console(sent)
        .await?
        .into_inner();
    let mut greeting = Vec::new();
    while greeting.len() < 12 {
        let Some(message) = shown.message().await? else {
            break;
        };
        greeting.extend(message.data);
    }
    hold!(
        greeting.starts_with(b"RFB 003."),
        "it begins with {greeting:?}"
    );
    Ok(())
}

async fn access(bench: &Bench) -> Verdict {
    let kind = v1::ConsoleKind::Vnc;
    let request = v1::GetConsolePoolInfoRequest { kind: kind.into() };
    let pool = match bench.client.consoles().get_console_pool_info(request).await {
        Ok(pool) => pool.into_inner(),
        Err(status) => {
            refused(
                Err::<(), _>(status),
                (Code::FailedPrecondition, "NOT_SUPPORTED"),
            )?;
            return Err(Fault::Skipped("the host has no console proxy".to_owned()));
        }
    };
    let request = v1::GetConsoleAccessRequest {
        instance_id: bench.id()?,
        kind: kind.into(),
    };
    let told = bench
        .client
        .consoles()
        .get_console_access(request)
        .await?
        .into_inner();
    hold!(
        (&told.host, told.port) == (&pool.host, pool.port),
        "it is at another place than the proxy"
    );
    hold!(
        !told.token.is_empty() && told.expire_time.is_some(),
        "it has no token, or for ever"
    );
    Ok(())
}

//! Consoles carried both ways on one call.

use std::time::Duration;

use bytes::Bytes;
use computedriver::v1;
use futures::{Stream, StreamExt, stream};
use tonic::{Status, Streaming};

use crate::{
    api::{
        Api, convert,
        operation::heartbeat,
        status::status,
        stream::{Answers, HEARTBEAT},
    },
    error::{Error, Kind},
    operation::OperationError,
    session::Claim,
};

/// Long enough for any way to the host; a call that never says what it opens must not stay.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// The contract's limit of a message.
const DATA_MAX: usize = 64 << 10;

/// What a caller's message says.
enum Said<O> {
    Open(O),
    Data(Bytes),
    Nothing,
}

fn wrong(message: impl Into<String>, field: &str) -> Error {
    Error::new(Kind::Invalid, "INVALID_REQUEST", message).with("field", field)
}

/// The first message, which opens.
async fn first<M, O>(messages: &mut Streaming<M>, read: impl Fn(M) -> Said<O>) -> Result<O, Error> {
    let missing = || wrong("open is required in the first message", "open");
    let message = tokio::time::timeout(OPEN_WITHIN, messages.message()).await;
    match message.map_err(|_| missing())? {
        Ok(Some(message)) => match read(message) {
            Said::Open(open) => Ok(open),
            Said::Data(_) | Said::Nothing => Err(missing()),
        },
        // One that cannot be read is as one that is not there; a caller that left hears neither.
        Ok(None) | Err(_) => Err(missing()),
    }
}

/// What later messages type, until the caller leaves or says something else.
fn typed<M: Send + 'static, O>(
    messages: Streaming<M>,
    read: impl Fn(M) -> Said<O> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let left = |message: &Result<M, Status>| std::future::ready(message.is_ok());
    let messages = messages
        .take_while(left)
        .filter_map(|m| std::future::ready(m.ok()));
    messages.map(move |message| match read(message) {
        Said::Data(bytes) if bytes.len() <= DATA_MAX => Ok(bytes),
        Said::Data(bytes) => Err(wrong(
            format!(
                "data has {} bytes, at most {DATA_MAX} are taken",
                bytes.len()
            ),
            "data",
        )),
        Said::Open(_) => Err(wrong("open is for the first message only", "open")),
        Said::Nothing => Err(wrong("data is required", "data")),
    })
}

fn of_serial(message: v1::OpenSerialConsoleRequest) -> Said<v1::SerialConsoleOpen> {
    use v1::open_serial_console_request::Event;
    match message.event {
        Some(Event::Open(open)) => Said::Open(open),
        Some(Event::Data(data)) => Said::Data(data.into()),
        None => Said::Nothing,
    }
}

fn of_screen(message: v1::OpenVncConsoleRequest) -> Said<v1::VncConsoleOpen> {
    use v1::open_vnc_console_request::Event;
    match message.event {
        Some(Event::Open(open)) => Said::Open(open),
        Some(Event::Data(data)) => Said::Data(data.into()),
        None => Said::Nothing,
    }
}

/// A session at a serial port.
pub(super) async fn serial(
    api: &Api,
    mut messages: Streaming<v1::OpenSerialConsoleRequest>,
) -> Result<Answers<v1::OpenSerialConsoleResponse>, Error> {
    use v1::open_serial_console_response::Event;
    let open = first(&mut messages, of_serial).await?;
    let id = convert::instance_id(&open.instance_id)?;
    let claim = if open.force {
        Claim::Force
    } else {
        Claim::Free
    };
    let typed = typed(messages, of_serial);
    let serial = api.sessions.serial((id, open.port), claim, typed).await?;
    let open = Some((serial, api.drain.clone()));
    Ok(Box::pin(stream::unfold(open, async |open| {
        let (mut serial, drain) = open?;
        // Biased: a guest that writes for ever must not hide the server's end.
        let next = tokio::select! {
            biased;
            () = drain.cancelled() => Err(OperationError::Draining.into()),
            next = serial.next() => next?.map(|bytes| Event::Data(bytes.to_vec())),
            () = tokio::time::sleep(HEARTBEAT) => Ok(Event::Heartbeat(heartbeat())),
        };
        let rest = next.is_ok().then_some((serial, drain));
        let answer = |event| v1::OpenSerialConsoleResponse { event: Some(event) };
        Some((next.map(answer).map_err(|e| status(&e)), rest))
    })))
}

/// A session at a screen.
pub(super) async fn screen(
    api: &Api,
    mut messages: Streaming<v1::OpenVncConsoleRequest>,
) -> Result<Answers<v1::OpenVncConsoleResponse>, Error> {
    let open = first(&mut messages, of_screen).await?;
    let id = convert::instance_id(&open.instance_id)?;
    let screen = api.sessions.screen(id, typed(messages, of_screen)).await?;
    let open = Some((screen, api.drain.clone()));
    Ok(Box::pin(stream::unfold(open, async |open| {
        let (mut screen, drain) = open?;
        // Biased: as above.
        let next = tokio::select! {
            biased;
            () = drain.cancelled() => Err(OperationError::Draining.into()),
            next = screen.next() => next?,
        };
        let rest = next.is_ok().then_some((screen, drain));
        let answer = |bytes: Bytes| v1::OpenVncConsoleResponse {
            data: bytes.to_vec(),
        };
        Some((next.map(answer).map_err(|e| status(&e)), rest))
    })))
}

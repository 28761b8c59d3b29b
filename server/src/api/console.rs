//! ConsoleService: the log here, sessions and access in files of their own.

mod access;
mod line;

use computedriver::v1::{self, console_service_server::ConsoleService};
use futures::{StreamExt, stream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Api, convert,
    operation::heartbeat,
    status::status,
    stream::{Answers, HEARTBEAT},
};
use crate::{
    console::{ConsoleLog, Until},
    error::{Error, Kind},
    hypervisor::HypervisorError,
    operation::OperationError,
    plan,
};

type Reply<T> = Result<Response<T>, Status>;

/// A tail when the caller does not say: Nova's 100 kB.
const TAIL: u64 = 100 << 10;
/// The longest tail: it must fit one message.
const TAIL_MAX: u64 = 1 << 20;

impl Api {
    fn log(&self, id: &str) -> Result<ConsoleLog, Error> {
        let id = convert::instance_id(id)?;
        if self.host.store.instance(id).is_none() {
            return Err(HypervisorError::NotFound(id).into());
        }
        Ok(ConsoleLog::new(
            self.host.paths.instance(id).join(plan::CONSOLE_LOG),
        ))
    }

    async fn tail(
        &self,
        asked: &v1::GetConsoleOutputRequest,
    ) -> Result<v1::GetConsoleOutputResponse, Error> {
        let max = match asked.tail_bytes {
            0 => TAIL,
            bytes => u64::from(bytes).min(TAIL_MAX),
        };
        let Some(tail) = self.log(&asked.instance_id)?.tail(max).await? else {
            return Ok(v1::GetConsoleOutputResponse::default());
        };
        let skip = match asked.tail_lines {
            0 => 0,
            lines => lines_from(&tail.bytes, lines),
        };
        let offset = tail.offset + skip as u64;
        Ok(v1::GetConsoleOutputResponse {
            output: tail.bytes.slice(skip..).to_vec(),
            offset,
            truncated: offset > 0,
        })
    }

    async fn start(
        &self,
        log: &ConsoleLog,
        start: Option<v1::stream_console_output_request::Start>,
    ) -> Result<u64, Error> {
        use v1::stream_console_output_request::Start;
        let end = log.end().await?.unwrap_or(0);
        match start {
            None => Ok(0),
            Some(Start::TailBytes(bytes)) => Ok(end.saturating_sub(bytes)),
            Some(Start::Offset(offset)) if offset <= end => Ok(offset),
            Some(Start::Offset(offset)) => {
                let message = format!("offset {offset} lies behind the console's end at {end}");
                Err(Error::new(Kind::OutOfRange, "CONSOLE_OFFSET", message)
                    .with("offset", offset)
                    .with("end", end))
            }
        }
    }
}

/// Where the last `lines` lines begin.
fn lines_from(bytes: &[u8], lines: u32) -> usize {
    let ends = bytes
        .iter()
        .enumerate()
        .rev()
        .filter(|(at, byte)| **byte == b'\n' && *at + 1 < bytes.len());
    let lines = usize::try_from(lines).unwrap_or(usize::MAX);
    ends.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0)
}

#[tonic::async_trait]
impl ConsoleService for Api {
    async fn get_console_output(
        &self,
        request: Request<v1::GetConsoleOutputRequest>,
    ) -> Reply<v1::GetConsoleOutputResponse> {
        self.tail(request.get_ref())
            .await
            .map(Response::new)
            .map_err(|e| status(&e))
    }

    async fn stream_console_output(
        &self,
        request: Request<v1::StreamConsoleOutputRequest>,
    ) -> Reply<Answers<v1::StreamConsoleOutputResponse>> {
        use v1::stream_console_output_response::Event;
        let request = request.into_inner();
        let log = self.log(&request.instance_id).map_err(|e| status(&e))?;
        let from = self
            .start(&log, request.start)
            .await
            .map_err(|e| status(&e))?;
        let until = if request.follow {
            Until::Removed
        } else {
            Until::End
        };
        let chunks = Box::pin(log.follow(&self.host.watcher, from, until));
        let drain = self.drain.clone();
        let events = stream::unfold(Some(chunks), move |chunks| {
            let drain = drain.clone();
            async move {
                let mut chunks = chunks?;
                // Biased: what the guest has written is told before the server's end is.
                let next = tokio::select! {
                    biased;
                    chunk = chunks.next() => match chunk? {
                        Ok(chunk) => Ok(Event::Chunk(v1::ConsoleChunk {
                            offset: chunk.offset,
                            data: chunk.bytes.to_vec(),
                            truncated: chunk.truncated,
                        })),
                        Err(e) => Err(status(&e.into())),
                    },
                    () = drain.cancelled() => Err(status(&OperationError::Draining.into())),
                    () = tokio::time::sleep(HEARTBEAT) => Ok(Event::Heartbeat(heartbeat())),
                };
                let rest = next.is_ok().then_some(chunks);
                Some((next, rest))
            }
        });
        let answers = events
            .map(|event| event.map(|event| v1::StreamConsoleOutputResponse { event: Some(event) }));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn open_serial_console(
        &self,
        request: Request<Streaming<v1::OpenSerialConsoleRequest>>,
    ) -> Reply<Answers<v1::OpenSerialConsoleResponse>> {
        let opened = line::serial(self, request.into_inner()).await;
        opened.map(Response::new).map_err(|e| status(&e))
    }

    async fn open_vnc_console(
        &self,
        request: Request<Streaming<v1::OpenVncConsoleRequest>>,
    ) -> Reply<Answers<v1::OpenVncConsoleResponse>> {
        let opened = line::screen(self, request.into_inner()).await;
        opened.map(Response::new).map_err(|e| status(&e))
    }

    async fn get_console_access(
        &self,
        request: Request<v1::GetConsoleAccessRequest>,
    ) -> Reply<v1::GetConsoleAccessResponse> {
        let granted = access::grant(self, request.get_ref()).await;
        granted.map(Response::new).map_err(|e| status(&e))
    }

    async fn get_console_pool_info(
        &self,
        request: Request<v1::GetConsolePoolInfoRequest>,
    ) -> Reply<v1::GetConsolePoolInfoResponse> {
        let told = access::pool(self, request.get_ref());
        told.map(Response::new).map_err(|e| status(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_begin_behind_an_end_of_line() {
        for (bytes, lines, from) in [
            ("a\nb\nc\n", 1, 4),
            ("a\nb\nc", 2, 2),
            ("a\nb\n", 9, 0),
            ("", 1, 0),
        ] {
            assert_eq!(
                lines_from(bytes.as_bytes(), lines),
                from,
                "{bytes:?} {lines}"
            );
        }
    }
}

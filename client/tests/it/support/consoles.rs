//! Consoles of the host in memory: a log, and a guest that says again what it is told.

use computedriver_client::v1;
use computedriver_client::v1::console_service_server::ConsoleService;
use computedriver_client::v1::open_serial_console_request::Event as Said;
use computedriver_client::v1::open_serial_console_response::Event as Told;
use computedriver_client::v1::{
    open_vnc_console_request, stream_console_output_request, stream_console_output_response,
};
use futures::{StreamExt as _, stream};
use tonic::{Code, Request, Response, Status, Streaming, async_trait};

use super::host::{Events, Host, Reply};
use super::make;

/// What the guest greets with: another screen, in red, and no cursor.
const GREETING: &[u8] = b"\x1b[?47h\x1b[?25l\x1b[31mlogin: ";

fn told(bytes: &[u8]) -> Result<v1::OpenSerialConsoleResponse, Status> {
    let event = Some(Told::Data(bytes.to_vec()));
    Ok(v1::OpenSerialConsoleResponse { event })
}

/// The guest's answer; none when it hangs up.
fn answer(typed: &[u8]) -> Option<Vec<u8>> {
    match typed {
        b"\x03" => Some(b"interrupted".to_vec()),
        _ if typed.ends_with(b"bye") => None,
        typed => Some(typed.to_vec()),
    }
}

#[async_trait]
impl ConsoleService for Host {
    async fn stream_console_output(
        &self,
        request: Request<v1::StreamConsoleOutputRequest>,
    ) -> Reply<Events<v1::StreamConsoleOutputResponse>> {
        use stream_console_output_request::Start;
        self.begin("StreamConsoleOutput")?;
        let log = self.console();
        let end = log.len() as u64;
        let start = match request.into_inner().start {
            None => 0,
            Some(Start::Offset(offset)) => offset,
            Some(Start::TailBytes(bytes)) => end.saturating_sub(bytes),
        };
        let chunks: Vec<_> = (start..end)
            .step_by(4)
            .map(|offset| {
                let from = usize::try_from(offset).expect("a small log");
                let data = log[from..log.len().min(from + 4)].to_vec();
                let chunk = v1::ConsoleChunk {
                    offset,
                    data,
                    truncated: false,
                };
                Ok(v1::StreamConsoleOutputResponse {
                    event: Some(stream_console_output_response::Event::Chunk(chunk)),
                })
            })
            .collect();
        self.cut(stream::iter(chunks))
    }

    async fn open_serial_console(
        &self,
        request: Request<Streaming<v1::OpenSerialConsoleRequest>>,
    ) -> Reply<Events<v1::OpenSerialConsoleResponse>> {
        self.begin("OpenSerialConsole")?;
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|message| message.event);
        let Some(Said::Open(open)) = first else {
            return Err(Status::invalid_argument("open is required"));
        };
        if open.port != 0 && !open.force {
            let busy = "another client holds the console";
            return Err(make::error(Code::Aborted, "CONSOLE_BUSY", busy));
        }
        let typed = messages.filter_map(|message| async {
            match message.ok()?.event? {
                Said::Data(bytes) => Some(bytes),
                Said::Open(_) => None,
            }
        });
        let answers = typed.map(|typed| answer(&typed));
        let answers = answers.take_while(|answer| std::future::ready(answer.is_some()));
        let answers = answers.map(|answer| told(&answer.unwrap_or_default()));
        let greeting = stream::iter([told(GREETING)]);
        Ok(Response::new(greeting.chain(answers).boxed()))
    }

    async fn open_vnc_console(
        &self,
        request: Request<Streaming<v1::OpenVncConsoleRequest>>,
    ) -> Reply<Events<v1::OpenVncConsoleResponse>> {
        use open_vnc_console_request::Event;
        self.begin("OpenVncConsole")?;
        let hello = b"RFB 003.008\n".to_vec();
        let hello = stream::iter([Ok(v1::OpenVncConsoleResponse { data: hello })]);
        let echo = request.into_inner().filter_map(|message| async {
            match message.ok()?.event? {
                Event::Data(data) => Some(Ok(v1::OpenVncConsoleResponse { data })),
                Event::Open(_) => None,
            }
        });
        Ok(Response::new(hello.chain(echo).boxed()))
    }

    async fn get_console_access(
        &self,
        request: Request<v1::GetConsoleAccessRequest>,
    ) -> Reply<v1::GetConsoleAccessResponse> {
        self.begin("GetConsoleAccess")?;
        Ok(Response::new(v1::GetConsoleAccessResponse {
            kind: request.into_inner().kind,
            host: "::1".into(),
            port: 6080,
            token: "opensesame".into(),
            expire_time: make::time(600),
        }))
    }

    async fn get_console_pool_info(
        &self,
        _: Request<v1::GetConsolePoolInfoRequest>,
    ) -> Reply<v1::GetConsolePoolInfoResponse> {
        self.begin("GetConsolePoolInfo")?;
        Ok(Response::new(v1::GetConsolePoolInfoResponse {
            host: "console.example".into(),
            port: 6080,
        }))
    }
}

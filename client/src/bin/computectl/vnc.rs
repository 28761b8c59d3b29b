//! `computectl vnc`: the guest's screen at a port of this machine, for a VNC viewer.

use std::io::Write as _;
use std::net::Ipv4Addr;

use clap::Args;
use computedriver_client::v1::open_vnc_console_request::Event;
use computedriver_client::{Client, Kind, v1};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::args::Session;
use crate::console::told_to_end;
use crate::exit::Failure;
use crate::out::Out;

/// What is read of a viewer at once; less than the contract's 65536.
const ROOM: usize = 16 << 10;
/// Messages of a viewer that may wait for the server: keys and pointer are small, and a paste waits at the viewer.
const WAITING: usize = 4;

#[derive(Debug, Args)]
pub(crate) struct VncArgs {
    /// UUID of the instance.
    instance: String,
    /// Port on this machine's loopback. Default: one that is free.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

pub(crate) async fn run(args: VncArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let client = session.connect().await?;
    // Whoever names no guest, or one without a screen, is told before a viewer is started.
    drop(open(&client, &args.instance).await?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await?;
    let address = listener.local_addr()?;
    if out.is_json() {
        out.object(&json!({"vnc": {"address": address.to_string()}}))?;
    } else {
        out.line(address)?;
    }
    let mut viewers = JoinSet::new();
    let mut end = std::pin::pin!(told_to_end());
    loop {
        tokio::select! {
            // In order: leaving, then what ended, then who comes.
            biased;
            end = &mut end => return end,
            Some(viewer) = viewers.join_next() => after(viewer)?,
            viewer = listener.accept() => {
                let (client, instance) = (client.clone(), args.instance.clone());
                viewers.spawn(carry(viewer?.0, client, instance));
            }
        }
    }
}

/// What a viewer's end means for the rest: without the instance there is nothing more to show.
fn after(viewer: Result<Result<(), Failure>, tokio::task::JoinError>) -> Result<(), Failure> {
    match viewer {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Failure::Call(e))) if e.kind() == Kind::NotFound => Err(Failure::Call(e)),
        Ok(Err(failure)) => {
            let sentence = failure.json()["message"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            // With stderr gone there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "a viewer lost its screen: {sentence}");
            Ok(())
        }
        Err(e) => Err(std::io::Error::other(e).into()),
    }
}

type Line = (
    mpsc::Sender<v1::OpenVncConsoleRequest>,
    Streaming<v1::OpenVncConsoleResponse>,
);

async fn open(client: &Client, instance: &str) -> Result<Line, Failure> {
    let (keys, typed) = mpsc::channel(WAITING);
    let open = Event::Open(v1::VncConsoleOpen {
        instance_id: instance.to_owned(),
    });
    let requests = tokio_stream::once(said(open)).chain(ReceiverStream::new(typed));
    let answer = client.consoles().open_vnc_console(requests).await?;
    Ok((keys, answer.into_inner()))
}

fn said(event: Event) -> v1::OpenVncConsoleRequest {
    v1::OpenVncConsoleRequest { event: Some(event) }
}

/// Carries one viewer until it, or the screen, ends.
async fn carry(viewer: TcpStream, client: Client, instance: String) -> Result<(), Failure> {
    viewer.set_nodelay(true)?;
    let (keys, screen) = open(&client, &instance).await?;
    let (from, to) = viewer.into_split();
    // Each direction waits for its own reader only.
    tokio::select! {
        () = press(from, keys) => Ok(()),
        shown = show(screen, to) => shown,
    }
}

async fn press(mut from: OwnedReadHalf, keys: mpsc::Sender<v1::OpenVncConsoleRequest>) {
    let mut room = vec![0; ROOM];
    while let Ok(count @ 1..) = from.read(&mut room).await {
        if keys
            .send(said(Event::Data(room[..count].to_vec())))
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn show(
    mut screen: Streaming<v1::OpenVncConsoleResponse>,
    mut to: OwnedWriteHalf,
) -> Result<(), Failure> {
    while let Some(answer) = screen.message().await? {
        if to.write_all(&answer.data).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

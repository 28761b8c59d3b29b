//! The `computelet` binary.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use computelet::{
    app::App,
    config::{Config, Flag, Layers},
    telemetry,
};

#[derive(Parser)]
struct Args {
    command: String,
    #[arg(long)]
    config: Option<PathBuf>,
    #[arg(long)]
    state_dir: Option<String>,
    #[arg(long)]
    listen: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut flags = Vec::new();
    if let Some(dir) = args.state_dir {
        flags.push(Flag {
            flag: "--state-dir",
            key: "state_dir".into(),
            values: vec![dir],
        });
    }
    if !args.listen.is_empty() {
        flags.push(Flag {
            flag: "--listen",
            key: "listen".into(),
            values: args.listen,
        });
    }
    let layers = Layers::default()
        .file(args.config.as_deref())
        .variables(std::env::vars())
        .flags(flags);
    let config = match Config::load(&layers) {
        Ok(c) => c,
        Err(e) => {
            tracing::error!("{e}");
            return ExitCode::from(64);
        }
    };
    telemetry::init(&config.log).expect("the server can begin");
    let app = match App::build(&config).await {
        Ok(a) => a,
        Err(e) => {
            tracing::error!("{e}");
            return ExitCode::FAILURE;
        }
    };
    let work = app.work();
    let path = config.state_dir.join("computelet.sock");
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).expect("the server can begin");
    let drain = app.drain().clone();
    let mut router =
        tonic::transport::Server::builder().layer(computelet::api::capability::CapabilityLayer);
    let router = router.add_routes(app.api().routes());
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .expect("the server can begin");
    router
        .serve_with_incoming_shutdown(
            tokio_stream::wrappers::UnixListenerStream::new(listener),
            async move {
                term.recv().await;
                drain.cancel();
            },
        )
        .await
        .expect("the server can begin");
    app.end(work).await;
    ExitCode::SUCCESS
}

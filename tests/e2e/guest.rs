//! Inside guests, through the real agent: what it tells, and what is told when it does not.

use std::time::{Duration, Instant};

use computedriver::v1;
use tonic::Code;

use crate::support::{Sandbox, guest_request, reason, until};

mod changed;
mod frozen;
mod still;
mod told;

/// Longer than libvirt waits for a sign of life, shorter than a caller's usual patience.
const SOON: Duration = Duration::from_secs(15);

/// A guest whose first words after its start are `script`'s; `mark` is the last of them.
fn scripted(script: &str, mark: &str) -> v1::SpawnRequest {
    v1::SpawnRequest {
        user_data: format!("#!/bin/sh\n{script}\necho {mark} > /dev/console\n").into_bytes(),
        ..guest_request(mark)
    }
}

/// A guest whose agent answers.
async fn with_agent(sandbox: &Sandbox) -> String {
    let request = v1::SpawnRequest {
        wait_for: Some(v1::WaitFor {
            timeout: Some(prost_types::Duration {
                seconds: 170,
                nanos: 0,
            }),
            condition: Some(v1::wait_for::Condition::Phase(v1::BootPhase::Agent.into())),
        }),
        ..guest_request("")
    };
    let (instance, _) = sandbox.spawn(request).await.expect("a guest");
    instance.instance_id
}

fn of(id: &str) -> v1::GetGuestInfoRequest {
    v1::GetGuestInfoRequest {
        instance_id: id.to_owned(),
    }
}

/// All that the guest has written on its console.
async fn console(sandbox: &Sandbox, id: &str) -> String {
    let request = v1::GetConsoleOutputRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    let told = sandbox.console().await.get_console_output(request).await;
    String::from_utf8_lossy(&told.expect("a console").into_inner().output).into_owned()
}

/// Waits until the console shows it.
async fn shown(sandbox: &Sandbox, id: &str, words: &str) {
    until(words, async || {
        console(sandbox, id).await.contains(words).then_some(())
    })
    .await;
}

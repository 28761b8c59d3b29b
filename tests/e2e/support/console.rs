//! What guests say on their consoles.

use computedriver::v1;

use super::{Sandbox, until};

/// What the guest has said on its console, when it has said `words` so often.
pub async fn said(sandbox: &Sandbox, id: &str, words: &str, times: usize) -> String {
    let console = || async {
        let asked = v1::GetConsoleOutputRequest {
            instance_id: id.to_owned(),
            ..Default::default()
        };
        let output = sandbox.console().await.get_console_output(asked).await;
        let output = output.unwrap().into_inner().output;
        let output = String::from_utf8_lossy(&output).into_owned();
        (output.matches(words).count() >= times).then_some(output)
    };
    until(&format!("{words:?} on the console"), console).await
}

//! Web servers: a client that trusts whom the host trusts, and does not wait for one that has fallen silent.

use std::{future::Future, time::Duration};

use reqwest::{Client, redirect::Policy};

use crate::error::chain;

/// Mirrors send on to a mirror, a few times at most.
const MAX_REDIRECTS: usize = 5;

/// A client that gives a server so long to accept a connection.
pub fn client(connect: Duration) -> Client {
    // Someone else in this process may have chosen the same provider before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        Client::builder()
            .user_agent(concat!("computelet/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect)
            .redirect(Policy::custom(|attempt| {
                let secure = attempt.previous().iter().any(|url| url.scheme() == "https");
                if attempt.previous().len() > MAX_REDIRECTS {
                    attempt.error("too many redirects")
                } else if secure && attempt.url().scheme() != "https" {
                    attempt.error("redirected from https to http")
                } else {
                    attempt.follow()
                }
            }))
    };
    builder().build().unwrap_or_else(|e| {
        tracing::warn!(error = %chain(&e), "no certificate authorities on this host; https will fail");
        let nobody = builder().tls_certs_only([]).build();
        nobody.expect("a client that trusts nobody needs nothing of the host")
    })
}

/// Waits for the server's next word; says what went wrong without the address, which may hold secrets.
///
/// # Errors
/// What went wrong, in words.
pub async fn unless_silent<T>(
    idle: Duration,
    next: impl Future<Output = reqwest::Result<T>>,
    done: u64,
) -> Result<T, String> {
    match tokio::time::timeout(idle, next).await {
        Ok(Ok(word)) => Ok(word),
        Ok(Err(e)) => Err(format!("{} after {done} bytes", chain(&e.without_url()))),
        Err(_) => {
            let limit = idle.as_secs_f32();
            Err(format!(
                "the server stalled: nothing for {limit} s after {done} bytes"
            ))
        }
    }
}

//! Where a server is: `unix:/path/of/socket` or `http://host:port`.

use std::env;

use tonic::transport;

use crate::error::Error;

/// The environment variable that names the server.
pub const ENDPOINT_VARIABLE: &str = "COMPUTELET_ENDPOINT";

/// Where computelet listens when neither its config nor the caller's environment says otherwise.
pub const DEFAULT_ENDPOINT: &str = "unix:/var/lib/computelet/computelet.sock";

/// The server that the environment names, else the well-known socket.
///
/// ```
/// let endpoint = computedriver_client::default_endpoint();
/// assert!(!endpoint.is_empty());
/// ```
#[must_use]
pub fn default_endpoint() -> String {
    env::var(ENDPOINT_VARIABLE)
        .ok()
        .filter(|named| !named.is_empty())
        .unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned())
}

/// Reads an address; whatever is not one of the two forms is refused with the reason.
pub(crate) fn parse(address: &str) -> Result<transport::Endpoint, Error> {
    let wrong = |why: &str| Error::usage(format!("endpoint `{address}` {why}"), "endpoint");
    if let Some(path) = address.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') {
            return Err(wrong("is not `unix:` and an absolute path"));
        }
        return transport::Endpoint::from_shared(format!("unix:{path}"))
            // A socket has no host name, and a path is no valid authority.
            .map(|endpoint| endpoint.origin(http::Uri::from_static("http://localhost")))
            .map_err(|_| wrong("cannot be read"));
    }
    if address.starts_with("https:") {
        return Err(wrong("asks for TLS, which this client does not speak yet"));
    }
    if !address.starts_with("http://") {
        return Err(wrong("is neither `unix:/path` nor `http://host:port`"));
    }
    let endpoint = transport::Endpoint::from_shared(address.to_owned())
        .map_err(|_| wrong("is no valid address"))?;
    match endpoint.uri().port() {
        Some(_) => Ok(endpoint),
        None => Err(wrong("names no port")),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::Kind;

    #[test]
    fn sockets_and_plain_http_are_understood() {
        for good in [
            "unix:/run/a.sock",
            "unix:///run/a.sock",
            "http://127.0.0.1:9000",
            "http://[::1]:9000",
        ] {
            parse(good).unwrap_or_else(|e| panic!("{good}: {e}"));
        }
    }

    #[test]
    fn other_addresses_are_refused_with_the_reason() {
        for (bad, why) in [
            ("unix:relative.sock", "absolute"),
            ("https://host:1", "TLS"),
            ("127.0.0.1:9000", "neither"),
            ("http://127.0.0.1", "port"),
            ("", "neither"),
        ] {
            let error = parse(bad).expect_err(bad);
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}

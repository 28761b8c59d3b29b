//! Where to send to and as whom: our own settings, then OpenTelemetry's standard variables.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::Resource;
use percent_encoding::percent_decode_str;

use crate::config;

/// OpenTelemetry's default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What in OpenTelemetry's variables cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The endpoint is no address. It may hold a password, so it is not told.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT is no http:// or https:// address of a collector")]
    Endpoint,
    /// The headers are not `name=value,…`. They may hold a secret, so they are not told.
    #[error("OTEL_EXPORTER_OTLP_HEADERS is not a list of name=value")]
    Headers,
    /// The time limit is no number, or so short that nothing could be sent.
    #[error("OTEL_EXPORTER_OTLP_TIMEOUT is no number of milliseconds above 0: {0:?}")]
    Timeout(String),
}

/// How a collector is reached, and what it is told of us.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) endpoint: String,
    /// Sent with every message; may hold a secret.
    pub(super) headers: HeaderMap,
    /// How long one message may take.
    pub(super) timeout: Duration,
    pub(super) resource: Resource,
    pub(super) sample_ratio: f64,
    pub(super) interval: Duration,
}

impl Settings {
    /// The collector as it may be told: an address may hold a password.
    pub(super) fn place(&self) -> String {
        let url = url::Url::parse(&self.endpoint).ok();
        let host = url.as_ref().and_then(url::Url::host_str);
        host.unwrap_or_default().to_owned()
    }

    /// What is to be sent where; none when nowhere. `variable` reads the environment.
    pub(super) fn resolve(
        ours: &config::Telemetry,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, SettingsError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let disabled = variable("OTEL_SDK_DISABLED");
        if disabled.is_some_and(|word| word.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let endpoint = match &ours.otlp_endpoint {
            Some(config::Text(endpoint)) => Some(endpoint.clone()),
            None => variable("OTEL_EXPORTER_OTLP_ENDPOINT"),
        };
        let Some(endpoint) = endpoint else {
            return Ok(None);
        };
        if !url::Url::parse(&endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            return Err(SettingsError::Endpoint);
        }
        let timeout = match variable("OTEL_EXPORTER_OTLP_TIMEOUT") {
            None => TIMEOUT,
            Some(text) => match text.parse() {
                Ok(millis @ 1..) => Duration::from_millis(millis),
                Ok(0) | Err(_) => return Err(SettingsError::Timeout(text)),
            },
        };
        let headers = variable("OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default();
        Ok(Some(Self {
            endpoint,
            headers: self::headers(&headers).ok_or(SettingsError::Headers)?,
            timeout,
            resource: resource(),
            sample_ratio: ours.sample_ratio,
            interval: ours.export_interval,
        }))
    }
}

fn headers(text: &str) -> Option<HeaderMap> {
    let pairs = text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    let read = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((name.trim().parse::<HeaderName>().ok()?, value))
    };
    pairs.map(read).collect()
}

/// Who we are: `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME`, which the SDK reads, over what we know ourselves.
fn resource() -> Resource {
    let said = Resource::builder().build();
    let node = rustix::system::uname();
    let known = [
        ("service.name", "computelet".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("host.name", node.nodename().to_string_lossy().into_owned()),
    ];
    let unsaid = |key: &'static str| {
        let value = said.get(&Key::from_static_str(key));
        value.is_none_or(|value| value.as_str().starts_with("unknown_service"))
    };
    let known = known.into_iter().filter(|(key, _)| unsaid(key));
    let known = known.map(|(key, value)| KeyValue::new(key, value));
    Resource::builder().with_attributes(known).build()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pretty_assertions::assert_eq;

    use super::{Settings, SettingsError};
    use crate::config::{Telemetry, Text};

    fn ours(endpoint: Option<&str>) -> Telemetry {
        Telemetry {
            otlp_endpoint: endpoint.map(|text| Text(text.to_owned())),
            sample_ratio: 1.0,
            export_interval: Duration::from_secs(1),
        }
    }

    fn resolve(
        endpoint: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Result<Option<Settings>, SettingsError> {
        Settings::resolve(&ours(endpoint), |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_is_sent_unless_somebody_names_a_collector() {
        assert!(resolve(None, &[]).unwrap().is_none());
        assert!(
            resolve(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")])
                .unwrap()
                .is_none()
        );
        let off = [("OTEL_SDK_DISABLED", "true")];
        assert!(resolve(Some("http://a:4317"), &off).unwrap().is_none());
    }

    #[test]
    fn a_time_limit_in_which_nothing_could_be_sent_is_refused() {
        for wrong in ["0", "soon", "-1"] {
            let variable = [("OTEL_EXPORTER_OTLP_TIMEOUT", wrong)];
            let refused = resolve(Some("http://a:1"), &variable);
            assert!(matches!(refused, Err(SettingsError::Timeout(told)) if told == wrong));
        }
    }

    #[test]
    fn our_setting_wins_over_the_variable() {
        let variable = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://variable:4317")];
        let endpoint = |ours| resolve(ours, &variable).unwrap().unwrap().endpoint;
        assert_eq!(endpoint(None), "http://variable:4317");
        assert_eq!(endpoint(Some("http://ours:4317")), "http://ours:4317");
    }

    #[test]
    fn headers_are_read_and_a_secret_in_them_is_not_shown() {
        let variables = [
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer%20s3cret, x-tenant=a",
            ),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
        ];
        let settings = resolve(Some("http://a:1"), &variables).unwrap().unwrap();
        assert_eq!(settings.headers["authorization"], "Bearer s3cret");
        assert_eq!(settings.headers["x-tenant"], "a");
        assert_eq!(settings.timeout, Duration::from_millis(250));
        assert!(!format!("{:?}", settings.headers).contains("s3cret"));
    }

    #[test]
    fn a_secret_in_what_cannot_be_used_is_not_told() {
        let headers = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
        ];
        let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://me:s3cret@a:1")];
        for broken in [&headers[..], &endpoint] {
            let fault = resolve(None, broken).err().unwrap();
            assert!(!format!("{fault} {fault:?}").contains("s3cret"));
        }
    }
}

//! The collector at the other end: one connection, made when it is needed, and a time limit for each message.

use std::{fmt, sync::Arc, time::SystemTime};

use opentelemetry::InstrumentationScope;
use opentelemetry_proto::{
    tonic::{
        collector::{
            logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
            metrics::v1::{
                ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient,
            },
            trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
        },
        metrics::v1::{ResourceMetrics, ScopeMetrics},
        resource::v1::Resource,
    },
    transform::{
        common::tonic::ResourceAttributesWithSchema, logs::tonic::group_logs_by_resource_and_scope,
        trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{logs::LogBatch, trace::SpanData};
use tonic::{
    Request, Status,
    metadata::MetadataMap,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use super::{record::Record, series, settings::Settings};
use crate::metrics::{Metric, TELEMETRY_EXPORTS};

type Client = InterceptedService<Channel, Headers>;

/// The three services of a collector. Clones share the connection.
#[derive(Clone)]
pub(super) struct Collector {
    client: Client,
    resource: Arc<ResourceAttributesWithSchema>,
    settings: Settings,
    started: SystemTime,
}

#[derive(Clone)]
struct Headers(MetadataMap);

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        *request.metadata_mut() = self.0.clone();
        Ok(request)
    }
}

impl Collector {
    /// A collector that is not connected yet. Needs a runtime.
    pub(super) fn new(settings: Settings) -> Result<Self, tonic::transport::Error> {
        let mut endpoint =
            Endpoint::from_shared(settings.endpoint.clone())?.connect_timeout(settings.timeout);
        if settings.endpoint.starts_with("https") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
        }
        let headers = Headers(MetadataMap::from_headers(settings.headers.clone()));
        Ok(Self {
            client: InterceptedService::new(endpoint.connect_lazy(), headers),
            resource: Arc::new((&settings.resource).into()),
            settings,
            started: SystemTime::now(),
        })
    }

    /// Sends spans; answers whether they were taken.
    pub(super) async fn spans(&self, spans: Vec<SpanData>) -> bool {
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        let mut client = TraceServiceClient::new(self.client.clone());
        let sent = client.export(ExportTraceServiceRequest { resource_spans });
        self.taken("traces", sent).await
    }

    /// Sends records; answers whether they were taken.
    pub(super) async fn records(&self, records: Vec<Record>) -> bool {
        let resource_logs = {
            let batch: Vec<_> = records
                .iter()
                .map(|(record, scope)| (record, scope))
                .collect();
            group_logs_by_resource_and_scope(&LogBatch::new(&batch), &self.resource)
        };
        let mut client = LogsServiceClient::new(self.client.clone());
        let sent = client.export(ExportLogsServiceRequest { resource_logs });
        self.taken("logs", sent).await
    }

    /// Sends metrics; answers whether they were taken.
    pub(super) async fn metrics(&self, metrics: &[Metric]) -> bool {
        let span = series::Span::since(self.started);
        let said = metrics.iter().filter(|metric| !metric.points.is_empty());
        let scope = InstrumentationScope::builder("computelet")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let resource_metrics = vec![ResourceMetrics {
            resource: Some(Resource {
                attributes: self.resource.attributes.0.clone(),
                ..Resource::default()
            }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some((scope, None).into()),
                metrics: said.map(|metric| series::written(metric, span)).collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }];
        let mut client = MetricsServiceClient::new(self.client.clone());
        let sent = client.export(ExportMetricsServiceRequest { resource_metrics });
        self.taken("metrics", sent).await
    }

    async fn taken<T>(
        &self,
        signal: &'static str,
        sent: impl Future<Output = Result<T, Status>>,
    ) -> bool {
        let outcome = match tokio::time::timeout(self.settings.timeout, sent).await {
            Ok(Ok(_)) => "ok",
            Ok(Err(_)) => "failed",
            Err(_) => "timeout",
        };
        TELEMETRY_EXPORTS.of([signal, outcome]).increment();
        outcome == "ok"
    }
}

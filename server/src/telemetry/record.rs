//! Log records as they leave.

use std::time::{Duration, SystemTime};

use opentelemetry::{InstrumentationScope, logs::LogRecord as _};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    logs::{LogProcessor, SdkLogRecord},
};

use super::outbox::Outbox;

/// A record and where it comes from.
pub(super) type Record = (SdkLogRecord, InstrumentationScope);

/// Puts records into the queue.
#[derive(Debug)]
pub(super) struct Records(pub(super) Outbox<Record>);

impl LogProcessor for Records {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        let mut record = record.clone();
        // The bridge names each record after its place in our source, and leaves its time to whoever receives it.
        record.set_event_name("");
        record.set_timestamp(SystemTime::now());
        self.0.put((record, scope.clone()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

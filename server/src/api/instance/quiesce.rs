//! Calls that freeze and thaw guests' file systems.

use std::time::Duration;

use computedriver::v1;
use tonic::{Request, Response};

use super::super::{Api, convert, convert::Faults, status::status, work::Reply};
use crate::action::{Frozen, Quiesce, Thawed, Unquiesce};

/// How long a freeze may last.
const TIME: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
/// How long it lasts unless said otherwise.
const USUAL: Duration = Duration::from_secs(60);

fn time(faults: &mut Faults, request: &mut v1::QuiesceRequest) -> Option<Duration> {
    let time = faults.time("deadline", request.deadline, TIME);
    time.map(|time| time.unwrap_or(USUAL))
}

impl Api {
    pub(super) async fn do_quiesce(
        &self,
        request: Request<v1::QuiesceRequest>,
    ) -> Reply<v1::QuiesceResponse> {
        let (asked, time) = self.asked(request, time).map_err(|e| status(&e))?;
        let instance = asked.id;
        let ended = self.done(asked, Quiesce { instance, time }).await?;
        let Frozen { filesystems, until } = ended.answer().map_err(|e| status(&e))?;
        Ok(Response::new(v1::QuiesceResponse {
            frozen_filesystems: filesystems,
            thaw_time: Some(convert::timestamp(until)),
        }))
    }

    pub(super) async fn do_unquiesce(
        &self,
        request: Request<v1::UnquiesceRequest>,
    ) -> Reply<v1::UnquiesceResponse> {
        let read = self.asked(request, |_, _| Some(()));
        let (asked, ()) = read.map_err(|e| status(&e))?;
        let instance = asked.id;
        let ended = self.done(asked, Unquiesce { instance }).await?;
        let Thawed { filesystems } = ended.answer().map_err(|e| status(&e))?;
        Ok(Response::new(v1::UnquiesceResponse {
            thawed_filesystems: filesystems,
        }))
    }
}

//! Calls that give instances another size.

use computedriver::v1;
use futures::stream;
use tonic::{Request, Response};

use super::super::{
    Api,
    convert::{self, Faults},
    status::status,
    work::Streamed,
};
use crate::{
    action::Resize,
    model::{Flavor, Limits},
};

/// The new size, whether the guest may be restarted for it, and the bounds of the claim.
fn wish(faults: &mut Faults, request: &mut v1::ResizeRequest) -> Option<(Flavor, bool, Limits)> {
    let flavor = convert::flavor(faults, request.flavor.take());
    let limits = convert::limits(faults, request.limits.take().unwrap_or_default());
    let may_restart = match request.mode() {
        v1::ResizeMode::LiveOnly => Some(false),
        v1::ResizeMode::MayRestart => Some(true),
        v1::ResizeMode::Unspecified => {
            faults.wrong("mode", "must be LIVE_ONLY or MAY_RESTART");
            None
        }
    };
    Some((flavor?, may_restart?, limits?))
}

impl Api {
    pub(super) async fn do_resize(
        &self,
        request: Request<v1::ResizeRequest>,
    ) -> Streamed<v1::ResizeResponse> {
        let only_check = request.get_ref().validate_only;
        let read = self.asked(request, wish);
        let (asked, (flavor, may_restart, limits)) = read.map_err(|e| status(&e))?;
        let action = Resize {
            instance: asked.id,
            flavor,
            may_restart,
            limits,
        };
        if only_check {
            action.check(&self.host).await.map_err(|e| status(&e))?;
            return Ok(Response::new(Box::pin(stream::empty())));
        }
        self.told(asked, action, Self::changed).await
    }
}

//! Which bounds each interface gets, and whether it can have them.

use super::{Faults, VifPlan, extra_specs::Wishes};
use crate::{
    domain::Bandwidth,
    model::{InstanceSpec, VifKind},
};

pub(super) fn plan(spec: &InstanceSpec, wishes: &Wishes, faults: &mut Faults) -> Vec<VifPlan> {
    let bandwidth = wishes.bandwidth();
    for (i, vif) in spec.vifs.iter().enumerate() {
        if matches!(vif.kind, VifKind::Bridge { .. }) {
            continue;
        }
        if bandwidth != Bandwidth::default() {
            let why = "cannot have the bounds of the flavor's quota:vif_*: it has no tap";
            faults.add(format!("vifs[{i}].type"), why);
        }
        if vif.mtu.is_some() && !spec.config_drive {
            let why = "can be told to the guest by a config drive only, and there is none";
            faults.add(format!("vifs[{i}].mtu"), why);
        }
    }
    let plans = spec.vifs.iter().map(|vif| VifPlan {
        vif: vif.clone(),
        bandwidth,
    });
    plans.collect()
}

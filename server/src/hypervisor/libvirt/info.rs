//! State and size of one guest: from libvirt, or, while nothing happens to the guest, from what it said last.

use virt::connect::Connect;

use super::{
    Libvirt,
    call::{Call, Kind},
    guest,
    handles::Handles,
};
use crate::{
    hypervisor::{GuestInfo, Result},
    model::{InstanceId, PowerState},
};

/// See [`crate::hypervisor::Hypervisor::info`].
pub(super) async fn of(libvirt: &Libvirt, id: InstanceId) -> Result<GuestInfo> {
    match again(libvirt, id) {
        Some(info) => Ok(info),
        None => ask(libvirt, id).await,
    }
}

/// See [`crate::hypervisor::Hypervisor::infos`].
pub(super) async fn of_some(
    libvirt: &Libvirt,
    ids: Vec<InstanceId>,
) -> Result<Vec<(InstanceId, GuestInfo)>> {
    let exchange = libvirt.exchange.clone();
    let call = Call::plain(Kind::Cheap, "virDomainGetInfo");
    let ask = move |conn: &Connect, handles: &mut Handles| {
        guest::infos(conn, handles, &exchange.owned, &ids)
    };
    libvirt.call_again(call, ask).await
}

/// What libvirt said last, with the processor time of now: what costs a change of threads and back, or a round trip to
/// another process, then costs a look at one file of /proc.
fn again(libvirt: &Libvirt, id: InstanceId) -> Option<GuestInfo> {
    let last = libvirt.exchange.known.last(id)?;
    let cpu_time_ns = libvirt.counters.cpu_time_ns(id, last.life)?;
    Some(GuestInfo {
        cpu_time_ns,
        ..last.info
    })
}

async fn ask(libvirt: &Libvirt, id: InstanceId) -> Result<GuestInfo> {
    let (exchange, counters) = (libvirt.exchange.clone(), libvirt.counters.clone());
    // Before the look at the link: what is read over one that is lost meanwhile is not kept.
    let begun = exchange.known.begin(id);
    let call = Call::reading(Kind::Cheap, "virDomainGetInfo", id);
    let ask = move |conn: &Connect, handles: &mut Handles| {
        // Before the question: an answer about a later run is then never told of this one.
        let life = counters.seen_life(id);
        let info = guest::info(conn, handles, &exchange.owned, id)?;
        let on = matches!(info.state, PowerState::Running | PowerState::Paused);
        if let Some(life) = life.filter(|_| on) {
            exchange.known.keep(id, begun, info, life);
        }
        Ok(info)
    };
    libvirt.call_again(call, ask).await
}

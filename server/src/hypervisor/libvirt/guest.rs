//! What is done to a guest, on a worker: look-up, ownership and action in one go, so that a handle of libvirt's is born
//! and dropped on one thread.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use virt::{
    connect::Connect,
    domain::{Domain as Handle, DomainInfo, DomainState},
    error::ErrorNumber,
    sys,
};

use super::{
    fault::Fault,
    ffi::{self, Control},
    handles::Handles,
    names::Names,
    xml::Element,
};
use crate::{
    domain::{Domain, METADATA_URI},
    hypervisor::{GuestInfo, HypervisorError, LiveGuest, StartMode},
    model::{InstanceId, PowerState},
};

/// Longer than any job but a start that waits for QEMU: what has a guest for so long may have it for ever.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether a guest is free; most jobs take some milliseconds.
const FREE: Duration = Duration::from_millis(2);

/// Guests found to be ours, so that a cheap read need not ask for their mark each time.
///
/// Only reads believe it; whatever changes a guest looks at the mark itself.
#[derive(Debug, Default)]
pub(super) struct Owned(Mutex<HashSet<InstanceId>>);

impl Owned {
    /// Forgets one, when it was undefined.
    pub(super) fn forget(&self, id: InstanceId) {
        self.0.lock().remove(&id);
    }

    /// Forgets all, when events may have been missed.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Whether it was found to be ours.
    pub(super) fn knows(&self, id: InstanceId) -> bool {
        self.0.lock().contains(&id)
    }

    /// It was.
    pub(super) fn note(&self, id: InstanceId) {
        self.0.lock().insert(id);
    }
}

/// Whether the domain is ours: it carries our mark, and the name that goes with its id. Tools that clone a domain copy
/// the mark.
pub(super) fn is_ours(domain: &Handle) -> Result<bool, Fault> {
    let id = InstanceId::from(domain.uuid()?);
    if domain.name()? != Domain::name_of(id) {
        return Ok(false);
    }
    let kind = i32::try_from(sys::VIR_DOMAIN_METADATA_ELEMENT).unwrap_or_default();
    match domain
        .metadata(kind, Some(METADATA_URI), 0)
        .map_err(Fault::from)
    {
        Ok(_) => Ok(true),
        Err(fault) if fault.is(ErrorNumber::NoDomainMetadata) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// The domain with that id, ours or not.
fn look_up(conn: &Connect, id: InstanceId) -> Result<Option<Handle>, Fault> {
    match conn.lookup_domain_by_uuid(id.uuid()).map_err(Fault::from) {
        Ok(domain) => Ok(Some(domain)),
        Err(fault) if fault.is(ErrorNumber::NoDomain) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Our guest, its mark seen just now.
pub(super) fn ours(conn: &Connect, id: InstanceId) -> Result<Option<Handle>, Fault> {
    let Some(domain) = look_up(conn, id)? else {
        return Ok(None);
    };
    match is_ours(&domain) {
        Ok(ours) => Ok(ours.then_some(domain)),
        Err(fault) if fault.is(ErrorNumber::NoDomain) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Our guest, for reading.
pub(super) fn readable(conn: &Connect, owned: &Owned, id: InstanceId) -> Result<Handle, Fault> {
    let found = if owned.knows(id) {
        look_up(conn, id)?
    } else {
        ours(conn, id)?.inspect(|_| owned.note(id))
    };
    found.ok_or_else(|| {
        owned.forget(id);
        HypervisorError::NotFound(id).into()
    })
}

pub(super) fn must(found: Option<Handle>, id: InstanceId) -> Result<Handle, Fault> {
    found.ok_or_else(|| HypervisorError::NotFound(id).into())
}

/// Our guest, its mark seen just now and running.
pub(super) fn awake(conn: &Connect, id: InstanceId) -> Result<Handle, Fault> {
    let domain = must(ours(conn, id)?, id)?;
    match domain.is_active()? {
        true => Ok(domain),
        false => Err(wrong_state(id, "domain is not running")),
    }
}

pub(super) fn wrong_state(guest: InstanceId, message: &str) -> Fault {
    HypervisorError::State {
        guest,
        message: message.to_owned(),
    }
    .into()
}

/// Power state in the contract's words. `saved`: a managed save image waits for the next start.
pub(super) fn power(state: DomainState, saved: bool) -> PowerState {
    match state {
        DomainState::NoState => PowerState::NoState,
        // On its way down it still runs, until it is off.
        DomainState::Running | DomainState::Blocked | DomainState::Shutdown => PowerState::Running,
        DomainState::Paused => PowerState::Paused,
        DomainState::Shutoff if saved => PowerState::Suspended,
        DomainState::Shutoff => PowerState::Shutdown,
        DomainState::Crashed => PowerState::Crashed,
        DomainState::PMSuspended => PowerState::Suspended,
    }
}

fn guest_info(domain: &Handle, info: &DomainInfo) -> GuestInfo {
    // A state newer than this program's list is none that it has a word for.
    let state = info.state.unwrap_or(DomainState::NoState);
    // Drivers that cannot save have nothing saved.
    let saved = state == DomainState::Shutoff && domain.has_managed_save(0).unwrap_or(false);
    GuestInfo {
        state: power(state, saved),
        max_mem_kib: info.max_mem,
        mem_kib: info.memory,
        num_cpu: info.nr_virt_cpu,
        cpu_time_ns: info.cpu_time,
    }
}

/// `virDomainDefineXML`
pub(super) fn define(
    conn: &Connect,
    owned: &Owned,
    id: InstanceId,
    xml: &str,
) -> Result<(), Fault> {
    if let Some(present) = look_up(conn, id)?
        && !is_ours(&present)?
    {
        return Err(HypervisorError::Foreign(id).into());
    }
    match conn.define_domain_xml(xml).map_err(Fault::from) {
        Ok(_) => {
            owned.note(id);
            Ok(())
        }
        // libvirt has no number of its own for this.
        Err(_) if is_name_taken(conn, id) => Err(HypervisorError::Foreign(id).into()),
        Err(fault) => Err(fault),
    }
}

fn is_name_taken(conn: &Connect, id: InstanceId) -> bool {
    let other = conn.lookup_domain_by_name(&Domain::name_of(id));
    other.is_ok_and(|other| other.uuid().is_ok_and(|uuid| uuid != id.uuid()))
}

/// Whether a call changed anything; if so, libvirt tells it by an event too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    /// It was so already.
    Nothing,
    /// It did.
    Change,
}

/// QEMU's words, which libvirt hands on.
const PORT_TAKEN: &str = "Failed to find an available port";
/// Each look finds another port; so many in a row are not lost by chance.
const PORTS_TRIED: u32 = 5;

/// `virDomainCreateWithFlags`
pub(super) fn start(conn: &Connect, id: InstanceId, mode: StartMode) -> Result<Did, Fault> {
    let domain = must(ours(conn, id)?, id)?;
    if domain.is_active()? {
        return Ok(Did::Nothing);
    }
    let flags = match mode {
        StartMode::Running => sys::VIR_DOMAIN_NONE,
        StartMode::Paused => sys::VIR_DOMAIN_START_PAUSED,
    };
    match create(&domain, flags) {
        // Another's start was faster.
        Err(fault) if fault.is(ErrorNumber::OperationInvalid) && domain.is_active()? => {
            Ok(Did::Nothing)
        }
        // The test driver cannot start a guest paused, nor does its guest run a step before it is.
        Err(fault) if fault.is(ErrorNumber::InvalidArg) && mode == StartMode::Paused => {
            domain.create()?;
            domain.suspend()?;
            Ok(Did::Change)
        }
        done => done.map(|_| Did::Change),
    }
}

/// `virDomainCreateWithFlags`, again when the port of the guest's screen was taken between libvirt's look and QEMU's: by
/// another hypervisor's guests, say, which share the host's ports.
pub(super) fn create(domain: &Handle, flags: sys::virDomainCreateFlags) -> Result<(), Fault> {
    let mut left = PORTS_TRIED;
    loop {
        left -= 1;
        match domain.create_with_flags(flags).map_err(Fault::from) {
            Err(fault) if left > 0 && fault.says(PORT_TAKEN) => {}
            done => return done.map(drop),
        }
    }
}

/// `virDomainDestroy`
pub(super) fn destroy(conn: &Connect, id: InstanceId) -> Result<Did, Fault> {
    let Some(domain) = ours(conn, id)? else {
        return Ok(Did::Nothing);
    };
    if !domain.is_active()? {
        return Ok(Did::Nothing);
    }
    match domain.destroy().map_err(Fault::from) {
        Err(fault) if fault.is(ErrorNumber::NoDomain) => Ok(Did::Nothing),
        // It went off by itself meanwhile.
        Err(fault) if fault.is(ErrorNumber::OperationInvalid) && !domain.is_active()? => {
            Ok(Did::Nothing)
        }
        done => done.map(|_| Did::Change),
    }
}

/// `virDomainUndefineFlags`, with all that libvirt keeps of a guest beside its definition.
pub(super) fn undefine(conn: &Connect, owned: &Owned, id: InstanceId) -> Result<(), Fault> {
    let Some(domain) = ours(conn, id)? else {
        return Ok(());
    };
    // libvirt would let a running guest live on without a definition: nobody could be sure of it any more.
    if domain.is_active()? {
        return Err(wrong_state(id, "domain is running"));
    }
    let all = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
    let done = match domain.undefine_flags(all).map_err(Fault::from) {
        // The test driver has none of these things, nor the flags.
        Err(fault) if fault.is(ErrorNumber::InvalidArg) => domain.undefine().map_err(Fault::from),
        done => done,
    };
    match done {
        Err(fault) if !fault.is(ErrorNumber::NoDomain) => Err(fault),
        _ => {
            owned.forget(id);
            Ok(())
        }
    }
}

/// `virDomainGetInfo`
pub(super) fn info(
    conn: &Connect,
    handles: &mut Handles,
    owned: &Owned,
    id: InstanceId,
) -> Result<GuestInfo, Fault> {
    let domain = handles.readable(conn, owned, id)?;
    match domain.info().map_err(Fault::from) {
        Ok(info) => Ok(guest_info(domain, &info)),
        Err(fault) => {
            handles.forget(id);
            Err(fault)
        }
    }
}

/// The same of some; guests that are absent, or go while we look, are left out.
pub(super) fn infos(
    conn: &Connect,
    handles: &mut Handles,
    owned: &Owned,
    ids: &[InstanceId],
) -> Result<Vec<(InstanceId, GuestInfo)>, Fault> {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        match info(conn, handles, owned, *id) {
            Ok(info) => found.push((*id, info)),
            Err(Fault::Ours(HypervisorError::NotFound(_))) => {}
            Err(fault) if fault.is(ErrorNumber::NoDomain) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(found)
}

/// `virConnectListAllDomains`; guests that go while we look are not listed.
pub(super) fn list(conn: &Connect, owned: &Owned) -> Result<Vec<(InstanceId, GuestInfo)>, Fault> {
    let mut listed = Vec::new();
    for domain in conn.list_all_domains(0)? {
        let id = InstanceId::from(domain.uuid()?);
        match listed_info(&domain, owned, id) {
            Ok(Some(info)) => listed.push((id, info)),
            Ok(None) => {}
            Err(fault) if fault.is(ErrorNumber::NoDomain) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(listed)
}

/// Our guests, by id; and those of which that cannot be read now, because they are not known to be gone.
pub(super) fn present(conn: &Connect, owned: &Owned) -> Result<HashSet<InstanceId>, Fault> {
    let mut present = HashSet::new();
    for domain in conn.list_all_domains(0)? {
        let id = InstanceId::from(domain.uuid()?);
        if owned.knows(id) {
            present.insert(id);
            continue;
        }
        match is_ours(&domain) {
            Ok(true) => {
                owned.note(id);
                present.insert(id);
            }
            Ok(false) => {}
            Err(fault) if fault.is(ErrorNumber::NoDomain) => {}
            Err(fault) if fault.is_loss() => return Err(fault),
            Err(_) => drop(present.insert(id)),
        }
    }
    Ok(present)
}

fn listed_info(domain: &Handle, owned: &Owned, id: InstanceId) -> Result<Option<GuestInfo>, Fault> {
    if !owned.knows(id) {
        if !is_ours(domain)? {
            return Ok(None);
        }
        owned.note(id);
    }
    let info = domain.info()?;
    Ok(Some(guest_info(domain, &info)))
}

/// `virDomainGetXMLDesc`
pub(super) fn live(conn: &Connect, owned: &Owned, id: InstanceId) -> Result<LiveGuest, Fault> {
    let domain = readable(conn, owned, id)?;
    if !domain.is_active()? {
        return Err(wrong_state(id, "domain is not running"));
    }
    let live = crate::domain::read(&definition(&domain, PATIENCE)?).map_err(|e| unreadable(&e))?;
    let taps = live
        .interfaces
        .into_iter()
        .filter_map(|nic| Some((nic.mac.to_string(), nic.target?)));
    Ok(LiveGuest {
        interfaces: taps.collect(),
        vnc_port: live.vnc_port,
    })
}

/// The live definition; `Busy` when somebody has been at work on the guest for longer than `patience`.
///
/// libvirt lets nobody read it meanwhile, but for 30 s, and a guest that hangs keeps whoever asked it for ever. So it is not
/// asked before the guest is free: a few who come as one begins to hang would take all threads from other guests.
pub(super) fn definition(domain: &Handle, patience: Duration) -> Result<String, Fault> {
    let began = Instant::now();
    loop {
        match ffi::control(domain) {
            Ok(Control::Taken(since)) if since >= patience => {
                return Err(HypervisorError::Busy.into());
            }
            // One after another is at work on it: each ends, and libvirt gives the guest to all in turn.
            Ok(Control::Taken(_)) if began.elapsed() < patience => std::thread::park_timeout(FREE),
            // Guests that are off and drivers without monitors know no such thing.
            Ok(_) | Err(_) => return Ok(domain.xml_desc(0)?),
        }
    }
}

/// The power state, and whether the agent's channel is open at the guest's end; none while somebody keeps the guest.
/// What its disks are called is learned by the way.
pub(super) fn observe(
    conn: &Connect,
    (owned, names): (&Owned, &Names),
    id: InstanceId,
) -> Result<(PowerState, Option<bool>), Fault> {
    let domain = readable(conn, owned, id)?;
    let info = domain.info()?;
    let state = guest_info(&domain, &info).state;
    let on = matches!(state, PowerState::Running | PowerState::Paused);
    let definition = match definition(&domain, PATIENCE) {
        Err(Fault::Ours(HypervisorError::Busy)) => return Ok((state, None)),
        definition => definition?,
    };
    let definition = Element::parse(&definition).map_err(|e| unreadable(&e))?;
    names.read(id, &definition);
    Ok((state, Some(on && has_agent(&definition))))
}

pub(super) fn unreadable(e: &(dyn std::error::Error + 'static)) -> Fault {
    HypervisorError::Failed {
        call: "virDomainGetXMLDesc",
        message: crate::error::chain(e),
        code: 0,
        domain: 0,
    }
    .into()
}

fn has_agent(domain: &Element) -> bool {
    let mut channels = domain.all(&["devices", "channel", "target"]);
    channels.any(|target| {
        target.attribute("name") == Some("org.qemu.guest_agent.0")
            && target.attribute("state") == Some("connected")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_states_are_the_contracts() {
        let table = [
            (DomainState::NoState, false, PowerState::NoState),
            (DomainState::Running, false, PowerState::Running),
            (DomainState::Blocked, false, PowerState::Running),
            (DomainState::Paused, false, PowerState::Paused),
            (DomainState::Shutdown, false, PowerState::Running),
            (DomainState::Shutoff, false, PowerState::Shutdown),
            (DomainState::Shutoff, true, PowerState::Suspended),
            (DomainState::Crashed, false, PowerState::Crashed),
            (DomainState::PMSuspended, false, PowerState::Suspended),
        ];
        for (state, saved, expected) in table {
            assert_eq!(power(state, saved), expected, "{state:?} {saved}");
        }
    }

    #[test]
    fn the_agent_is_there_when_the_guest_holds_its_end_of_the_channel() {
        let domain = |state: &str| {
            let target = format!("<target type='virtio' name='org.qemu.guest_agent.0' {state}/>");
            Element::parse(&format!(
                "<domain><devices><channel>{target}</channel></devices></domain>"
            ))
            .unwrap()
        };
        assert!(has_agent(&domain("state='connected'")));
        assert!(!has_agent(&domain("state='disconnected'")));
        assert!(!has_agent(&domain("")));
    }
}

//! What the fake has counted of its guests, and which of them do not answer.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    hypervisor::{
        HypervisorError, Result,
        stats::{Groups, HostCounters, MonitorCounters},
    },
    model::{InstanceId, PowerState},
};

/// What is counted of guests, as a test has set it.
#[derive(Debug, Default)]
pub struct Counted {
    host: Mutex<HashMap<InstanceId, HostCounters>>,
    monitor: Mutex<HashMap<InstanceId, MonitorCounters>>,
    hung: Mutex<HashMap<InstanceId, Hung>>,
    unread: Mutex<HashSet<InstanceId>>,
}

#[derive(Debug)]
struct Hung {
    asked: bool,
    over: watch::Sender<()>,
}

impl Counted {
    /// Sets what the host counts of a guest. Its state is always the guest's own.
    pub fn set_host(&self, counters: HostCounters) {
        self.host.lock().insert(counters.id, counters);
    }

    /// Sets what the guest's monitor counts.
    pub fn set_monitor(&self, id: InstanceId, counters: MonitorCounters) {
        self.monitor.lock().insert(id, counters);
    }

    /// Lets the guest's monitor answer nothing, until it is let go on.
    pub fn hang(&self, id: InstanceId) {
        let hung = Hung {
            asked: false,
            over: watch::Sender::new(()),
        };
        self.hung.lock().insert(id, hung);
    }

    /// Lets the guest's monitor answer again, the question that waits too.
    pub fn unhang(&self, id: InstanceId) {
        self.hung.lock().remove(&id);
    }

    /// Lets the host fail to read this one guest.
    pub fn blind(&self, id: InstanceId) {
        self.unread.lock().insert(id);
    }

    /// Lets the host read it again.
    pub fn unblind(&self, id: InstanceId) {
        self.unread.lock().remove(&id);
    }

    pub(super) fn host(&self, id: InstanceId, state: PowerState, groups: Groups) -> HostCounters {
        let read = !self.unread.lock().contains(&id);
        let state = if read { state } else { PowerState::Unknown };
        let known = self.host.lock().get(&id).cloned();
        let mut counters = known.unwrap_or_else(|| HostCounters {
            id,
            state,
            life: 1,
            cpu_time_ns: Some(0),
            cpus: Vec::new(),
            memory: None,
            interfaces: Vec::new(),
        });
        counters.state = state;
        let on = matches!(state, PowerState::Running | PowerState::Paused);
        if !on {
            counters.life = 0;
        }
        let told = |group| on && groups.contains(group);
        if !told(Groups::CPU) {
            counters.cpu_time_ns = None;
        }
        if !told(Groups::VCPU) {
            counters.cpus.clear();
        }
        if !told(Groups::MEMORY) {
            counters.memory = None;
        }
        if !told(Groups::INTERFACE) {
            counters.interfaces.clear();
        }
        counters
    }

    pub(super) async fn monitor(&self, id: InstanceId, groups: Groups) -> Result<MonitorCounters> {
        let over = match self.hung.lock().get_mut(&id) {
            Some(hung) if hung.asked => return Err(HypervisorError::Busy),
            Some(hung) => {
                hung.asked = true;
                Some(hung.over.subscribe())
            }
            None => None,
        };
        if let Some(mut over) = over {
            // Its end is the only thing that is ever told.
            let _ = over.changed().await;
        }
        let known = self.monitor.lock().get(&id).cloned();
        let mut counters = known.unwrap_or_else(|| MonitorCounters {
            life: 1,
            ..MonitorCounters::default()
        });
        if !groups.contains(Groups::BLOCK) {
            counters.disks.clear();
        }
        if !groups.contains(Groups::BALLOON) {
            counters.balloon = None;
        }
        Ok(counters)
    }
}

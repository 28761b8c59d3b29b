//! By which ids callers know what the hypervisor knows by targets and MAC addresses: looked up once while an instance's
//! record stays as it is.

use std::{collections::HashMap, sync::Arc};

use tracing::warn;

use crate::{
    host::Host,
    model::{InstanceId, InstanceRecord},
    plan,
};

/// The names of one instance's devices.
#[derive(Debug)]
struct Names {
    record: Arc<InstanceRecord>,
    interfaces: Vec<(String, Arc<str>)>,
    /// None while there is no plan: the hypervisor's capabilities, on which it rests, may not be known yet.
    disks: Option<Vec<(String, Arc<str>)>>,
    /// Whether it was told that there is none.
    warned: bool,
}

/// The names of all instances' devices.
#[derive(Debug, Default)]
pub(super) struct Book {
    names: HashMap<InstanceId, Names>,
}

fn find(names: &[(String, Arc<str>)], name: &str) -> Option<Arc<str>> {
    let found = names.iter().find(|(known, _)| known == name);
    found.map(|(_, id)| id.clone())
}

impl Book {
    /// Learns `records`, which are in order, and forgets all others.
    pub(super) fn learn(&mut self, records: &[Arc<InstanceRecord>]) {
        for record in records {
            let known = self.names.get(&record.spec.id);
            if !known.is_some_and(|names| Arc::ptr_eq(&names.record, record)) {
                self.names.insert(record.spec.id, Names::new(record));
            }
        }
        if self.names.len() > records.len() {
            let here = |id: &InstanceId| records.binary_search_by_key(id, |r| r.spec.id).is_ok();
            self.names.retain(|id, _| here(id));
        }
    }

    /// Learns the disks of the instances that it knows. Where that fails they have no names until the next time.
    pub(super) async fn learn_disks(&mut self, host: &Host) {
        let unknown = |names: &&mut Names| names.disks.is_none();
        if self.names.values_mut().find(unknown).is_none() {
            return;
        }
        let Ok(capabilities) = host.hypervisor.capabilities().await else {
            return;
        };
        for names in self.names.values_mut().filter(unknown) {
            match plan::of(&names.record, &capabilities, &host.plan) {
                Ok(plan) => {
                    let disks = plan.disks.into_iter();
                    let named = disks.map(|disk| (disk.target, disk.id.to_string().into()));
                    names.disks = Some(named.collect());
                }
                Err(e) if !names.warned => {
                    let instance = names.record.spec.id;
                    warn!(%instance, error = %e, "disks have no names, so their counters are not told");
                    names.warned = true;
                }
                Err(_) => {}
            }
        }
    }

    /// The id of the interface with that MAC address.
    pub(super) fn interface(&self, instance: InstanceId, mac: &str) -> Option<Arc<str>> {
        find(&self.names.get(&instance)?.interfaces, mac)
    }

    /// The id of the disk with that target.
    pub(super) fn disk(&self, instance: InstanceId, target: &str) -> Option<Arc<str>> {
        find(self.names.get(&instance)?.disks.as_deref()?, target)
    }
}

impl Names {
    fn new(record: &Arc<InstanceRecord>) -> Self {
        let vifs = record.spec.vifs.iter();
        Self {
            record: record.clone(),
            interfaces: vifs
                .map(|vif| (vif.mac.to_string(), vif.id.to_string().into()))
                .collect(),
            disks: None,
            warned: false,
        }
    }
}

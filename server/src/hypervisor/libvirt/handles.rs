//! Handles of guests that a worker asks again and again.
//!
//! A handle is a name for a guest, no hold on it: it stays good while the guest is redefined, starts and ends, and asking
//! through one whose guest is gone fails as a look-up would. Looking up through libvirtd's socket costs as much as the
//! call that follows. Each worker keeps its own, for as long as its connection lives.

use std::collections::HashMap;

use virt::{connect::Connect, domain::Domain};

use super::{
    fault::Fault,
    guest::{self, Owned},
};
use crate::model::InstanceId;

/// Some hundred bytes each: more guests than a host has, and no more memory than one of them takes.
const MOST: usize = 4096;

/// A worker's handles.
#[derive(Debug, Default)]
pub(super) struct Handles(HashMap<InstanceId, Domain>);

impl Handles {
    /// The guest for reading, if it is ours; looked up if need be.
    pub(super) fn readable(
        &mut self,
        conn: &Connect,
        owned: &Owned,
        id: InstanceId,
    ) -> Result<&Domain, Fault> {
        if !owned.knows(id) {
            self.0.remove(&id);
        }
        if !self.0.contains_key(&id) {
            let found = guest::readable(conn, owned, id)?;
            if self.0.len() >= MOST {
                self.0.clear();
            }
            self.0.insert(id, found);
        }
        Ok(&self.0[&id])
    }

    /// Forgets one through which nothing was found.
    pub(super) fn forget(&mut self, id: InstanceId) {
        self.0.remove(&id);
    }
}

//! Consoles of guests in memory: a test holds the guest's end.

use std::collections::HashMap;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::{DuplexStream, duplex, split};

use super::{Fake, is_on, wrong_state};
use crate::{
    hypervisor::{
        Result,
        console::{Consoles, Wire},
    },
    model::InstanceId,
};

/// As much as a terminal holds.
const ROOM: usize = 4096;

/// Which line of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Socket {
    /// The serial port.
    Serial,
    /// The screen.
    Screen,
}

/// The guests' ends of lines that are open.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<HashMap<(InstanceId, Socket), DuplexStream>>);

impl Ends {
    fn open(&self, id: InstanceId, socket: Socket) -> Wire {
        let (ours, guests) = duplex(ROOM);
        self.0.lock().insert((id, socket), guests);
        let (from, to) = split(ours);
        Wire::new(from, to)
    }

    /// Hangs up: the guest's run has ended.
    pub(super) fn close(&self, id: InstanceId) {
        self.0.lock().retain(|(of, _), _| *of != id);
    }
}

impl Fake {
    /// The guest's end of the line that was opened last, to play the guest with.
    pub fn end_of(&self, id: InstanceId, socket: Socket) -> Option<DuplexStream> {
        self.ends.0.lock().remove(&(id, socket))
    }
}

#[async_trait]
impl Consoles for Fake {
    async fn serial(&self, id: InstanceId, port: u32) -> Result<Option<Wire>> {
        self.enter("serial").await?;
        if !is_on(self.ours(id, |held, _| *held)?) {
            return Err(wrong_state(id, "domain is not running"));
        }
        let wire = (port == 0).then(|| self.ends.open(id, Socket::Serial));
        self.faults.leave("serial").map(|()| wire)
    }

    async fn screen(&self, id: InstanceId) -> Result<Option<Wire>> {
        self.enter("screen").await?;
        let (state, has) = self.ours(id, |held, domain| {
            (*held, domain.machine.graphics.is_some())
        })?;
        if !is_on(state) {
            return Err(wrong_state(id, "domain is not running"));
        }
        let wire = has.then(|| self.ends.open(id, Socket::Screen));
        self.faults.leave("screen").map(|()| wire)
    }
}

//! One writer at a serial port.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Claim, SessionError};
use crate::model::InstanceId;

/// A port of an instance.
type Port = (InstanceId, u32);

/// Who sits where.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<HashMap<Port, Holder>>);

#[derive(Debug)]
struct Holder {
    /// Tells the holder to go.
    taken: CancellationToken,
    /// Tells others that it has gone.
    gone: CancellationToken,
}

/// A place at a port, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) port: Port,
    /// Cancelled when the holder is to go.
    pub(super) taken: CancellationToken,
    seats: Arc<Seats>,
    // Told after the seat is free: fields are dropped after `drop` has run.
    _gone: DropGuard,
}

impl Seats {
    /// Sits down. With [`Claim::Force`], when whoever sits there has hung up.
    pub(super) async fn sit(
        self: &Arc<Self>,
        port: Port,
        claim: Claim,
    ) -> Result<Seat, SessionError> {
        loop {
            let gone = match self.try_sit(port, claim)? {
                Ok(seat) => return Ok(seat),
                Err(gone) => gone,
            };
            gone.cancelled().await;
        }
    }

    /// A seat, or what tells that it is free.
    fn try_sit(
        self: &Arc<Self>,
        port: Port,
        claim: Claim,
    ) -> Result<Result<Seat, CancellationToken>, SessionError> {
        let mut held = self.0.lock();
        match (held.get(&port), claim) {
            (Some(_), Claim::Free) => Err(SessionError::Busy { instance: port.0 }),
            (Some(holder), Claim::Force) => {
                holder.taken.cancel();
                Ok(Err(holder.gone.clone()))
            }
            (None, _) => {
                let (taken, gone) = (CancellationToken::new(), CancellationToken::new());
                let holder = Holder {
                    taken: taken.clone(),
                    gone: gone.clone(),
                };
                held.insert(port, holder);
                Ok(Ok(Seat {
                    port,
                    taken,
                    seats: self.clone(),
                    _gone: gone.drop_guard(),
                }))
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.0.lock().remove(&self.port);
    }
}

//! Which cameras are connected: one session each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::{RefuseCode, Refused, close};

use super::admit::{Holder, Verdict, decide};
use super::transport::Peer;
use crate::batch::CameraKey;

/// An agent that wants a seat.
#[derive(Debug)]
pub(super) struct Newcomer {
    /// Its process.
    pub(super) instance: u64,
    /// Its connection, closed when another takes the seat.
    pub(super) peer: Peer,
}

/// The table of connected cameras. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    table: Arc<Mutex<Table>>,
    max: usize,
    silence: Duration,
}

#[derive(Debug, Default)]
struct Table {
    seats: HashMap<String, Taken>,
    next_key: u64,
}

#[derive(Debug)]
struct Taken {
    key: CameraKey,
    instance: u64,
    peer: Peer,
    heard: Instant,
}

/// A camera's place in the table, given up when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    live: Live,
    camera: String,
    key: CameraKey,
}

impl Live {
    /// An empty table for at most `max` cameras; a holder is silent after `silence`.
    pub(crate) fn new(max: usize, silence: Duration) -> Self {
        Self { table: Arc::default(), max, silence }
    }

    /// Seats the newcomer, closing the session whose place it takes, or says why not.
    pub(super) fn admit(&self, camera: &str, newcomer: Newcomer, now: Instant) -> Result<Seat, Refused> {
        let mut table = self.lock();
        let holder = table.seats.get(camera).map(|taken| Holder {
            instance: taken.instance,
            heard: taken.heard,
            address: taken.peer.address(),
        });
        match decide(holder.as_ref(), newcomer.instance, now, self.silence) {
            Verdict::Refuse(refused) => return Err(refused),
            Verdict::Admit if table.seats.len() >= self.max => {
                let why = format!("it serves {} cameras at most; raise limits.max_sessions", self.max);
                return Err(Refused::new(RefuseCode::Limit, &why));
            }
            Verdict::Admit | Verdict::Replace => {}
        }
        let key = CameraKey(table.next_key);
        table.next_key += 1;
        let Newcomer { instance, peer } = newcomer;
        let why = format!("{} connected as the same camera", peer.address());
        let taken = Taken { key, instance, peer, heard: now };
        if let Some(old) = table.seats.insert(camera.to_owned(), taken) {
            old.peer.close(close::REPLACED, &why);
        }
        Ok(Seat { live: self.clone(), camera: camera.to_owned(), key })
    }

    /// How many cameras are connected.
    pub(crate) fn count(&self) -> usize {
        self.lock().seats.len()
    }

    /// Whether the camera is connected.
    pub(super) fn holds(&self, camera: &str) -> bool {
        self.lock().seats.contains_key(camera)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The camera's key in the batch policy: a new one for each session.
    pub(super) fn key(&self) -> CameraKey {
        self.key
    }

    /// Something arrived from the agent.
    pub(super) fn heard(&self, now: Instant) {
        let mut table = self.live.lock();
        if let Some(taken) = table.seats.get_mut(&self.camera).filter(|taken| taken.key == self.key) {
            taken.heard = now;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.live.lock();
        if table.seats.get(&self.camera).is_some_and(|taken| taken.key == self.key) {
            table.seats.remove(&self.camera);
        }
    }
}

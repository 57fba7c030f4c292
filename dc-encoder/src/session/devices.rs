//! What each device has open and may send. A device is what its certificate names: however often it
//! connects, it has one share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use shared::tls::PeerIdentity;

use super::rates::{Over, Quota, admit};
use crate::serve::config::{Limits, Rate};

/// The table of devices with a connection. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Devices(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most_connections: usize,
    rate: Rate,
    /// Bytes of the longest frame.
    largest: u32,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    devices: HashMap<String, Device>,
    all: Quota,
}

#[derive(Debug)]
struct Device {
    connections: usize,
    quota: Quota,
}

/// A device's connection, given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    devices: Devices,
    device: String,
}

impl Devices {
    /// Nobody yet; `largest`: bytes of the longest frame.
    pub(crate) fn new(limits: &Limits, largest: u32, now: Instant) -> Self {
        Self(Arc::new(Shared {
            most_connections: limits.max_connections_per_device,
            rate: limits.per_camera.clone(),
            largest,
            table: Mutex::new(Table {
                devices: HashMap::new(),
                all: Quota::new(&limits.together, largest, now),
            }),
        }))
    }

    /// One more connection of the device.
    ///
    /// # Errors
    /// In words: it has as many as it may.
    pub(super) fn enter(&self, identity: &PeerIdentity, now: Instant) -> Result<Place, String> {
        let name = identity.camera.as_deref().unwrap_or(&identity.name);
        let device = format!("{} {name}", identity.role);
        let Shared { most_connections: most, rate, largest, .. } = &*self.0;
        let mut table = self.lock();
        let entry = table.devices.entry(device.clone());
        let known =
            entry.or_insert_with(|| Device { connections: 0, quota: Quota::new(rate, *largest, now) });
        if known.connections >= *most {
            return Err(format!(
                "{device} has {most} connections already; close some, or raise \
                 limits.max_connections_per_device"
            ));
        }
        known.connections += 1;
        Ok(Place { devices: self.clone(), device })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Takes a frame of `bytes` from the device's share and everybody's.
    pub(super) fn admit(&self, bytes: u32, now: Instant) -> Result<(), Over> {
        let Table { devices, all } = &mut *self.devices.lock();
        // A place keeps its device in the table.
        devices.get_mut(&self.device).map_or(Ok(()), |device| admit(&mut device.quota, all, bytes, now))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.devices.lock();
        if let Some(device) = table.devices.get_mut(&self.device) {
            device.connections -= 1;
            if device.connections == 0 {
                table.devices.remove(&self.device);
            }
        }
    }
}

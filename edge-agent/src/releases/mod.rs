//! Releases on the box: what is wanted of it, what is here, and what runs.
//!
//! ```text
//! control stream: KeyRing, Wanted ─► Keeper ─► Plan (pure) ─► fetch ─► vet ─► store ─► Heads (swap) ─► HeadReport
//! control socket: install, pin …  ───┘                                   └─ failed: the last good one stays
//! ```
//! One task, the [`Keeper`](keeper::Keeper), owns the [`Store`](store::Store). It writes down what it accepts before
//! it acts on it: whatever is cut off, and when, the box starts with the last release that was good.

pub mod fetch;
pub mod gate;
mod job;
pub mod keeper;
pub mod local;
pub mod plan;
pub mod state;
pub mod store;
pub mod vet;

use std::sync::Arc;

use anyhow::Context as _;
use tokio::task::JoinHandle;

use crate::config::Settings;
use crate::heads::{HeadSet, Heads};
use gate::{Gate, GateError};
use keeper::{Keeper, Port, Start};
use store::Store;

/// The store and the keys, before anything runs.
#[derive(Debug)]
pub struct Opened {
    store: Option<Store>,
    gate: Gate,
}

impl Opened {
    /// Opens what the settings name.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn new(settings: &Settings) -> Result<Self, GateError> {
        let store = settings.heads_dir.as_deref().map(Store::open).transpose()?;
        let gate = Gate::open(settings, store.as_ref())?;
        Ok(Self { store, gate })
    }

    /// Loads the heads that the settings name; all or none.
    ///
    /// # Errors
    /// A head that cannot be used, or may not.
    pub fn fixed(&self, settings: &Settings) -> anyhow::Result<HeadSet> {
        let set = HeadSet::load(&settings.heads, settings.head_budget)?;
        for (path, loaded) in settings.heads.iter().zip(set.iter()) {
            self.gate.check_file(path, loaded)?;
        }
        Ok(set)
    }

    /// Starts the keeper and its socket. `None`: there is no store, and nothing is pushed here.
    ///
    /// # Errors
    /// A store or a socket that cannot be used.
    pub fn start(
        self,
        settings: &Settings,
        camera: &str,
        heads: Arc<Heads>,
    ) -> anyhow::Result<Option<(Running, Port)>> {
        let Self { store: Some(store), gate } = self else { return Ok(None) };
        let (fixed, camera) = ((*heads.current()).clone(), camera.to_owned());
        let (uplink, budget) = (settings.uplink.id(), settings.head_budget);
        let (keeper, port) = Keeper::open(Start { store, gate, camera, uplink, budget, fixed, heads })?;
        let socket = keeper.socket();
        let listener = local::listen(&socket).with_context(|| format!("heads_dir: {}", socket.display()))?;
        let served = tokio::spawn(local::serve(listener, port.events.clone()));
        Ok(Some((Running([tokio::spawn(keeper.run()), served]), port)))
    }
}

/// The keeper and its socket; dropping it stops both, wherever they are.
#[derive(Debug)]
pub struct Running([JoinHandle<()>; 2]);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

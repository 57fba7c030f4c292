//! The server's registry: opened at the start, and its rollouts stepped while the server runs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shared::release::PublicKey;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::{Config, ServeError};
use crate::registry::{Embedded, Registrar, RegistryError};

/// How often the reports are looked at. A failing canary is stopped this soon.
const STEP: Duration = Duration::from_secs(1);

/// Ends the steps when dropped.
#[derive(Debug)]
pub(super) struct Rollouts(JoinHandle<()>);

impl Drop for Rollouts {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn open(config: &Config) -> Result<Option<Arc<Registrar>>, ServeError> {
    let Some(dir) = &config.registry else { return Ok(None) };
    let root =
        config.release_root.as_deref().map(PublicKey::load).transpose().map_err(RegistryError::from)?;
    let store = Box::new(Embedded::open(dir)?);
    Ok(Some(Arc::new(Registrar::open(store, root, Timestamp::now())?)))
}

/// Lets rollouts go on by what cameras reported.
pub(super) fn keep_stepping(registrar: Arc<Registrar>) -> Rollouts {
    Rollouts(tokio::spawn(async move {
        let mut tick = tokio::time::interval(STEP);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let registrar = Arc::clone(&registrar);
            match tokio::task::spawn_blocking(move || registrar.step(Timestamp::now())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!("a rollout cannot go on: {error}"),
                Err(error) => tracing::error!("a rollout cannot go on: {error}"),
            }
        }
    }))
}

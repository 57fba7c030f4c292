//! The threads behind the sessions: decode workers, and the driver that owns the device.

use std::sync::Arc;
use std::time::Duration;

use protocol::Welcome;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Config, ServeError};
use crate::backend::Backend;
use crate::batch::driver::{self, Driver};
use crate::batch::{Pipeline, Settings};
use crate::decode;

/// The threads behind the sessions.
pub(super) struct Engine {
    pub(super) pipeline: Arc<Pipeline>,
    driver: Option<Driver>,
    /// Turns true when the driver returns.
    ended: watch::Receiver<bool>,
}

/// A server that does not start, or is dropped, leaves no threads behind.
impl Drop for Engine {
    fn drop(&mut self) {
        self.pipeline.close();
    }
}

impl Engine {
    pub(super) fn start(
        config: &Config,
        backend: Box<dyn Backend>,
        welcome: &Welcome,
    ) -> Result<Self, ServeError> {
        let queue = &config.queue;
        let max_batch = queue.max_batch.min(backend.info().max_batch).max(1);
        let threads = match queue.decode_threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let pipeline = Pipeline::new(Settings {
            per_camera: queue.per_camera,
            total: queue.total,
            // The next batch, and what the workers have in hand.
            decoded_ahead: max_batch + threads,
        });
        let settings = decode::Settings {
            limits: shared::image::Limits {
                max_bytes: config.max_frame_bytes() as usize,
                max_pixels: config.limits.max_pixels.into(),
            },
            width: welcome.input.width,
            height: welcome.input.height,
            patch: welcome.patch,
        };
        let (has_ended, ended) = watch::channel(false);
        let mut engine = Self { pipeline, driver: None, ended };
        // They end with the pipeline, and hold nothing that anyone would wait for.
        decode::spawn(&engine.pipeline, settings, threads).map_err(ServeError::Thread)?;
        let on_end = move || {
            has_ended.send_replace(true);
        };
        let driver = driver::spawn(backend, Arc::clone(&engine.pipeline), max_batch, on_end);
        engine.driver = Some(driver.map_err(ServeError::Thread)?);
        Ok(engine)
    }

    /// Ends the threads. A device stuck in a batch is not waited for beyond `within`: the process ends anyway.
    pub(super) async fn end(mut self, within: Duration) -> Result<(), ServeError> {
        self.pipeline.close();
        match (timeout(within, self.wait()).await, self.driver.take()) {
            (Ok(()), Some(driver)) => driver
                .join()
                .unwrap_or_else(|panic| Err(driver::panic_message(panic.as_ref()).to_owned()))
                .map_err(ServeError::Device),
            _ => {
                tracing::warn!("the device is still busy: ending without waiting for it");
                Ok(())
            }
        }
    }

    /// Waits until the driver returned; also if it panicked, which drops the sender.
    pub(super) async fn wait(&mut self) {
        drop(self.ended.wait_for(|ended| *ended).await);
    }
}

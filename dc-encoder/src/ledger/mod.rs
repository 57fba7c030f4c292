//! Where operations, bytes and joules go: an account for each camera.
//!
//! ```text
//! driver (a batch was encoded) ───────┐
//! sessions (bytes, the boxes' reports) ┼─► accounts ─► operators (`dc-encoder ledger`), metrics
//! power (a meter, or a model) ─────────┘
//! ```
//! **How energy is shared out.** Once a second the energy since the last look is divided among the frames that were encoded
//! in between, each by its operations: frames of a batch that are alike cost the same, whoever they came from. What the
//! device draws while it waits between two of these frames is theirs too. Seconds without a frame are nobody's: `idle`.

mod account;
mod config;
mod meter;
mod power;
pub mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::limits::{MAX_NAME_BYTES, clip};
use protocol::{BoxModel, CameraAccount, OperatorReplyMsg, Site};
use shared::release::Pattern;

pub use account::Account;
use account::Accounts;
pub use config::{BoxPower, Energy, MeterChoice};
use power::Power;
pub use power::PowerError;

/// How often energy is shared out.
const SHARED_EVERY: Duration = Duration::from_secs(1);

/// The accounts of a running server.
#[derive(Debug)]
pub struct Ledger {
    since: Instant,
    site: Site,
    accounts: Mutex<Accounts>,
    power: Mutex<Power>,
}

/// What encodes, as far as the ledger is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Encoder<'a> {
    /// The model's name.
    pub model: &'a str,
    /// Operations of a whole frame.
    pub flops: u64,
    /// The device in words.
    pub device: &'a str,
}

impl Ledger {
    /// Empty accounts.
    ///
    /// # Errors
    /// [`PowerError`] when the configuration names a meter that this machine does not have.
    pub fn new(energy: &Energy, encoder: Encoder<'_>) -> Result<Self, PowerError> {
        let power = Power::open(energy, encoder.device)?;
        let BoxPower { name, cores, idle_watts, busy_watts, gflops, source } = energy.camera_box.clone();
        let site = Site {
            name: short(&energy.site),
            for_ms: 0,
            model: encoder.model.to_owned(),
            frame_flops: encoder.flops,
            power: clip(&power.words()),
            metered: power.is_meter(),
            idle_joules: 0.0,
            grid_gco2_per_kwh: energy.grid_gco2_per_kwh,
            camera_box: BoxModel {
                name: clip(&format!("{name} ({source})")),
                cores,
                extra_watts: busy_watts - idle_watts,
                gflops,
            },
        };
        Ok(Self { since: Instant::now(), site, accounts: Mutex::default(), power: Mutex::new(power) })
    }

    /// The account of a camera, which its frames are put on.
    pub fn account(&self, camera: &str) -> Arc<Account> {
        self.lock().of(camera)
    }

    /// Every account now, after what is due of the energy was shared out.
    pub fn look(&self) -> (Site, Vec<CameraAccount>) {
        self.settle();
        let accounts = self.lock();
        let for_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        (Site { for_ms, idle_joules: accounts.idle_joules(), ..self.site.clone() }, accounts.all())
    }

    /// What an operator is told of the cameras that match.
    pub fn answer(&self, cameras: Option<&Pattern>) -> Vec<OperatorReplyMsg> {
        let (site, accounts) = self.look();
        let wanted = |camera: &str| cameras.is_none_or(|pattern| pattern.matches(camera));
        let each = accounts.into_iter().filter(|account| wanted(&account.camera));
        std::iter::once(OperatorReplyMsg::Site(site)).chain(each.map(OperatorReplyMsg::Account)).collect()
    }

    /// Shares out the energy since the last call.
    fn settle(&self) {
        let mut power = self.power.lock().unwrap_or_else(PoisonError::into_inner);
        let mut accounts = self.lock();
        let joules = power.since_last(accounts.busy());
        accounts.share_out(joules);
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name as long as the protocol allows.
fn short(text: &str) -> String {
    let mut name = clip(text);
    name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
    name
}

/// Shares energy out for as long as the task runs.
pub(crate) async fn keep_sharing(ledger: Arc<Ledger>) {
    let mut every = tokio::time::interval(SHARED_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        ledger.settle();
    }
}

//! The accounts, and how a meter's joules are divided among them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::{CameraAccount, EdgeWork};

/// Most cameras with an account of their own; later ones share [`OTHERS`].
const MAX_CAMERAS: usize = 4096;
/// Cameras beyond [`MAX_CAMERAS`].
const OTHERS: &str = "(others)";

/// What one camera has cost. Counting is wait-free: the device's thread and the sessions do it.
#[derive(Debug, Default)]
pub struct Account {
    frames: AtomicU64,
    flops: AtomicU64,
    busy_ns: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    edge: Mutex<Edge>,
}

/// What an agent says of itself: its counters begin anew when it does.
#[derive(Debug, Default)]
struct Edge {
    total: EdgeWork,
    last: EdgeWork,
}

impl Account {
    /// A frame was encoded with so many operations; `busy` is its share of the batch's time.
    pub fn encoded(&self, flops: u64, busy: Duration) {
        let busy_ns = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.flops.fetch_add(flops, Ordering::Relaxed);
        self.busy_ns.fetch_add(busy_ns, Ordering::Relaxed);
    }

    /// Its connection moved so many bytes.
    pub fn moved(&self, received: u64, sent: u64) {
        self.received.fetch_add(received, Ordering::Relaxed);
        self.sent.fetch_add(sent, Ordering::Relaxed);
    }

    /// Its agent said what it has computed since it started.
    pub fn edge(&self, now: EdgeWork) {
        let mut edge = self.edge.lock().unwrap_or_else(PoisonError::into_inner);
        let went_on = |now: u64, last: u64| now.checked_sub(last);
        let parts = |work: EdgeWork| [work.frames, work.head_flops, work.picture_flops, work.cpu_us];
        let (news, lasts) = (parts(now), parts(edge.last));
        // A counter that went back is that of an agent that started again.
        let more: Option<Vec<u64>> =
            news.into_iter().zip(lasts).map(|(now, last)| went_on(now, last)).collect();
        let more = more.unwrap_or_else(|| news.to_vec());
        let total = &mut edge.total;
        let sums = [&mut total.frames, &mut total.head_flops, &mut total.picture_flops, &mut total.cpu_us];
        sums.into_iter().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        edge.last = now;
    }

    fn flops(&self) -> u64 {
        self.flops.load(Ordering::Relaxed)
    }
}

/// All accounts, and the energy that was shared out.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    rows: BTreeMap<String, Row>,
    idle_joules: f64,
    busy_seen: Duration,
}

#[derive(Debug, Default)]
struct Row {
    account: Arc<Account>,
    /// Operations that have had their share of the energy.
    paid: u64,
    joules: f64,
}

impl Accounts {
    /// The account of this name, a new one if need be.
    pub(super) fn of(&mut self, camera: &str) -> Arc<Account> {
        let known = self.rows.contains_key(camera) || self.rows.len() < MAX_CAMERAS;
        let name = if known { camera } else { OTHERS };
        Arc::clone(&self.rows.entry(name.to_owned()).or_default().account)
    }

    /// How long the device encoded since the last call.
    pub(super) fn busy(&mut self) -> Duration {
        let nanos: u64 = self.rows.values().map(|row| row.account.busy_ns.load(Ordering::Relaxed)).sum();
        let busy = Duration::from_nanos(nanos);
        let since = busy.saturating_sub(self.busy_seen);
        self.busy_seen = busy;
        since
    }

    /// Divides energy among the operations since the last call, or puts it down as idle.
    pub(super) fn share_out(&mut self, joules: f64) {
        let unpaid: Vec<u64> =
            self.rows.values().map(|row| row.account.flops().saturating_sub(row.paid)).collect();
        let all: u64 = unpaid.iter().sum();
        if all == 0 {
            self.idle_joules += joules;
            return;
        }
        for (row, unpaid) in self.rows.values_mut().zip(unpaid) {
            row.paid += unpaid;
            row.joules += joules * (unpaid as f64 / all as f64);
        }
    }

    /// Energy of seconds without a frame, in joules.
    pub(super) fn idle_joules(&self) -> f64 {
        self.idle_joules
    }

    /// Every account that something was put on, by name.
    pub(super) fn all(&self) -> Vec<CameraAccount> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let line = |(camera, row): (&String, &Row)| {
            let Account { frames, flops, busy_ns, received, sent, edge } = &*row.account;
            CameraAccount {
                camera: camera.clone(),
                frames: load(frames),
                flops: load(flops),
                busy_us: load(busy_ns) / 1000,
                joules: row.joules,
                received: load(received),
                sent: load(sent),
                edge: edge.lock().unwrap_or_else(PoisonError::into_inner).total,
            }
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn joules(accounts: &Accounts, camera: &str) -> f64 {
        accounts.rows[camera].joules
    }

    #[test]
    fn energy_goes_by_operations_and_idle_seconds_are_nobodys() {
        let mut accounts = Accounts::default();
        accounts.share_out(5.0);
        let (one, two) = (accounts.of("one"), accounts.of("two"));
        one.encoded(100, MS);
        two.encoded(100, MS);
        two.encoded(100, MS);
        accounts.share_out(6.0);
        // Nothing new: idle again.
        accounts.share_out(1.0);
        one.encoded(50, MS);
        accounts.share_out(3.0);
        assert_eq!((joules(&accounts, "one"), joules(&accounts, "two")), (2.0 + 3.0, 4.0));
        assert_eq!(accounts.idle_joules(), 6.0);
        assert_eq!(accounts.busy(), 4 * MS);
        assert_eq!(accounts.busy(), Duration::ZERO);
    }

    #[test]
    fn an_agent_that_starts_again_loses_nothing() {
        let account = Account::default();
        let work = |frames, head_flops| EdgeWork { frames, head_flops, ..EdgeWork::default() };
        [work(2, 20), work(5, 50), work(1, 10), work(3, 30)].into_iter().for_each(|work| account.edge(work));
        assert_eq!(account.edge.lock().unwrap().total, work(5 + 3, 50 + 30));
    }

    #[test]
    fn cameras_beyond_the_limit_share_an_account() {
        let mut accounts = Accounts::default();
        (0..MAX_CAMERAS + 5).for_each(|at| accounts.of(&format!("camera {at:05}")).encoded(1, MS));
        assert_eq!(accounts.rows.len(), MAX_CAMERAS + 1);
        assert_eq!(accounts.rows[OTHERS].account.flops(), 5);
        assert_eq!(accounts.all().iter().map(|account| account.frames).sum::<u64>(), MAX_CAMERAS as u64 + 5);
    }

    proptest! {
        #[test]
        fn no_joule_is_lost(steps in prop::collection::vec((0usize..4, 0u64..1 << 40, 0.0..1e6), 1..60)) {
            let mut accounts = Accounts::default();
            let mut given = 0.0;
            for (camera, flops, joules) in steps {
                if camera > 0 {
                    accounts.of(&camera.to_string()).encoded(flops, MS);
                }
                accounts.share_out(joules);
                given += joules;
            }
            let kept = accounts.rows.values().map(|row| row.joules).sum::<f64>() + accounts.idle_joules();
            prop_assert!((kept - given).abs() <= 1e-9 * given.max(1.0), "{kept} of {given}");
        }
    }
}

//! Forwards packets between two devices: one thread, which sleeps until a packet comes or one is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::path::{Path, Shape};
use super::sys;

/// Longest IP packet.
const MAX_BYTES: usize = 65_536;
/// How soon the end of the link is noticed.
const LOOK: Duration = Duration::from_millis(20);
/// Packets under way in both directions; beyond, they are lost as in any full queue.
const UNDER_WAY: usize = 100_000;

/// What became of packets, by direction: up, down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that were let through.
    pub passed: [u64; 2],
    /// Packets that were not.
    pub lost: [u64; 2],
}

/// A running link. It ends when dropped.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    passed: [AtomicU64; 2],
    lost: [AtomicU64; 2],
}

impl Link {
    /// Forwards between the two devices; the first shape is for what comes from the first.
    pub(super) fn start(devices: [File; 2], shapes: [Shape; 2], seed: u64) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let now = Instant::now();
        let [up, down] = shapes;
        let forward = Forward {
            devices,
            paths: [Path::new(up, (seed, 0), now), Path::new(down, (seed, 1), now)],
            under_way: BinaryHeap::new(),
            taken: 0,
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new().name("link".into()).spawn(move || forward.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What became of packets so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let load =
            |counters: &[AtomicU64; 2]| [0, 1].map(|side: usize| counters[side].load(Ordering::Relaxed));
        Counts { passed: load(&self.shared.passed), lost: load(&self.shared.lost) }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A link that panicked has failed whatever used it.
            let _ = thread.join();
        }
    }
}

/// When it arrives, its number as it came, the device it goes to, and its bytes; sorted by the first two.
type Packet = (Instant, u64, usize, Vec<u8>);

struct Forward {
    devices: [File; 2],
    paths: [Path; 2],
    under_way: BinaryHeap<Reverse<Packet>>,
    taken: u64,
    shared: Arc<Shared>,
}

impl Forward {
    fn run(mut self) {
        let mut buffer = vec![0; MAX_BYTES];
        while !self.shared.ended.load(Ordering::Relaxed) {
            self.give(Instant::now());
            let wait = match self.under_way.peek() {
                Some(Reverse((at, ..))) => at.saturating_duration_since(Instant::now()).min(LOOK),
                None => LOOK,
            };
            let [near, far] = &self.devices;
            if sys::wait_readable([near, far], wait).is_err() {
                return;
            }
            (0..2).for_each(|side| self.take(side, &mut buffer));
        }
    }

    /// Takes all that wait at a device.
    fn take(&mut self, side: usize, buffer: &mut [u8]) {
        while let Ok(len) = (&self.devices[side]).read(buffer) {
            // The system says things of its own, over IPv6, when a device starts.
            if len == 0 || buffer[0] >> 4 != 4 {
                continue;
            }
            let arrives = self.paths[side].pass(len, Instant::now());
            let Some(at) = arrives.filter(|_| self.under_way.len() < UNDER_WAY) else {
                self.shared.lost[side].fetch_add(1, Ordering::Relaxed);
                continue;
            };
            self.taken += 1;
            self.under_way.push(Reverse((at, self.taken, 1 - side, buffer[..len].to_vec())));
            self.shared.passed[side].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Delivers what is due.
    fn give(&mut self, now: Instant) {
        while let Some(Reverse((at, ..))) = self.under_way.peek()
            && *at <= now
        {
            let Some(Reverse((.., side, packet))) = self.under_way.pop() else { return };
            // A device that does not take it loses it, as any would.
            let _ = (&self.devices[side]).write(&packet);
        }
    }
}

//! A bad link: a UDP proxy with a rate, a delay, a queue and losses, the same losses for the same seed.
//!
//! ```text
//! client ⇄ socket ─► lossy, slow, late ─► socket ⇄ server      (and the same on the way back)
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Longest datagram.
const MAX_BYTES: usize = 65_536;
/// Datagrams under way in one direction; beyond, they are lost as in any full queue.
const UNDER_WAY: usize = 8192;

/// What a link does to each direction.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Bytes a second.
    pub rate: f64,
    /// From one end to the other, half a round trip.
    pub delay: Duration,
    /// Longest wait for the rate; what would wait longer is lost.
    pub queue: Duration,
    /// Fraction of datagrams that are lost, 0 to 1.
    pub loss: f64,
    /// Of the losses.
    pub seed: u64,
}

/// One direction's fate of datagrams. Pure: `now` is the caller's.
#[derive(Debug)]
struct Direction {
    shape: Shape,
    losses: ChaCha8Rng,
    free_at: Option<Instant>,
}

impl Direction {
    fn new(shape: Shape, stream: u64) -> Self {
        let mut losses = ChaCha8Rng::seed_from_u64(shape.seed);
        losses.set_stream(stream);
        Self { shape, losses, free_at: None }
    }

    /// When a datagram arrives; `None`: never.
    fn pass(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let Shape { rate, delay, queue, loss, .. } = self.shape;
        if self.losses.random_bool(loss) {
            return None;
        }
        let start = self.free_at.map_or(now, |free| free.max(now));
        if start.duration_since(now) > queue {
            return None;
        }
        let sent = start + Duration::from_secs_f64(bytes as f64 / rate);
        self.free_at = Some(sent);
        Some(sent + delay)
    }
}

/// A running link for one client. It ends when dropped.
#[derive(Debug)]
pub struct Link {
    /// Where the client connects to.
    pub address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Link {
    /// Starts a link to `server` on loopback. To be called within a tokio runtime.
    ///
    /// # Errors
    /// No socket.
    pub async fn start(server: SocketAddr, shape: Shape) -> io::Result<Self> {
        let near = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let far = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        far.connect(server).await?;
        let address = near.local_addr()?;
        let (is_at, client) = watch::channel(None);
        let (up, at_far) = mpsc::channel(UNDER_WAY);
        let (down, at_near) = mpsc::channel(UNDER_WAY);
        let mut tasks = JoinSet::new();
        tasks.spawn(take(Arc::clone(&near), Direction::new(shape, 0), up, Some(is_at)));
        tasks.spawn(take(Arc::clone(&far), Direction::new(shape, 1), down, None));
        tasks.spawn(give(far, at_far, None));
        tasks.spawn(give(near, at_near, Some(client)));
        Ok(Self { address, _tasks: tasks })
    }
}

type Late = (Instant, Vec<u8>);

/// Takes datagrams in, and notes where they come from.
async fn take(
    from: Arc<UdpSocket>,
    mut direction: Direction,
    to: mpsc::Sender<Late>,
    sender: Option<watch::Sender<Option<SocketAddr>>>,
) {
    let mut buffer = vec![0; MAX_BYTES];
    loop {
        // Loopback says here that an earlier datagram found nobody: that one is lost, no more.
        let Ok((len, address)) = from.recv_from(&mut buffer).await else { continue };
        if let Some(sender) = &sender {
            sender.send_replace(Some(address));
        }
        if let Some(at) = direction.pass(len, Instant::now()) {
            let _ = to.try_send((at, buffer[..len].to_vec()));
        }
    }
}

/// Delivers each when it is time. They are in order, because all take the same delay.
async fn give(
    to: Arc<UdpSocket>,
    mut late: mpsc::Receiver<Late>,
    client: Option<watch::Receiver<Option<SocketAddr>>>,
) {
    while let Some((at, datagram)) = late.recv().await {
        sleep_until(at).await;
        // Nobody there is a loss like any other.
        let _ = match &client {
            None => to.send(&datagram).await,
            Some(client) => {
                let Some(address) = *client.borrow() else { continue };
                to.send_to(&datagram, address).await
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        rate: 1000.0,
        delay: Duration::from_millis(50),
        queue: Duration::from_millis(200),
        loss: 0.0,
        seed: 1,
    };

    #[test]
    fn datagrams_wait_for_the_rate_then_travel_and_a_full_queue_drops() {
        let (mut link, now) = (Direction::new(SHAPE, 0), Instant::now());
        let mut sent = || link.pass(100, now).map(|at| at.duration_since(now).as_millis());
        assert_eq!([sent(), sent(), sent(), sent()], [Some(150), Some(250), Some(350), None]);
        let later = now + Duration::from_secs(1);
        assert_eq!(link.pass(100, later), Some(later + Duration::from_millis(150)), "it is free again");
    }

    #[test]
    fn losses_are_as_many_as_said_and_the_same_for_a_seed() {
        let shape = Shape { rate: 1e12, loss: 0.02, ..SHAPE };
        let lost = |stream| {
            let (mut link, now) = (Direction::new(shape, stream), Instant::now());
            (0..10_000).filter(|_| link.pass(1, now).is_none()).count()
        };
        assert_eq!(lost(0), lost(0));
        // Four standard deviations of a binomial around 200.
        assert!((144..=256).contains(&lost(0)) && (144..=256).contains(&lost(1)));
    }
}

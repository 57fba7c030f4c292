//! Agents without devices and heads: the real link, session and frame path, all on one socket.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use edge_agent::config::ServerAddr;
use edge_agent::ledger::{Counts, Dropped, Ledger};
use edge_agent::uplink::dial::{Dialer, Greeting};
use edge_agent::uplink::frame::{Incoming, Outgoing, exchange};
use edge_agent::uplink::link::{Link, Options, State};
use edge_agent::uplink::session::{OnWire, Session};
use fixtures::{ALWAYS, Leaf};
use protocol::Encoding;
use shared::tls::Identity;
use tests::answers::quantile;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::frames::Jpegs;
use crate::servers::Server;

/// As an agent has unless it is told otherwise.
const IN_FLIGHT: u16 = 4;
/// A live frame's answer is news for this long, as in the agent.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);
/// A thousand handshakes take seconds; more is a fault.
const ALL_UP_WITHIN: Duration = Duration::from_secs(60);

/// What each camera offers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Offer {
    /// Frames a second, at fixed times.
    Rate(f64),
    /// A frame whenever there is a place in flight.
    AsManyAsTheyTake,
}

/// Connected cameras.
pub(crate) struct Cameras {
    links: Vec<Link>,
    jpegs: Jpegs,
}

/// Where an answered frame's time went.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// From when it was due.
    whole: Duration,
    /// From then until it was there: a timer's doing, a camera has none.
    timer: Duration,
    /// From then until its turn came to be sent.
    turn: Duration,
    send: Duration,
    network: Duration,
    queue: Duration,
    decode: Duration,
    encode: Duration,
    reply: Duration,
}

/// What became of the frames of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) took: Duration,
    samples: Vec<Sample>,
}

/// What the cameras of a run share.
struct Run {
    ledger: Ledger,
    samples: Mutex<Vec<Sample>>,
    jpegs: Jpegs,
    deadline: Duration,
}

impl Cameras {
    /// Starts `count` cameras and waits until the server has welcomed all. Names start at number `first`.
    pub(crate) async fn connect(
        server: &Server,
        (first, count): (usize, usize),
        jpegs: &Jpegs,
    ) -> anyhow::Result<Self> {
        let names = (first..first + count).map(|number| format!("camera-{number}"));
        let mut dialer: Option<Dialer> = None;
        let mut links = Vec::new();
        for (number, name) in (first..).zip(names) {
            let folder = issue(server, &name, number);
            let (identity, greeting) = (Identity::load(&folder)?, Greeting { instance: 1, camera: name });
            let next = match &dialer {
                Some(dialer) => dialer.beside(&folder, identity, greeting),
                None => Dialer::new(&folder, identity, greeting)?,
            };
            if let Some(dialer) = dialer.replace(next) {
                links.push(Link::start(dialer, options(server)?));
            }
        }
        links.extend(
            dialer.map(|last| Ok::<_, anyhow::Error>(Link::start(last, options(server)?))).transpose()?,
        );
        let cameras = Self { links, jpegs: Arc::clone(jpegs) };
        cameras.all_up().await?;
        Ok(cameras)
    }

    /// Waits until all are connected; how long that took.
    pub(crate) async fn all_up(&self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let all = async {
            for link in &self.links {
                let mut state = link.state();
                // The link's task lives as long as the link.
                let _ = state.wait_for(|state| matches!(state, State::Up(_))).await;
            }
        };
        let up = || self.links.iter().filter(|link| matches!(*link.state().borrow(), State::Up(_))).count();
        let all = timeout(ALL_UP_WITHIN, all).await;
        all.with_context(|| format!("{} of {} cameras were welcomed", up(), self.links.len()))?;
        Ok(start.elapsed())
    }

    /// How often an encoder welcomed the cameras so far, all together.
    pub(crate) fn welcomes(&self) -> u64 {
        self.links.iter().map(|link| link.sessions().load(std::sync::atomic::Ordering::Relaxed)).sum()
    }

    /// Lets all cameras film for a time; each frame is answered or dropped when this returns.
    pub(crate) async fn film(&self, offer: Offer, time: Duration) -> anyhow::Result<Outcome> {
        self.film_within(offer, time, DEADLINE).await
    }

    /// [`film`](Self::film), where answers are news for `deadline`.
    pub(crate) async fn film_within(
        &self,
        offer: Offer,
        time: Duration,
        deadline: Duration,
    ) -> anyhow::Result<Outcome> {
        let (ledger, samples) = (Ledger::default(), Mutex::default());
        let run = Arc::new(Run { ledger, samples, jpegs: Arc::clone(&self.jpegs), deadline });
        let start = Instant::now();
        let mut cameras = JoinSet::new();
        for (number, link) in self.links.iter().enumerate() {
            let camera = Camera { number, of: self.links.len(), state: link.state(), run: Arc::clone(&run) };
            cameras.spawn(camera.film(offer, start, start + time));
        }
        while let Some(filmed) = cameras.join_next().await {
            filmed?;
        }
        let took = start.elapsed();
        let counts = run.ledger.counts();
        ensure!(counts.open() == 0, "frames are unaccounted for: {counts}");
        let samples = std::mem::take(&mut *run.samples.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Outcome { counts, took, samples })
    }
}

impl Outcome {
    /// A quantile of the time from when a frame was due to its embedding, ms.
    pub(crate) fn latency_ms(&self, q: f64) -> Option<f64> {
        self.quantile_ms(q, |sample| sample.whole)
    }

    /// From when a frame was there, without decoding and encoding.
    pub(crate) fn overhead_ms(&self, q: f64) -> Option<f64> {
        self.quantile_ms(q, |sample| {
            sample.whole.saturating_sub(sample.timer + sample.decode + sample.encode)
        })
    }

    /// The medians of what that consists of, ms.
    pub(crate) fn overhead_stages(&self) -> Option<String> {
        type Stage = fn(&Sample) -> Duration;
        let stages: [(&str, Stage); 5] = [
            ("turn", |sample| sample.turn),
            ("send", |sample| sample.send),
            ("network", |sample| sample.network),
            ("queue", |sample| sample.queue),
            ("reply", |sample| sample.reply),
        ];
        let medians = stages.map(|(name, of)| Some(format!("{name} {:.2}", self.quantile_ms(0.5, of)?)));
        Some(medians.into_iter().collect::<Option<Vec<_>>>()?.join(", "))
    }

    pub(crate) fn answered_a_second(&self) -> f64 {
        self.counts.answered as f64 / self.took.as_secs_f64()
    }

    /// Why frames came to nothing, with their counts.
    pub(crate) fn dropped(&self) -> String {
        let reasons: Vec<_> =
            self.counts.dropped.iter().map(|(why, count)| format!("{why} {count}")).collect();
        if reasons.is_empty() { "none".to_owned() } else { reasons.join(", ") }
    }

    fn quantile_ms(&self, q: f64, of: impl Fn(&Sample) -> Duration) -> Option<f64> {
        let times: Vec<f64> = self.samples.iter().map(|sample| of(sample).as_secs_f64() * 1e3).collect();
        quantile(&times, q)
    }
}

/// One camera's run.
struct Camera {
    number: usize,
    of: usize,
    state: tokio::sync::watch::Receiver<State>,
    run: Arc<Run>,
}

impl Camera {
    async fn film(self, offer: Offer, start: Instant, end: Instant) {
        let mut under_way = JoinSet::new();
        match offer {
            Offer::Rate(fps) => {
                let period = Duration::from_secs_f64(1.0 / fps);
                // Cameras do not film in step.
                let phase = period.mul_f64(self.number as f64 / self.of as f64);
                self.at_rate(period, start + phase, end, &mut under_way).await;
            }
            Offer::AsManyAsTheyTake => self.as_many(end, &mut under_way).await,
        }
        while under_way.join_next().await.is_some() {}
    }

    /// A frame waits for a place in flight until the next one is due, which then takes its turn.
    async fn at_rate(&self, period: Duration, mut due: Instant, end: Instant, under_way: &mut JoinSet<()>) {
        let mut seq = 0;
        while due < end {
            sleep_until(due.into()).await;
            let ticket = self.run.ledger.captured();
            let (frame, next) = (Frame { seq, due, there: Instant::now() }, due + period);
            (seq, due) = (seq + 1, next);
            let State::Up(session) = self.state.borrow().clone() else {
                ticket.dropped(&Dropped::LinkDown(String::new()));
                continue;
            };
            tokio::select! {
                biased;
                permit = session.slot() => {
                    let run = Arc::clone(&self.run);
                    under_way.spawn(async move {
                        match run.exchange(&session, frame, permit).await {
                            Ok(()) => ticket.answered(),
                            Err(why) => ticket.dropped(&why),
                        }
                    });
                }
                () = sleep_until(next.into()) => ticket.dropped(&Dropped::Superseded),
            }
            while under_way.try_join_next().is_some() {}
        }
    }

    async fn as_many(&self, end: Instant, under_way: &mut JoinSet<()>) {
        for seq in 0.. {
            let State::Up(session) = self.state.borrow().clone() else { return };
            let permit = session.slot().await;
            if Instant::now() >= end {
                return;
            }
            let (ticket, run) = (self.run.ledger.captured(), Arc::clone(&self.run));
            let now = Instant::now();
            let frame = Frame { seq, due: now, there: now };
            under_way.spawn(async move {
                match run.exchange(&session, frame, permit).await {
                    Ok(()) => ticket.answered(),
                    Err(why) => ticket.dropped(&why),
                }
            });
            while under_way.try_join_next().is_some() {}
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    seq: u64,
    due: Instant,
    there: Instant,
}

impl Run {
    async fn exchange(
        &self,
        session: &Session,
        Frame { seq, due, there }: Frame,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), Dropped> {
        let jpeg = &self.jpegs[seq as usize % self.jpegs.len()];
        let outgoing = Outgoing {
            seq,
            captured_at: jiff::Timestamp::now(),
            jpeg: jpeg.clone().into(),
            pixels: 1,
            patches: None,
            deadline: due + self.deadline,
            embedding: Encoding::F16,
            tokens: false,
        };
        let turn = there.elapsed();
        let Incoming { send, network, encoder, reply, .. } = exchange(session, &outgoing).await?;
        let whole = due.elapsed();
        drop(permit);
        let [queue, decode, encode] = [encoder.queue_us, encoder.decode_us, encoder.encode_us]
            .map(|us| Duration::from_micros(us.into()));
        let sample = Sample { whole, timer: there - due, turn, send, network, queue, decode, encode, reply };
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        Ok(())
    }
}

fn issue(server: &Server, name: &str, number: usize) -> PathBuf {
    // Serial numbers are a byte here; names tell cameras apart.
    server.authority.issue(&Leaf::camera(name, (number % 256) as u8, ALWAYS))
}

fn options(server: &Server) -> anyhow::Result<Options> {
    let address: ServerAddr = server.address.to_string().parse().map_err(anyhow::Error::msg)?;
    Ok(Options {
        servers: vec![address],
        on_wire: OnWire { in_flight: IN_FLIGHT, patches: false },
        spaces: Box::new(Vec::new),
        work: Arc::default(),
        releases: None,
        give_up: false,
    })
}

//! Assembly of the server: configuration, endpoint, sessions, pipeline, device; start, drain, end.
//!
//! ```text
//! Config ─► Server::start ─┬─ endpoint ─► accept loop ─► one session task a connection
//!                          ├─ enrolment, on a port of its own
//!                          ├─ decode workers (threads)
//!                          └─ driver (thread) owns the backend
//! ServerHandle::shutdown ─► no new connections ─► goodbye to agents ─► frames in flight answered ─► closed
//! ```

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::limits::MAX_NAME_BYTES;
use protocol::{GridShape, InputSize, SessionLimits, VERSION, Welcome, close};
use quinn::{Endpoint, Incoming, VarInt};
use rustls::time_provider::TimeProvider;
use shared::metrics::Serving;
use shared::patches;
use shared::tls::{Failure, PkiPaths, ServerTls, WatchGuard, system_time};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::archive::Tap;
use crate::backend::{Backend, BackendInfo};
use crate::batch::{Counts, Pipeline};
use crate::ledger::{self, Ledger};
use crate::registry::Registrar;
use crate::session::{self, Context, Devices, Live};
pub(crate) use door::Handshakes;
use door::{Answer, Arrival, Door, UnderWay};
use engine::Engine;
use enroll::Enrolment;
use listen::{bind_error, listen};
use metrics::{Metrics, NoHandshake};
use tcp::Tcp;

pub mod config;
mod door;
mod engine;
mod enroll;
mod error;
mod listen;
pub(crate) mod metrics;
mod registry;
mod tcp;

pub use config::Config;
pub use error::ServeError;

/// How long the end of a connection may take to reach the agents.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// A running server. Dropped, it goes on until the runtime ends; [`shutdown`](Self::shutdown) ends it well.
#[derive(Debug)]
pub struct ServerHandle {
    local_addr: SocketAddr,
    tcp_addr: Option<SocketAddr>,
    enroll_addr: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    pipeline: Arc<Pipeline>,
    registrar: Option<Arc<Registrar>>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    /// Starts a server with this backend; it is ready when this returns. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ServeError`], each with what to do about it.
    pub fn start(config: &Config, backend: Box<dyn Backend>) -> Result<ServerHandle, ServeError> {
        Self::start_at(config, backend, system_time())
    }

    /// [`start`](Self::start) with another clock for certificates.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_at(
        config: &Config,
        backend: Box<dyn Backend>,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<ServerHandle, ServeError> {
        config.validate()?;
        config.archive.check().map_err(ServeError::Sampling)?;
        let pki = config.pki.as_deref().ok_or(ServeError::NoPki)?;
        let tls = ServerTls::load_at(&PkiPaths::in_dir(pki), Arc::clone(&clock))?;
        for warning in tls.identity().warnings() {
            tracing::warn!("{warning}");
        }
        let info = backend.info();
        let welcome = welcome(config, &info);
        let encoder = ledger::Encoder { model: &welcome.model, flops: info.flops, device: &info.device };
        let ledger = Arc::new(Ledger::new(&config.energy, encoder)?);
        let endpoint = listen(config, &tls)?;
        let local_addr = endpoint.local_addr().map_err(|why| bind_error(config.listen, why))?;
        let tcp = Tcp::listen(config, &tls)?;
        let tcp_addr = tcp.as_ref().and_then(|tcp| tcp.address().ok());
        let engine = Engine::start(config, backend, &welcome)?;
        let registrar = registry::open(config)?;
        let enrolment = Enrolment::start(config, &tls, registrar.clone())?;
        let enroll_addr = enrolment.as_ref().and_then(Enrolment::address);
        let (stop, draining) = watch::channel(false);
        let context = Arc::new(Context {
            welcome,
            backend: info,
            timeouts: config.timeouts.clone(),
            pipeline: Arc::clone(&engine.pipeline),
            memory: Arc::new(Semaphore::new(kib(config.limits.frame_memory.as_u64()))),
            in_flight: Arc::new(Semaphore::new(
                config.limits.max_in_flight_together.min(Semaphore::MAX_PERMITS),
            )),
            handshakes: Handshakes::default(),
            devices: Devices::new(&config.limits, config.max_frame_bytes(), Instant::now()),
            weights: config.queue.weights.clone(),
            live: Live::new(config.limits.max_sessions, config.timeouts.silence),
            registrar: registrar.clone(),
            revocations: tls.revocations().clone(),
            identity: tls.identity().clone(),
            clock,
            draining,
            metrics: Metrics::new(),
            ledger: Arc::clone(&ledger),
            archive: Tap::start(&config.archive)?,
        });
        let serving = metrics::start(config, &context, &endpoint)?;
        let metrics = serving.as_ref().map(Serving::address);
        let pipeline = Arc::clone(&engine.pipeline);
        let running = Running {
            endpoint,
            tcp,
            context,
            engine,
            stop: stop.clone(),
            door: Door::new(&config.limits, Instant::now()),
            sessions: JoinSet::new(),
            _enrolment: enrolment,
            _rollouts: registrar.clone().map(registry::keep_stepping),
            _revocations: tls.revocations().watch(),
            _metrics: serving,
            _ledger: Sharing(tokio::spawn(ledger::keep_sharing(ledger)).abort_handle()),
        };
        if let Some(path) = &config.ready_file {
            write_ready_file(path, local_addr)?;
        }
        let task = tokio::spawn(running.run());
        Ok(ServerHandle { local_addr, tcp_addr, enroll_addr, metrics, stop, pipeline, registrar, task })
    }
}

impl ServerHandle {
    /// The bound address: the real port where the configuration says 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The bound TCP address, if the server listens on one.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp_addr
    }

    /// Where boxes enrol, if they do.
    pub fn enroll_addr(&self) -> Option<SocketAddr> {
        self.enroll_addr
    }

    /// Where metrics are served, if they are.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// How many frames are where.
    pub fn counts(&self) -> Counts {
        self.pipeline.counts()
    }

    /// The registry of head releases, if the server has one.
    pub fn registrar(&self) -> Option<&Arc<Registrar>> {
        self.registrar.as_ref()
    }

    /// Waits until the server ends by itself: only because its device is beyond use. Cancel-safe.
    ///
    /// # Errors
    /// [`ServeError::Device`].
    pub async fn ended(&mut self) -> Result<(), ServeError> {
        joined((&mut self.task).await)
    }

    /// Drains and ends: new connections are refused, agents are told to go elsewhere, frames in flight are
    /// answered, within [`Timeouts::drain`](config::Timeouts::drain).
    ///
    /// # Errors
    /// [`ServeError::Device`] if the device failed meanwhile.
    pub async fn shutdown(self) -> Result<(), ServeError> {
        self.stop.send_replace(true);
        joined(self.task.await)
    }
}

fn joined(ended: Result<Result<(), ServeError>, tokio::task::JoinError>) -> Result<(), ServeError> {
    ended.unwrap_or_else(|error| Err(ServeError::Device(format!("the server task failed: {error}"))))
}

/// The accept loop and what it owns.
struct Running {
    endpoint: Endpoint,
    tcp: Option<Tcp>,
    context: Arc<Context>,
    engine: Engine,
    /// Tells the sessions to drain, whoever asked for it.
    stop: watch::Sender<bool>,
    door: Door,
    sessions: JoinSet<()>,
    _enrolment: Option<Enrolment>,
    _rollouts: Option<registry::Rollouts>,
    _revocations: WatchGuard,
    _metrics: Option<Serving>,
    _ledger: Sharing,
}

/// The task that shares energy out; it ends with the server.
struct Sharing(AbortHandle);

impl Drop for Sharing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Running {
    async fn run(mut self) -> Result<(), ServeError> {
        let mut stop = self.context.draining.clone();
        loop {
            tokio::select! {
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => self.accept(incoming),
                    None => break,
                },
                accepted = tcp::accept(self.tcp.as_ref()) => self.accept_tcp(accepted),
                Some(_) = self.sessions.join_next() => {}
                () = async { drop(stop.wait_for(|stop| *stop).await) } => break,
                () = self.engine.wait() => break,
            }
        }
        self.drain().await
    }

    fn accept(&mut self, incoming: Incoming) {
        let context = &self.context;
        let arrival = Arrival {
            proven: incoming.remote_address_validated(),
            open: self.endpoint.open_connections(),
            handshakes: context.handshakes.count(),
        };
        match self.door.answer(arrival, Instant::now()) {
            Answer::Begin => {
                let under_way = context.handshakes.begin();
                self.sessions.spawn(handshake(incoming, Arc::clone(context), under_way));
            }
            Answer::Prove => {
                context.metrics.proof();
                // Fails only for an address that is proven already.
                let _ = incoming.retry();
            }
            Answer::Refuse(why) => {
                context.metrics.no_handshake(why);
                incoming.refuse();
            }
        }
    }

    fn accept_tcp(&mut self, accepted: tcp::Accepted) {
        let context = &self.context;
        // TCP's own handshake has proven the address.
        let arrival =
            Arrival { proven: true, open: self.sessions.len(), handshakes: context.handshakes.count() };
        match self.door.answer(arrival, Instant::now()) {
            Answer::Begin | Answer::Prove => {
                let under_way = context.handshakes.begin();
                self.sessions.spawn(tcp::handshake(accepted, Arc::clone(context), under_way));
            }
            Answer::Refuse(why) => context.metrics.no_handshake(why),
        }
    }

    async fn drain(mut self) -> Result<(), ServeError> {
        let within = self.context.timeouts.drain;
        self.tcp = None;
        self.endpoint.set_server_config(None);
        self.stop.send_replace(true);
        let sessions = &mut self.sessions;
        if !sessions.is_empty() {
            tracing::info!(
                sessions = sessions.len(),
                "draining for at most {}",
                humantime::format_duration(within)
            );
        }
        let all_left = timeout(within, async { while sessions.join_next().await.is_some() {} });
        if all_left.await.is_err() {
            tracing::warn!(sessions = sessions.len(), "closing sessions that are still busy");
        }
        let ended = self.engine.end(LAST_WORDS).await;
        let context = Arc::clone(&self.context);
        // Samples that wait for the disk.
        let _ = tokio::task::spawn_blocking(move || context.archive.as_ref().map(Tap::finish)).await;
        self.sessions.abort_all();
        self.endpoint.close(VarInt::from_u32(close::DRAINING), b"the encoder is shutting down");
        let _ = timeout(LAST_WORDS, self.endpoint.wait_idle()).await;
        ended
    }
}

async fn handshake(incoming: Incoming, context: Arc<Context>, under_way: UnderWay) {
    let peer = incoming.remote_address();
    let connecting = match incoming.accept() {
        Ok(connecting) => connecting,
        Err(error) => return log_failure(&error, peer, &context),
    };
    match timeout(context.timeouts.handshake, connecting).await {
        Ok(Ok(connection)) => {
            drop(under_way);
            session::run(connection, context).await;
        }
        Ok(Err(error)) => log_failure(&error, peer, &context),
        Err(_) => {
            context.metrics.no_handshake(NoHandshake::Timeout);
            tracing::warn!(%peer, "the handshake took too long");
        }
    }
}

fn log_failure<'a>(error: impl Into<Failure<'a>>, peer: SocketAddr, context: &Context) {
    context.metrics.no_handshake(NoHandshake::Failed);
    tracing::warn!("no connection: {}", shared::tls::explain(error, &context.about(&peer.to_string())));
}

fn welcome(config: &Config, info: &BackendInfo) -> Welcome {
    let size = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    let (rows, cols, dim) = info.grid;
    let input = InputSize { width: size(info.input.1), height: size(info.input.0) };
    Welcome {
        version: VERSION,
        server: concat!("dc-encoder ", env!("CARGO_PKG_VERSION")).to_owned(),
        model: name(&info.model),
        note: protocol::limits::clip(&info.note),
        space: info.space,
        embed_dim: size(info.embed_dim),
        grid: (rows > 0).then(|| GridShape { rows: size(rows), cols: size(cols), dim: size(dim) }),
        input,
        patch: info
            .patches
            .as_ref()
            .map(|patches| size(patches.side))
            .filter(|side| patches::geometry(input, *side).is_ok()),
        limits: SessionLimits {
            max_frame_bytes: config.max_frame_bytes(),
            max_pixels: config.limits.max_pixels,
            max_in_flight: config.limits.max_in_flight,
        },
    }
}

/// A name as long as the protocol allows.
fn name(text: &str) -> String {
    let mut name = protocol::limits::clip(text);
    name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
    name
}

/// Semaphores count in `u32` per request and `usize >> 3` in all: KiB fit both.
fn kib(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(1024)).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

/// Written beside and renamed: who sees the file sees the whole address.
fn write_ready_file(path: &Path, address: SocketAddr) -> Result<(), ServeError> {
    use std::io::Write;
    let failed = |why| ServeError::ReadyFile { path: path.to_owned(), why };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    writeln!(file, "{address}").map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

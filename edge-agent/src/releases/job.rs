//! Getting one release: from the disk, or fetched; vetted; on the disk before it is handed over.

use std::sync::Arc;

use protocol::{BodyId, ReleaseId};
use shared::release::unpack;
use tokio::task::JoinHandle;

use super::fetch::{Ask, Fetch, Fetched, NotFetched};
use super::state::Until;
use super::store::Store;
use super::vet::{Case, Fault};
use crate::heads::Loaded;
use crate::uplink::session::Session;

/// What is on the disk may be wrong once; then the release itself is.
const ATTEMPTS: usize = 2;

/// Why a release was not got.
#[derive(Debug)]
pub(super) enum Ended {
    /// The link broke; another connection goes on.
    Interrupted(String),
    /// It does not run here.
    Fault(Fault),
}

/// A release that is being got. Dropping it stops that; what was fetched stays on the disk.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) head: String,
    pub(super) release: ReleaseId,
    /// The connection it comes over, counted.
    pub(super) connection: u64,
    task: JoinHandle<Result<Arc<Loaded>, Ended>>,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Job {
    pub(super) fn start(head: String, connection: u64, errand: Errand) -> Self {
        let release = errand.case.release;
        Self { head, release, connection, task: tokio::spawn(errand.run()) }
    }

    /// Waits for its end. Cancel-safe.
    pub(super) async fn ended(&mut self) -> Result<Arc<Loaded>, Ended> {
        (&mut self.task).await.unwrap_or_else(|error| {
            let words = format!("getting it failed: {error}; please report this");
            Err(Ended::Fault(Fault::new(words, Until::Another)))
        })
    }
}

/// What a job needs.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) store: Arc<Store>,
    pub(super) session: Session,
    pub(super) case: Case,
}

impl Errand {
    async fn run(self) -> Result<Arc<Loaded>, Ended> {
        let Self { store, session, case } = self;
        let (release, case) = (case.release, Arc::new(case));
        if store.has(release)
            && let Ok(loaded) = stored(Arc::clone(&store), Arc::clone(&case)).await
        {
            return Ok(loaded);
        }
        let fetch = Fetch { session, release, store: Arc::clone(&store), gate: case.gate.clone() };
        let mut ask = Ask::Any;
        for attempt in 1.. {
            let again = attempt < ATTEMPTS;
            let fetched = match fetch.run(ask).await {
                Ok(fetched) => fetched,
                Err(NotFetched::Interrupted(words)) => return Err(Ended::Interrupted(words)),
                Err(NotFetched::StartAgain) if again => {
                    store.forget_parts(release);
                    continue;
                }
                Err(NotFetched::StartAgain) => {
                    let words = "the server cannot go on where it stopped, nor start again";
                    return Err(give_up(&store, release, Fault::new(words, Until::Connection)));
                }
                Err(NotFetched::Fault(fault)) => return Err(give_up(&store, release, fault)),
            };
            let (store_in, case_in) = (Arc::clone(&store), Arc::clone(&case));
            let may_be_spoilt = fetched.resumed || fetched.body != BodyId::plain(release);
            match blocking(move || take_in(&store_in, &case_in, &fetched)).await {
                // A power cut may have spoilt what was there before, and a server its compressed bytes.
                Err(NotTaken::Spoilt(fault)) if may_be_spoilt && again => {
                    tracing::warn!(release = release.short(), fault.words, "fetching it again, uncompressed");
                    store.forget_parts(release);
                    ask = Ask::Plain;
                }
                Err(NotTaken::Spoilt(fault) | NotTaken::Fault(fault)) => {
                    return Err(give_up(&store, release, fault));
                }
                Ok(loaded) => return Ok(loaded),
            }
        }
        unreachable!("the last attempt returns")
    }
}

fn give_up(store: &Store, release: ReleaseId, fault: Fault) -> Ended {
    store.forget_parts(release);
    Ended::Fault(fault)
}

/// Why what was fetched was not taken in.
#[derive(Debug)]
enum NotTaken {
    /// These bytes are not the release.
    Spoilt(Fault),
    /// They are, and it does not run here.
    Fault(Fault),
}

impl From<Fault> for NotTaken {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Unpacks and vets what was fetched, and keeps it.
fn take_in(store: &Store, case: &Case, fetched: &Fetched) -> Result<Arc<Loaded>, NotTaken> {
    let disk = |error: String| Fault::new(error, Until::Connection);
    let release = case.release;
    let came =
        std::fs::read(store.part_path(release, fetched.body)).map_err(|error| disk(error.to_string()))?;
    let bytes = if fetched.body == BodyId::plain(release) {
        came
    } else {
        unpack(&came, fetched.total).map_err(|error| NotTaken::Spoilt(disk(error.to_string())))?
    };
    case.is_release(&bytes).map_err(NotTaken::Spoilt)?;
    let signature = Some(&fetched.signature[..]);
    let loaded = case.vet_content(&bytes, signature)?;
    store.keep_head(release, &bytes, signature).map_err(|error| disk(error.to_string()))?;
    Ok(Arc::new(loaded))
}

/// Vets a release that is on the disk.
pub(super) async fn stored(store: Arc<Store>, case: Arc<Case>) -> Result<Arc<Loaded>, Fault> {
    blocking(move || vet_stored(&store, &case)).await
}

/// The same, for a thread that may wait for the disk.
pub(super) fn vet_stored(store: &Store, case: &Case) -> Result<Arc<Loaded>, Fault> {
    let read = store.head(case.release);
    let (bytes, signature) = read.map_err(|error| Fault::new(error.to_string(), Until::Connection))?;
    case.vet(&bytes, signature.as_deref()).map(Arc::new)
}

/// Runs `work` beside the thread that drives the connection.
pub(super) async fn blocking<T: Send + 'static, E: From<Fault> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Fault::new(format!("it failed: {error}; please report this"), Until::Another).into())
    })
}

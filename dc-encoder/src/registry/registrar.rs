//! Who may change what: every change is verified here, made in one transaction, written to the audit log, and pushed.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use protocol::limits::MAX_RELEASE_BYTES;
use protocol::{HeadReport, ReleaseId, RolloutAction, RolloutPhase};
use shared::head::Head;
use shared::release::{
    Assignment, Channel, Freshness, HeadSignature, Pattern, PublicKey, Rollout, Seen, SignedAssignment,
    Trust, digest, unpack,
};
use tempfile::NamedTempFile;
use tokio::sync::watch;

use super::fleet::Fleet;
use super::pack::pack_into;
use super::{
    ASSIGNED, AuditRecord, Change, ChannelRecord, Given, HistoryRecord, Registry, RegistryError,
    ReleaseRecord, Snapshot,
};

/// Most patterns in a channel's audience; beyond, every camera is told.
const MAX_AUDIENCE: usize = 256;

/// Lines of a channel's history in which a replaced release is looked for: a release that is older comes back as a new
/// one, and the boxes remember a few of their own.
const SUPERSEDED_LINES: usize = 1000;

/// Who does what the server decides by itself.
const SERVER: &str = "server";

/// The registry and the rules for changing it. Methods that change something wait for the disk.
#[derive(Debug)]
pub struct Registrar {
    pub(super) store: Box<dyn Registry>,
    root: PublicKey,
    /// The lock of all changes.
    trust: Mutex<Option<Trust>>,
    fleet: Mutex<Fleet>,
    snapshot: watch::Sender<Arc<Snapshot>>,
}

impl Registrar {
    /// Opens a registry. `root`: needed the first time, and held against the registry's own later.
    ///
    /// # Errors
    /// [`RegistryError::NoRoot`], [`RegistryError::OtherRoot`], and what the store says.
    pub fn open(
        store: Box<dyn Registry>,
        root: Option<PublicKey>,
        now: Timestamp,
    ) -> Result<Self, RegistryError> {
        let root = match (store.root()?, root) {
            (Some(have), Some(got)) if have != got => {
                return Err(RegistryError::OtherRoot { have: have.short(), got: got.short() });
            }
            (Some(have), _) => have,
            (None, Some(got)) => {
                let audit = AuditRecord { by: SERVER.to_owned(), what: format!("root {got}"), at: now };
                store.commit(Change::Root(got), &audit)?;
                got
            }
            (None, None) => return Err(RegistryError::NoRoot),
        };
        let trust = store.key_ring()?.map(|ring| Trust::new(root, ring.as_bytes())).transpose()?;
        let (snapshot, _) = watch::channel(Arc::default());
        let registrar = Self { store, root, trust: Mutex::new(trust), fleet: Mutex::default(), snapshot };
        registrar.refresh(registrar.trust().as_ref())?;
        Ok(registrar)
    }

    /// What cameras are told, now and whenever it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    /// Whose rings count here.
    #[must_use]
    pub fn root(&self) -> PublicKey {
        self.root
    }

    /// Where everything is kept.
    #[must_use]
    pub fn store(&self) -> &dyn Registry {
        &*self.store
    }

    /// Whether a release is wanted here, before a byte of it is sent. `false`: it is here already.
    ///
    /// # Errors
    /// [`RegistryError::NoRing`], [`RegistryError::Release`].
    pub fn expects(&self, release: ReleaseId, signature: &[u8]) -> Result<bool, RegistryError> {
        let trust = self.trust();
        let trust = trust.as_ref().ok_or(RegistryError::NoRing)?;
        trust.verify_release(release, &HeadSignature::parse(signature)?)?;
        let Some(have) = self.store.release(release)? else { return Ok(true) };
        // Its key may have been revoked, or its file spoilt on the disk: then it comes again.
        let valid = HeadSignature::parse(have.signature.as_bytes())
            .and_then(|signature| trust.verify_release(release, &signature).map(|_| ()));
        Ok(valid.is_err() || !self.is_whole(release, &have))
    }

    /// Whether the files that are kept are the release.
    fn is_whole(&self, release: ReleaseId, record: &ReleaseRecord) -> bool {
        let read = |file: Result<File, RegistryError>| {
            let read = file.and_then(|file| read_limited(file, release));
            read.inspect_err(|error| tracing::error!("release {}: {error}", release.short())).ok()
        };
        let is_release = |bytes: &Vec<u8>| digest(bytes) == release;
        let packed = |bytes: Vec<u8>| unpack(&bytes, record.bytes).ok();
        read(self.store.open_release(release)).as_ref().is_some_and(is_release)
            && (record.packed.is_none()
                || read(self.store.open_packed(release)).and_then(packed).as_ref().is_some_and(is_release))
    }

    /// Keeps a release; the embedding space it reads. The file is one of [`Registry::incoming`], with all bytes in it.
    ///
    /// # Errors
    /// [`RegistryError`]: other bytes than announced, a signature that is not accepted, a head that cannot be used.
    pub fn publish(
        &self,
        by: &str,
        (release, signature): (ReleaseId, &[u8]),
        file: NamedTempFile,
        now: Timestamp,
    ) -> Result<String, RegistryError> {
        let opened = file.reopen().map_err(RegistryError::io("read", file.path()))?;
        let bytes = read_limited(opened, release)?;
        let got = digest(&bytes);
        if got != release {
            return Err(RegistryError::Garbled { want: release.short(), got: got.short() });
        }
        let head = Head::from_bytes(&bytes).map_err(|error| RegistryError::Head(error.to_string()))?;
        head.self_test().map_err(|error| RegistryError::Head(error.to_string()))?;
        // Before the lock: it takes a while, and nothing of it is kept if the signature is not accepted.
        let (packed, packed_record) = pack_into(&bytes, || self.store.incoming())?.unzip();
        let trust = self.trust();
        let known = trust.as_ref().ok_or(RegistryError::NoRing)?;
        let signer = known.verify_head(&bytes, &HeadSignature::parse(signature)?)?.name.clone();
        let (head, space) = (head.manifest().name.clone(), head.manifest().input.space.clone());
        let what = format!("release {release} of {head}, signed by {signer}");
        let record = ReleaseRecord {
            head,
            bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            packed: packed_record,
            signature: String::from_utf8_lossy(signature).into_owned(),
            by: by.to_owned(),
            at: now,
        };
        let change = Change::Release { id: release, file, packed, record: &record };
        self.store.commit(change, &AuditRecord { by: by.to_owned(), what, at: now })?;
        Ok(space)
    }

    /// Takes a newer key ring; `false`: it is here already.
    ///
    /// # Errors
    /// [`RegistryError::Release`].
    pub fn take_ring(&self, by: &str, document: &[u8], now: Timestamp) -> Result<bool, RegistryError> {
        let mut trust = self.trust();
        let mut next = match trust.as_ref() {
            Some(trust) => trust.clone(),
            None => Trust::new(self.root, document)?,
        };
        if !next.update(document)? && trust.is_some() {
            return Ok(false);
        }
        let text = text(document)?;
        let what = format!("key ring version {}", next.ring().version);
        self.store.commit(Change::KeyRing(text), &AuditRecord { by: by.to_owned(), what, at: now })?;
        *trust = Some(next);
        self.refresh(trust.as_ref())?;
        Ok(true)
    }

    /// Takes a channel's next assignment; `false`: it is here already.
    ///
    /// # Errors
    /// [`RegistryError`]: signed wrongly, replayed, for releases that are not here or of another head.
    pub fn assign(&self, by: &str, document: &[u8], now: Timestamp) -> Result<bool, RegistryError> {
        let trust = self.trust();
        let signed = trust.as_ref().ok_or(RegistryError::NoRing)?.open_assignment(document)?;
        let SignedAssignment { assignment, signer, .. } = &signed;
        let channel = &assignment.channel;
        let before = self.find(channel)?;
        let counter = before.as_ref().map(|(_, counter)| *counter);
        let seen = before.as_ref().map(|(record, counter)| Seen {
            counter: *counter,
            document: digest(record.document.as_bytes()),
        });
        if signed.freshness(seen.as_ref())? == Freshness::Same {
            return Ok(false);
        }
        self.check_releases(assignment)?;
        assignment
            .check_not_superseded(&self.superseded(channel, before.as_ref().map(|(record, _)| record))?)?;
        let audience = before.map(|(record, _)| record.audience).unwrap_or_default();
        let record = ChannelRecord {
            document: text(document)?.to_owned(),
            rollout: Rollout::start(assignment, now),
            audience: widened(audience, &assignment.cameras),
        };
        let entry = HistoryRecord {
            counter: assignment.counter,
            release: assignment.release.to_string(),
            rollback: assignment.rollback,
            by: by.to_owned(),
            what: ASSIGNED.to_owned(),
            at: now,
        };
        let what = format!(
            "{channel}: assignment {} of release {}, signed by {signer}",
            assignment.counter, assignment.release
        );
        let change = Change::Channel { channel, after: counter, record: &record, entry: &entry };
        self.store.commit(change, &AuditRecord { by: by.to_owned(), what, at: now })?;
        self.refresh(trust.as_ref())?;
        Ok(true)
    }

    /// Release and fallback are here, and are heads of the channel's name.
    fn check_releases(&self, assignment: &Assignment) -> Result<(), RegistryError> {
        for release in [Some(assignment.release), assignment.fallback].into_iter().flatten() {
            let known = self.store.release(release)?;
            let known = known.ok_or_else(|| RegistryError::UnknownRelease(release.short()))?;
            assignment.channel.check_head(&known.head, release)?;
        }
        Ok(())
    }

    /// Steers a rollout.
    ///
    /// # Errors
    /// [`RegistryError::UnknownChannel`], [`RegistryError::Conflict`], [`RegistryError::Release`].
    pub fn steer(
        &self,
        by: &str,
        (channel, counter): (&Channel, u64),
        action: RolloutAction,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let trust = self.trust();
        let (record, have) = self.known(channel)?;
        if counter != have {
            return Err(RegistryError::Conflict { channel: channel.to_string(), have });
        }
        let next = record.rollout.act(&record.assignment()?, action, now)?;
        self.advance(trust.as_ref(), by, channel, (record, next))
    }

    /// Takes a camera's report on one of its heads.
    pub fn hear(&self, camera: &str, report: HeadReport, now: Timestamp) {
        let phase = self.snapshot.borrow().channels.iter().find_map(|(channel, given)| {
            (channel.to_string() == report.channel).then_some((given.assignment.counter, given.rollout.since))
        });
        self.fleet().hear(camera, report, phase, now);
    }

    /// Lets every rollout take the step that the reports call for.
    ///
    /// # Errors
    /// What the store says.
    pub fn step(&self, now: Timestamp) -> Result<(), RegistryError> {
        let trust = self.trust();
        let channels = self.snapshot.borrow().channels.clone();
        for (channel, given) in
            channels.iter().filter(|(_, given)| given.rollout.phase == RolloutPhase::Soaking)
        {
            let evidence = self.fleet().evidence(given);
            if let Some(next) = given.rollout.step(&given.assignment, &evidence, now) {
                let (record, _) = self.known(channel)?;
                self.advance(trust.as_ref(), SERVER, channel, (record, next))?;
            }
        }
        Ok(())
    }

    fn advance(
        &self,
        trust: Option<&Trust>,
        by: &str,
        channel: &Channel,
        (record, next): (ChannelRecord, Rollout),
    ) -> Result<(), RegistryError> {
        let assignment = record.assignment()?;
        let at = next.since;
        let why = if next.reason.is_empty() { String::new() } else { format!(": {}", next.reason) };
        let what = format!("{} at {}{why}", next.phase, next.share);
        tracing::info!(%channel, counter = assignment.counter, by, "rollout {what}");
        let record = ChannelRecord { rollout: next, ..record };
        let entry = HistoryRecord {
            counter: assignment.counter,
            release: assignment.release.to_string(),
            rollback: assignment.rollback,
            by: by.to_owned(),
            what: what.clone(),
            at,
        };
        let change =
            Change::Channel { channel, after: Some(assignment.counter), record: &record, entry: &entry };
        let what = format!("{channel}: rollout of assignment {} {what}", assignment.counter);
        self.store.commit(change, &AuditRecord { by: by.to_owned(), what, at })?;
        self.refresh(trust)
    }

    /// The channel's record and counter.
    fn find(&self, channel: &Channel) -> Result<Option<(ChannelRecord, u64)>, RegistryError> {
        for record in self.store.channels()? {
            let assignment = record.assignment()?;
            if assignment.channel == *channel {
                return Ok(Some((record, assignment.counter)));
            }
        }
        Ok(None)
    }

    pub(super) fn known(&self, channel: &Channel) -> Result<(ChannelRecord, u64), RegistryError> {
        self.find(channel)?.ok_or_else(|| RegistryError::UnknownChannel(channel.to_string()))
    }

    /// Releases that the channel gave before its present one.
    fn superseded(
        &self,
        channel: &Channel,
        present: Option<&ChannelRecord>,
    ) -> Result<Vec<ReleaseId>, RegistryError> {
        let present =
            present.map(ChannelRecord::assignment).transpose()?.map(|assignment| assignment.release);
        let given = self.store.history(channel, SUPERSEDED_LINES)?;
        let given = given.iter().filter(|entry| entry.what == ASSIGNED);
        Ok(given.filter_map(|entry| entry.release.parse().ok()).filter(|id| Some(*id) != present).collect())
    }

    /// Tells the sessions what changed.
    fn refresh(&self, trust: Option<&Trust>) -> Result<(), RegistryError> {
        let Some(trust) = trust else { return Ok(()) };
        let mut snapshot =
            Snapshot { ring: Some((trust.ring().version, trust.document().to_vec())), ..Snapshot::default() };
        for ChannelRecord { document, rollout, audience } in self.store.channels()? {
            match trust.open_assignment(document.as_bytes()) {
                Ok(SignedAssignment { assignment, document, .. }) => {
                    let channel = assignment.channel.clone();
                    let given = Given { assignment, document, rollout, audience };
                    snapshot.channels.insert(channel, Arc::new(given));
                }
                Err(error) => tracing::warn!("an assignment is not sent any more: {error}"),
            }
        }
        self.snapshot.send_replace(Arc::new(snapshot));
        Ok(())
    }

    pub(super) fn trust(&self) -> MutexGuard<'_, Option<Trust>> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a release's file; of one that is too long for any head, a byte more than that.
fn read_limited(file: File, release: ReleaseId) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    let read = file.take(u64::from(MAX_RELEASE_BYTES) + 1).read_to_end(&mut bytes);
    read.map_err(RegistryError::io("read", Path::new(&release.to_string())))?;
    Ok(bytes)
}

/// What was verified is text.
fn text(document: &[u8]) -> Result<&str, RegistryError> {
    std::str::from_utf8(document).map_err(|_| RegistryError::Request("a signed document is text".to_owned()))
}

fn widened(mut audience: Vec<Pattern>, more: &[Pattern]) -> Vec<Pattern> {
    for pattern in more {
        if !audience.contains(pattern) {
            audience.push(pattern.clone());
        }
    }
    if audience.len() > MAX_AUDIENCE {
        return vec!["*".parse().expect("a star is a pattern")];
    }
    audience
}

//! What an operator's requests are answered with.

use jiff::Timestamp;
use protocol::{AuditEntry, ChannelState, HistoryEntry, OperatorReplyMsg, OperatorRequestMsg};
use shared::release::{Channel, Pattern, Trust};

use super::{AuditRecord, ChannelRecord, HistoryRecord, Registrar, RegistryError};

/// Most lines of a history that are sent: what a person reads.
const HISTORY_LINES: usize = 200;

impl Registrar {
    /// Does what an operator asks for; a publication goes through [`publish`](Self::publish). `connected`: whether a
    /// camera is.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn answer(
        &self,
        by: &str,
        request: &OperatorRequestMsg,
        now: Timestamp,
        connected: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<OperatorReplyMsg>, RegistryError> {
        let done = |note: &str| vec![OperatorReplyMsg::Done { note: note.to_owned() }];
        let taken = |new: bool| Ok(done(if new { "" } else { "was there already" }));
        match request {
            OperatorRequestMsg::Publish { .. } => {
                Err(RegistryError::Request("a publication needs its bytes".to_owned()))
            }
            OperatorRequestMsg::Ledger { .. } => {
                Err(RegistryError::Request("a registry keeps no ledger, a running server does".to_owned()))
            }
            OperatorRequestMsg::KeyRing { document } => taken(self.take_ring(by, document, now)?),
            OperatorRequestMsg::Assign { assignment } => taken(self.assign(by, assignment, now)?),
            OperatorRequestMsg::Rollout { channel, counter, action } => {
                self.steer(by, (&channel.parse()?, *counter), *action, now)?;
                Ok(done(""))
            }
            OperatorRequestMsg::Channel { channel } => {
                let mut replies = self.describe(channel)?;
                replies.extend(done(""));
                Ok(replies)
            }
            OperatorRequestMsg::Status { channel, cameras } => {
                let channel: Option<Channel> = (!channel.is_empty()).then(|| channel.parse()).transpose()?;
                let cameras: Option<Pattern> = (!cameras.is_empty()).then(|| cameras.parse()).transpose()?;
                let fleet = self.fleet();
                let lines = fleet.status(channel.as_ref(), cameras.as_ref(), now);
                let head = |mut line: protocol::CameraHead| {
                    line.connected = connected(&line.camera);
                    OperatorReplyMsg::Head(line)
                };
                Ok(lines.map(head).chain(done("")).collect())
            }
            OperatorRequestMsg::Audit { last } => {
                let lines = self.store.audit(usize::try_from(*last).unwrap_or(usize::MAX))?;
                let line = |AuditRecord { by, what, at }| {
                    let (by, what) = (protocol::limits::clip(&by), protocol::limits::clip(&what));
                    OperatorReplyMsg::Audit(AuditEntry { by, what, at_us: at.as_microsecond() })
                };
                Ok(lines.into_iter().map(line).chain(done("")).collect())
            }
        }
    }

    fn describe(&self, name: &str) -> Result<Vec<OperatorReplyMsg>, RegistryError> {
        let trust = self.trust();
        let state =
            |record: &ChannelRecord| self.state(trust.as_ref(), record).map(OperatorReplyMsg::Channel);
        if name.is_empty() {
            return self.store.channels()?.iter().map(state).collect();
        }
        let channel: Channel = name.parse()?;
        let (record, _) = self.known(&channel)?;
        let history = self.store.history(&channel, HISTORY_LINES)?;
        let entry = |entry: HistoryRecord| {
            let corrupt = |error| RegistryError::Corrupt { what: "history", detail: format!("{error}") };
            Ok(OperatorReplyMsg::History(HistoryEntry {
                counter: entry.counter,
                release: entry.release.parse().map_err(|e: protocol::ParseReleaseIdError| corrupt(e))?,
                rollback: entry.rollback,
                by: protocol::limits::clip(&entry.by),
                what: protocol::limits::clip(&entry.what),
                at_us: entry.at.as_microsecond(),
            }))
        };
        std::iter::once(state(&record)).chain(history.into_iter().map(entry)).collect()
    }

    fn state(&self, trust: Option<&Trust>, record: &ChannelRecord) -> Result<ChannelState, RegistryError> {
        let document = record.document.as_bytes();
        let void = trust.and_then(|trust| trust.open_assignment(document).err());
        let reason = void.map_or_else(|| record.rollout.reason.clone(), |why| format!("not sent: {why}"));
        Ok(ChannelState {
            channel: record.assignment()?.channel.to_string(),
            assignment: document.to_vec(),
            share: record.rollout.share.thousandths(),
            phase: record.rollout.phase,
            reason: protocol::limits::clip(&reason),
            since_us: record.rollout.since.as_microsecond(),
        })
    }
}

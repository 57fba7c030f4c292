//! The operator's side: what an operator wants becomes signed documents, and goes to a registry.
//!
//! ```text
//! publish, rollback ─► order (pure: the next assignment) ─► signed with the operator's key ─► Desk ─┬─ Client ══► server
//! status ─► Desk ─► table                                                                           └─ Registrar (folder)
//! ```
//! Nothing a server says is signed again unseen: the channel's present assignment is verified before the next one is
//! made from it. A server that shows an older one gets a counter that every box refuses.

mod client;
pub mod order;
pub mod table;

use std::io::Write as _;

use jiff::Timestamp;
use protocol::{
    AuditEntry, ChannelState, HistoryEntry, OperatorCode, OperatorReplyMsg, OperatorRequestMsg, ReleaseId,
};
use shared::release::{Channel, KeyRole, ReleaseError, Share, SignedAssignment, digest};
use shared::wire::WireError;

use crate::keys::{KeyFolder, KeysError};
use crate::registry::{Registrar, RegistryError};

pub use client::Client;
pub use order::Standing;

/// Who changes a registry with a command on its machine, in its audit log.
const LOCAL: &str = "local";

/// Why an operator's command did nothing, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// No connection to the server.
    #[error("{0}")]
    Connect(String),
    /// The connection failed in the middle.
    #[error("{0}; the command may be given again, what was done already is not done twice")]
    Wire(#[from] WireError),
    /// The server does not do it.
    #[error("the server refused, {code}: {message}")]
    Refused {
        /// Why.
        code: OperatorCode,
        /// More for a person.
        message: String,
    },
    /// The registry of this machine does not do it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Something signed is not in order.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The server answered something else.
    #[error("the server answered what was not asked ({0}); update both programs to the same release")]
    Unexpected(&'static str),
    /// There is nothing to go back to.
    #[error("{channel}: {why}; name a release with --to (`head status --channel {channel}` lists them)")]
    NoWayBack {
        /// The channel.
        channel: String,
        /// Why not.
        why: &'static str,
    },
}

impl OperateError {
    /// What the channel or release is not known by.
    fn is_unknown(&self) -> bool {
        match self {
            Self::Refused { code, .. } => *code == OperatorCode::Unknown,
            Self::Registry(error) => error.code() == OperatorCode::Unknown,
            _ => false,
        }
    }
}

/// Where an operator's requests go.
#[derive(Debug)]
pub enum Desk {
    /// A registry folder on this machine, which no server has open.
    Local(Box<Registrar>),
    /// A server.
    Remote(Client),
}

impl Desk {
    /// Asks; what came before the end of the replies, and the note of the end.
    ///
    /// # Errors
    /// [`OperateError`], a refusal among them.
    pub async fn ask(
        &self,
        request: &OperatorRequestMsg,
    ) -> Result<(Vec<OperatorReplyMsg>, String), OperateError> {
        match self {
            Self::Local(registrar) => {
                // Nobody is connected to a folder.
                finished(registrar.answer(LOCAL, request, Timestamp::now(), &|_| false)?)
            }
            Self::Remote(client) => finished(client.ask(request, &[]).await?),
        }
    }

    /// Has a release kept; the registry's note, such as that it was there already.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn publish(&self, file: &[u8], signature: &[u8]) -> Result<String, OperateError> {
        let release = digest(file);
        match self {
            Self::Local(registrar) => {
                if !registrar.expects(release, signature)? {
                    return Ok("was there already".to_owned());
                }
                let mut incoming = registrar.store().incoming()?;
                let written = incoming.write_all(file);
                written.map_err(RegistryError::io("write", incoming.path()))?;
                registrar.publish(LOCAL, (release, signature), incoming, Timestamp::now())?;
                Ok(String::new())
            }
            Self::Remote(client) => {
                let total = u32::try_from(file.len()).unwrap_or(u32::MAX);
                let request = OperatorRequestMsg::Publish { release, total, signature: signature.to_vec() };
                Ok(finished(client.ask(&request, file).await?)?.1)
            }
        }
    }

    /// Brings the registry the folder's key ring, unless it is there. A newer one there is a refusal: the operator's folder
    /// is out of date.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn bring_ring(&self, keys: &KeyFolder) -> Result<(), OperateError> {
        let document = keys.trust().document().to_vec();
        self.ask(&OperatorRequestMsg::KeyRing { document }).await.map(drop)
    }

    /// Where the channel stands, its assignment verified, and its history. `None`: it has no assignment yet.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn standing(
        &self,
        keys: &KeyFolder,
        channel: &Channel,
    ) -> Result<Option<(Standing, Vec<HistoryEntry>)>, OperateError> {
        let request = OperatorRequestMsg::Channel { channel: channel.to_string() };
        let replies = match self.ask(&request).await {
            Ok((replies, _)) => replies,
            Err(error) if error.is_unknown() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut replies = replies.into_iter();
        let Some(OperatorReplyMsg::Channel(state)) = replies.next() else {
            return Err(OperateError::Unexpected("not the channel"));
        };
        let standing = verified(keys, channel, &state)?;
        let history = replies.filter_map(|reply| match reply {
            OperatorReplyMsg::History(entry) => Some(entry),
            _ => None,
        });
        Ok(Some((standing, history.collect())))
    }

    /// Signs an assignment with the folder's key and has the registry take it.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn assign(
        &self,
        keys: &KeyFolder,
        assignment: &shared::release::Assignment,
    ) -> Result<(), OperateError> {
        let key = keys.signing_key(KeyRole::Assignments, None)?;
        let assignment = assignment.sign(&key)?;
        self.ask(&OperatorRequestMsg::Assign { assignment }).await.map(drop)
    }

    /// The newest lines of the audit log, the newest first; at most [`MAX_AUDIT_LINES`](protocol::limits::MAX_AUDIT_LINES).
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn audit(&self, last: u32) -> Result<Vec<AuditEntry>, OperateError> {
        let (replies, _) = self.ask(&OperatorRequestMsg::Audit { last }).await?;
        let line = |reply| match reply {
            OperatorReplyMsg::Audit(line) => Ok(line),
            _ => Err(OperateError::Unexpected("not a line of the audit log")),
        };
        replies.into_iter().map(line).collect()
    }

    /// Says goodbye.
    pub async fn close(self) {
        if let Self::Remote(client) = self {
            client.close().await;
        }
    }
}

/// Splits off the end of the replies.
fn finished(mut replies: Vec<OperatorReplyMsg>) -> Result<(Vec<OperatorReplyMsg>, String), OperateError> {
    match replies.pop() {
        Some(OperatorReplyMsg::Done { note }) => Ok((replies, note)),
        Some(OperatorReplyMsg::Refused { code, message }) => Err(OperateError::Refused { code, message }),
        _ => Err(OperateError::Unexpected("no end")),
    }
}

fn verified(keys: &KeyFolder, channel: &Channel, state: &ChannelState) -> Result<Standing, OperateError> {
    let signed: SignedAssignment = keys.trust().open_assignment(&state.assignment)?;
    if signed.assignment.channel != *channel {
        return Err(OperateError::Unexpected("another channel"));
    }
    let share = Share::from_thousandths(state.share).unwrap_or(Share::NONE);
    Ok(Standing { assignment: signed.assignment, share })
}

/// A release as people write it: all 64 digits, or enough of the first ones to mean one of the history.
///
/// # Errors
/// [`OperateError::NoWayBack`] when it means none, or several.
pub fn named(channel: &Channel, digits: &str, history: &[HistoryEntry]) -> Result<ReleaseId, OperateError> {
    if let Ok(release) = digits.parse() {
        return Ok(release);
    }
    let mut found: Vec<ReleaseId> = history.iter().map(|entry| entry.release).collect();
    found.retain(|release| digits.len() >= 8 && release.to_string().starts_with(digits));
    found.sort_unstable_by_key(|release| release.0);
    found.dedup();
    match found[..] {
        [release] => Ok(release),
        _ => Err(OperateError::NoWayBack {
            channel: channel.to_string(),
            why: "no one release of its history starts with these digits (at least 8 are needed)",
        }),
    }
}

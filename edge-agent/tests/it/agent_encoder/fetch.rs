//! The encoder's end of a fetch.

use protocol::limits::{MAX_FETCH_REPLY_BYTES, MAX_FETCH_REQUEST_BYTES};
use protocol::{Body, BodyId, FetchCode, FetchReplyMsg, FetchRequest};
use quinn::{RecvStream, SendStream};
use shared::release::body_id;
use shared::wire::{WireError, expect_msg, write_msg};

use super::{Fake, Seen};

/// What to do with a fetch of a release.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OnFetch {
    /// All of it.
    Send,
    /// So many bytes, and the rest when the behaviour changes.
    HoldAfter(usize),
    /// So many bytes, and then the stream ends as if they were all.
    EndAfter(usize),
    /// All of it, as if the release were so long.
    Claim(u32),
}

impl Fake {
    pub(super) async fn fetch(mut self, mut send: SendStream, mut recv: RecvStream) -> Result<(), WireError> {
        let request: FetchRequest = expect_msg(&mut recv, MAX_FETCH_REQUEST_BYTES).await?;
        self.report.try_send(Seen::Fetch(request)).unwrap();
        let (on_fetch, found, packed) = {
            let behaviour = self.behaves.borrow();
            let found = behaviour.releases.get(&request.release).cloned();
            (behaviour.on_fetch, found, behaviour.packed.get(&request.release).cloned())
        };
        let Some((bytes, signature)) = found else {
            let refused = FetchReplyMsg::refused(FetchCode::Unknown, "never heard of it");
            return write_msg(&mut send, &refused, MAX_FETCH_REPLY_BYTES).await;
        };
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let plain = (BodyId::plain(request.release), &bytes);
        let packed = packed.as_ref().map(|packed| (body_id(packed), packed));
        let known = request.have.and_then(|part| {
            let known = [Some(plain), packed].into_iter().flatten().find(|(id, _)| *id == part.body)?;
            Some((known, part.offset))
        });
        let ((id, body), offset) = known.unwrap_or((packed.unwrap_or(plain), 0));
        let total = if let OnFetch::Claim(total) = on_fetch { total } else { len(&bytes) };
        // A false length of the release is one of its own file too.
        let claimed = if id == plain.0 { total } else { len(body) };
        let found = FetchReplyMsg::Found { total, signature, body: Body { id, len: claimed }, offset };
        write_msg(&mut send, &found, MAX_FETCH_REPLY_BYTES).await?;
        let bytes = &body[offset as usize..];
        match on_fetch {
            OnFetch::Send | OnFetch::Claim(_) => send.write_all(bytes).await?,
            OnFetch::EndAfter(some) => send.write_all(&bytes[..some]).await?,
            OnFetch::HoldAfter(some) => {
                send.write_all(&bytes[..some]).await?;
                if self.behaves.wait_for(|behaviour| behaviour.on_fetch != on_fetch).await.is_err() {
                    return Ok(());
                }
                send.write_all(&bytes[some..]).await?;
            }
        }
        let _ = send.finish();
        Ok(())
    }
}

//! The encoder's end of a fetch.

use protocol::limits::{MAX_FETCH_REPLY_BYTES, MAX_FETCH_REQUEST_BYTES};
use protocol::{FetchCode, FetchReplyMsg, FetchRequest};
use quinn::{RecvStream, SendStream};
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
    /// All of it, under this length.
    Claim(u32),
}

impl Fake {
    pub(super) async fn fetch(mut self, mut send: SendStream, mut recv: RecvStream) -> Result<(), WireError> {
        let request: FetchRequest = expect_msg(&mut recv, MAX_FETCH_REQUEST_BYTES).await?;
        self.report.try_send(Seen::Fetch(request)).unwrap();
        let (on_fetch, found) = {
            let behaviour = self.behaves.borrow();
            (behaviour.on_fetch, behaviour.releases.get(&request.release).cloned())
        };
        let Some((bytes, signature)) = found else {
            let refused = FetchReplyMsg::refused(FetchCode::Unknown, "never heard of it");
            return write_msg(&mut send, &refused, MAX_FETCH_REPLY_BYTES).await;
        };
        let total = u32::try_from(bytes.len()).unwrap();
        let total = if let OnFetch::Claim(total) = on_fetch { total } else { total };
        write_msg(&mut send, &FetchReplyMsg::Found { total, signature }, MAX_FETCH_REPLY_BYTES).await?;
        let bytes = &bytes[request.offset as usize..];
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

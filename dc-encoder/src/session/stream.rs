//! A stream that an admitted agent opens: its first byte says what for.

use std::sync::Arc;

use protocol::StreamKind;
use quinn::{RecvStream, SendStream};
use shared::wire::{WireError, read_exact_limited};
use tokio::io::AsyncRead;
use tokio::time::{Instant, timeout_at};

use super::frame::{self, Malformed};
use super::{Context, fetch};

/// Serves one stream. `draining`: it was accepted after the server began to drain.
pub(super) async fn serve(
    send: SendStream,
    mut recv: RecvStream,
    shared: Arc<frame::Shared>,
    draining: bool,
) -> Result<(), Malformed> {
    let context = Arc::clone(shared.context());
    let by = Instant::now() + context.timeouts.receive;
    match timeout_at(by, read_kind(&mut recv)).await {
        Ok(Ok(StreamKind::Frame)) => frame::serve((send, recv), shared, draining, by).await,
        Ok(Ok(StreamKind::Fetch)) => {
            fetch::serve((send, recv), &shared, by).await;
            Ok(())
        }
        Ok(Ok(kind @ (StreamKind::Control | StreamKind::Operator))) => {
            Err(Malformed(format!("a camera may not open a stream of kind {}", kind as u8)))
        }
        Ok(Err(error)) if error.is_malformed() => Err(Malformed(format!("a stream's first byte: {error}"))),
        Ok(Err(_)) | Err(_) => {
            frame::abandon((send, recv), &shared);
            Ok(())
        }
    }
}

pub(super) async fn read_kind(recv: &mut (impl AsyncRead + Unpin)) -> Result<StreamKind, WireError> {
    let kind = read_exact_limited(recv, 1, 1).await?;
    Ok(StreamKind::try_from(kind[0])?)
}

/// Runs what waits for the disk beside the runtime's threads.
pub(super) async fn on_disk<T: Send + 'static>(
    context: &Arc<Context>,
    work: impl FnOnce(&Context) -> T + Send + 'static,
) -> Result<T, String> {
    let context = Arc::clone(context);
    let done = tokio::task::spawn_blocking(move || work(&context)).await;
    done.map_err(|error| format!("a task of the registry failed: {error}"))
}

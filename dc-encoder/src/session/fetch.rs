//! A fetch stream: one release, as its file or that compressed, from an offset on, behind everything else.

use std::io::SeekFrom;
use std::time::Duration;

use protocol::limits::{MAX_FETCH_REPLY_BYTES, MAX_FETCH_REQUEST_BYTES};
use protocol::{Body, FetchCode, FetchReplyMsg, FetchRequest, Part, close};
use quinn::{RecvStream, SendStream, VarInt};
use shared::wire::{WireError, expect_end, expect_msg, write_msg};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::Context;
use super::frame::Shared;
use super::stream::on_disk;

/// Bytes read from the disk at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Frames come first, so a chunk may wait long on a thin link; a box that takes nothing for this long is gone.
const STALL: Duration = Duration::from_secs(300);

/// Serves one fetch stream. A drain ends it: the agent goes on at the byte where it stopped, elsewhere.
pub(super) async fn serve((mut send, mut recv): (SendStream, RecvStream), shared: &Shared, by: Instant) {
    let context = shared.context();
    // Below every reply and the control stream.
    let _ = send.set_priority(i32::MIN);
    let mut draining = context.draining.clone();
    let sent = tokio::select! {
        sent = answer(&mut send, &mut recv, shared, by) => sent,
        _ = draining.wait_for(|draining| *draining) => Err(WireError::AlreadyClosed),
    };
    if let Err(error) = sent {
        tracing::debug!(camera = shared.name(), "a fetch ended early: {error}");
        let _ = send.reset(VarInt::from_u32(close::STALE));
    }
}

async fn answer(
    send: &mut SendStream,
    recv: &mut RecvStream,
    shared: &Shared,
    by: Instant,
) -> Result<(), WireError> {
    let reply = |code, why: &str| FetchReplyMsg::refused(code, why);
    let request = match timeout_at(by, read(recv)).await {
        Ok(Ok(request)) => request,
        Ok(Err(error)) if error.is_malformed() => {
            return finish(send, &reply(FetchCode::Malformed, &error.to_string())).await;
        }
        Ok(Err(error)) => return Err(error),
        Err(_) => {
            return finish(send, &reply(FetchCode::Malformed, "the request did not arrive in time")).await;
        }
    };
    let camera = shared.name().to_owned();
    let found = on_disk(shared.context(), move |context| find(context, &camera, &request)).await;
    match found.unwrap_or_else(|why| Err((FetchCode::Internal, why))) {
        Err((code, why)) => finish(send, &reply(code, &why)).await,
        Ok(Found { total, signature, body, offset, file }) => {
            let found = FetchReplyMsg::Found { total, signature, body, offset };
            write_msg(send, &found, MAX_FETCH_REPLY_BYTES).await?;
            stream(send, tokio::fs::File::from_std(file), offset).await
        }
    }
}

async fn read(recv: &mut RecvStream) -> Result<FetchRequest, WireError> {
    let request = expect_msg(recv, MAX_FETCH_REQUEST_BYTES).await?;
    expect_end(recv).await?;
    Ok(request)
}

struct Found {
    total: u32,
    signature: Vec<u8>,
    body: Body,
    offset: u32,
    /// The whole body.
    file: std::fs::File,
}

fn find(context: &Context, camera: &str, request: &FetchRequest) -> Result<Found, (FetchCode, String)> {
    let FetchRequest { release, have } = *request;
    let registrar = context.registrar().map_err(|error| (FetchCode::Unknown, error.to_string()))?;
    let failed = |error: crate::registry::RegistryError| {
        tracing::error!(camera, release = release.short(), "cannot send a release: {error}");
        (FetchCode::Internal, error.to_string())
    };
    let store = registrar.store();
    let record = store.release(release).map_err(failed)?;
    let record = record.ok_or_else(|| (FetchCode::Unknown, release.short()))?;
    if !registrar.watch().borrow().assigns(camera, release) {
        return Err((FetchCode::NotAssigned, release.short()));
    }
    let (plain, packed) = record.bodies(release).map_err(failed)?;
    let (body, offset) = choose(plain, packed, have);
    if offset > body.len {
        return Err((FetchCode::Offset, format!("{offset} of {} bytes", body.len)));
    }
    let file = if body == plain { store.open_release(release) } else { store.open_packed(release) };
    let (total, signature) = (record.bytes, record.signature.into_bytes());
    Ok(Found { total, signature, body, offset, file: file.map_err(failed)? })
}

/// The body that goes on where a fetch stopped, or the shorter one from its start.
fn choose(plain: Body, packed: Option<Body>, have: Option<Part>) -> (Body, u32) {
    let goes_on = have.and_then(|Part { body, offset }| {
        let known = [Some(plain), packed].into_iter().flatten().find(|known| known.id == body)?;
        Some((known, offset))
    });
    goes_on.unwrap_or((packed.unwrap_or(plain), 0))
}

async fn stream(send: &mut SendStream, mut file: tokio::fs::File, offset: u32) -> Result<(), WireError> {
    // The agent holds what comes against the digest: a file cut short is an early end to it.
    let broken = |error: std::io::Error| {
        tracing::error!("cannot read a release: {error}");
        WireError::AlreadyClosed
    };
    file.seek(SeekFrom::Start(offset.into())).await.map_err(broken)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let got = file.read(&mut chunk).await.map_err(broken)?;
        if got == 0 {
            break;
        }
        let written = timeout(STALL, send.write_all(&chunk[..got])).await;
        written.map_err(|_| WireError::Ended)??;
    }
    let _ = send.finish();
    Ok(())
}

async fn finish(send: &mut SendStream, reply: &FetchReplyMsg) -> Result<(), WireError> {
    write_msg(send, reply, MAX_FETCH_REPLY_BYTES).await?;
    let _ = send.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::BodyId;

    use super::*;

    #[test]
    fn a_fetch_goes_on_with_its_body_and_starts_with_the_shorter() {
        let body = |digit, len| Body { id: BodyId([digit; 32]), len };
        let (plain, packed) = (body(1, 100), body(2, 60));
        let part = |digit, offset| Some(Part { body: BodyId([digit; 32]), offset });
        assert_eq!(choose(plain, Some(packed), None), (packed, 0));
        assert_eq!(choose(plain, None, None), (plain, 0));
        assert_eq!(choose(plain, Some(packed), part(2, 59)), (packed, 59));
        assert_eq!(choose(plain, Some(packed), part(1, 0)), (plain, 0), "asked for by name");
        assert_eq!(choose(plain, Some(packed), part(3, 9)), (packed, 0), "of another server");
        assert_eq!(choose(plain, None, part(2, 9)), (plain, 0), "of another server");
    }
}

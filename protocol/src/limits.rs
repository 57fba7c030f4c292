//! The largest things either side accepts, each with its reason. A session may agree on less
//! ([`SessionLimits`](crate::SessionLimits)), never on more.

use crate::{CodecError, Encoding, GridShape};

/// Longest control message, in bytes without its length prefix: a signed document of
/// [`MAX_DOCUMENT_BYTES`] fits, and a [`Hello`](crate::Hello) with [`MAX_SPACES`] spaces and full-length
/// strings.
pub const MAX_CONTROL_BYTES: usize = 20 * 1024;

/// Longest signed document (key ring, channel assignment), in bytes. 64 keys of a ring take 14 KiB.
pub const MAX_DOCUMENT_BYTES: usize = 16 * 1024;

/// Longest signature of a head release, in bytes: one line of about 230.
pub const MAX_SIGNATURE_BYTES: usize = 1024;

/// Largest head release, in bytes: the largest head file that is accepted anywhere.
pub const MAX_RELEASE_BYTES: u32 = 64 * 1024 * 1024;

/// Longest request for a release, in bytes without its length prefix. The largest is 70 bytes.
pub const MAX_FETCH_REQUEST_BYTES: usize = 128;

/// Longest reply to it, in bytes without its length prefix: a signature or a reason, and a few integers.
pub const MAX_FETCH_REPLY_BYTES: usize = 2 * 1024;

/// Longest certificate or certificate request of enrolment, in bytes of DER: ours have about 600.
pub const MAX_CERTIFICATE_BYTES: usize = 4 * 1024;

/// Most certificates between a box's own and the authority's, its own included.
pub const MAX_CHAIN: usize = 3;

/// Longest enrolment token, in bytes: secret, hash, dates, and two names.
pub const MAX_ENROLL_TOKEN_BYTES: usize = 512;

/// Most encoders a box is told of.
pub const MAX_ENROLL_SERVERS: usize = 8;

/// Longest enrolment request, in bytes without its length prefix: a token and a certificate request.
pub const MAX_ENROLL_REQUEST_BYTES: usize = MAX_CERTIFICATE_BYTES + MAX_ENROLL_TOKEN_BYTES + 64;

/// Longest reply to it, in bytes without its length prefix: certificates, a key ring, and some names.
pub const MAX_ENROLL_REPLY_BYTES: usize = 40 * 1024;

/// Most lines of the audit log in one answer: a few weeks of a busy registry.
pub const MAX_AUDIT_LINES: u32 = 1000;

/// The whole of a share: 1000 thousandths of the cameras.
pub const WHOLE_SHARE: u16 = 1000;

/// Most bytes of [`Kept::places`](crate::Kept::places): a bit for each of [`MAX_ROWS`] patches.
pub const MAX_PLACES_BYTES: usize = MAX_ROWS as usize / 8;

/// Longest frame header, in bytes without its length prefix: a largest one of 38 bytes, and the places of patches.
pub const MAX_FRAME_HEADER_BYTES: usize = 64 + MAX_PLACES_BYTES;

/// Longest reply to a frame, in bytes without its length prefix: one tensor of [`MAX_TENSOR_BYTES`] and an
/// embedding. A session expects much less: [`reply_bytes`].
pub const MAX_REPLY_BYTES: usize = 32 * 1024 * 1024;

/// Longest JPEG a frame may announce, in bytes. A 4K frame at quality 95 is about 4 MiB.
pub const MAX_FRAME_BYTES: u32 = 32 * 1024 * 1024;

/// Longest free text (a reason, a note), in bytes of UTF-8: a paragraph.
pub const MAX_STRING_BYTES: usize = 1024;

/// Longest name (camera, agent, server, model), in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 128;

/// Most embedding spaces one [`Hello`](crate::Hello) lists: one for each head release still in use on a box.
pub const MAX_SPACES: usize = 64;

/// Most rows of a tensor on the wire: tokens of one frame. 1072×1920 in patches of 16 are 8040.
pub const MAX_ROWS: u32 = 65_536;

/// Most values in a row of a tensor on the wire, and the largest embedding dimension.
pub const MAX_DIM: u32 = 65_536;

/// Most bytes of tensor data on the wire. 8040 tokens of 512 values are 16 MiB as f32.
pub const MAX_TENSOR_BYTES: usize = 24 * 1024 * 1024;

/// Largest width or height of the encoder's input, in pixels: what a JPEG can say.
pub const MAX_SIDE: u32 = 65_535;

/// Bytes of a reply besides the tensors' data and scales, rounded up: integers, lengths, discriminants.
const REPLY_OVERHEAD: usize = 256;

/// The longest reply a session can receive, in bytes without its length prefix: an embedding of `embed_dim`
/// values in the encoding `embedding` and, where `tokens` names a grid and an encoding, its latent tokens; or
/// a rejection with its message. Never more than [`MAX_REPLY_BYTES`].
#[must_use]
pub fn reply_bytes(embed_dim: u32, embedding: Encoding, tokens: Option<(GridShape, Encoding)>) -> usize {
    let tensor = |rows: u64, dim: u32, encoding: Encoding| {
        let scales = if encoding == Encoding::Int8 { rows.saturating_mul(4) } else { 0 };
        let row = u64::from(dim) * u64::from(encoding.bytes_per_value());
        rows.saturating_mul(row).saturating_add(scales)
    };
    let tokens = tokens.map_or(0, |(grid, encoding)| tensor(grid.tokens(), grid.dim, encoding));
    let tensors = tensor(1, embed_dim, embedding).saturating_add(tokens);
    let tensors = usize::try_from(tensors).unwrap_or(MAX_REPLY_BYTES);
    tensors.max(MAX_STRING_BYTES).saturating_add(REPLY_OVERHEAD).min(MAX_REPLY_BYTES)
}

/// `text` as it may travel in a message: control characters become spaces (a peer prints it) and it is cut at
/// [`MAX_STRING_BYTES`], on a character boundary.
#[must_use]
pub fn clip(text: &str) -> String {
    let mut clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.truncate(clean.floor_char_boundary(MAX_STRING_BYTES));
    clean
}

/// Refuses free text longer than [`MAX_STRING_BYTES`].
pub(crate) fn check_text(field: &'static str, text: &str) -> Result<(), CodecError> {
    check_bytes(field, text, MAX_STRING_BYTES)
}

/// Refuses a name longer than [`MAX_NAME_BYTES`] or with control characters: names go into logs and paths.
pub(crate) fn check_name(field: &'static str, name: &str) -> Result<(), CodecError> {
    check_bytes(field, name, MAX_NAME_BYTES)?;
    match name.chars().find(|c| c.is_control()) {
        Some(found) => Err(CodecError::ControlCharacter { field, found }),
        None => Ok(()),
    }
}

/// Refuses a number outside `min..=max`.
pub(crate) fn check_range(field: &'static str, value: u32, min: u32, max: u32) -> Result<(), CodecError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let (value, min, max) = (u64::from(value), u64::from(min), u64::from(max));
    Err(CodecError::OutOfRange { field, value, min, max })
}

/// Refuses a signed document longer than `limit` bytes.
pub(crate) fn check_document(field: &'static str, bytes: &[u8], limit: usize) -> Result<(), CodecError> {
    if bytes.len() > limit {
        return Err(CodecError::TooMany { field, count: bytes.len(), limit });
    }
    Ok(())
}

/// Refuses a list of more than `limit` entries.
pub(crate) fn check_count(field: &'static str, count: usize, limit: usize) -> Result<(), CodecError> {
    if count > limit {
        return Err(CodecError::TooMany { field, count, limit });
    }
    Ok(())
}

fn check_bytes(field: &'static str, text: &str, limit: usize) -> Result<(), CodecError> {
    if text.len() > limit {
        return Err(CodecError::StringTooLong { field, len: text.len(), limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clipped_text_is_short_printable_and_whole_characters() {
        assert_eq!(clip("line one\nline two\u{1b}[31m"), "line one line two [31m");
        let long = clip(&"ü".repeat(MAX_STRING_BYTES));
        assert_eq!(long.len(), MAX_STRING_BYTES);
        let odd = clip(&format!("x{}", "ü".repeat(MAX_STRING_BYTES)));
        assert_eq!(odd.len(), MAX_STRING_BYTES - 1);
    }

    #[test]
    fn a_session_expects_replies_of_its_own_size() {
        let grid = GridShape { rows: 12, cols: 20, dim: 512 };
        assert_eq!(reply_bytes(512, Encoding::F32, None), 2048 + REPLY_OVERHEAD);
        assert_eq!(reply_bytes(16, Encoding::F16, None), MAX_STRING_BYTES + REPLY_OVERHEAD);
        let with_tokens = reply_bytes(512, Encoding::F16, Some((grid, Encoding::Int8)));
        assert_eq!(with_tokens, 1024 + 240 * (512 + 4) + REPLY_OVERHEAD);
        let absurd = GridShape { rows: u32::MAX, cols: u32::MAX, dim: u32::MAX };
        assert_eq!(reply_bytes(512, Encoding::F32, Some((absurd, Encoding::F32))), MAX_REPLY_BYTES);
    }
}

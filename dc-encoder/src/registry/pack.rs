//! Releases compressed once, when they are published: what a fetch sends is read from the disk.

use std::io::Write as _;

use flate2::{Compression, write::ZlibEncoder};
use shared::release::body_id;
use tempfile::NamedTempFile;

use super::{PackedRecord, RegistryError};

/// A compressed release must be this much shorter, as a fraction of its length: decompressing it costs a box memory.
const WORTH_PART: usize = 10;

/// And shorter by this many bytes: less than a packet saves no time.
const WORTH_BYTES: usize = 1200;

/// The file as a zlib stream. `None`: that would not save enough.
pub(super) fn pack(file: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(file).and_then(|()| encoder.finish()).ok().filter(|packed| {
        let saved = file.len().saturating_sub(packed.len());
        saved >= WORTH_BYTES && saved * WORTH_PART >= file.len()
    })
}

/// Compresses a release into `to`, if that is worth it.
///
/// # Errors
/// [`RegistryError::Io`].
pub(super) fn pack_into(
    file: &[u8],
    incoming: impl FnOnce() -> Result<NamedTempFile, RegistryError>,
) -> Result<Option<(NamedTempFile, PackedRecord)>, RegistryError> {
    let Some(packed) = pack(file) else { return Ok(None) };
    let mut to = incoming()?;
    to.write_all(&packed).map_err(RegistryError::io("write", to.path()))?;
    let bytes = u32::try_from(packed.len()).unwrap_or(u32::MAX);
    Ok(Some((to, PackedRecord { digest: body_id(&packed).to_string(), bytes })))
}

#[cfg(test)]
mod tests {
    use shared::release::unpack;

    use super::*;

    /// Numbers without a pattern that zlib could see.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 7_u64;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    #[test]
    fn what_comes_out_again_is_the_file() {
        let file = [noise(20_000), vec![0; 20_000]].concat();
        let packed = pack(&file).unwrap();
        assert!((20_000..20_200).contains(&packed.len()), "{}", packed.len());
        assert_eq!(unpack(&packed, 40_000).unwrap(), file);
    }

    #[test]
    fn only_what_saves_a_tenth_and_a_packet_is_compressed() {
        assert!(pack(&noise(40_000)).is_none(), "noise");
        assert!(pack(&[noise(36_500), vec![0; 3500]].concat()).is_none(), "less than a tenth");
        assert!(pack(&[noise(35_000), vec![0; 5000]].concat()).is_some());
        assert!(pack(&[0; 1000]).is_none(), "less than a packet");
    }
}

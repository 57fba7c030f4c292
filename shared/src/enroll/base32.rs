//! Base 32 (RFC 4648, without padding): letters that survive a phone call, and the dense mode of QR codes.

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Five bits a letter.
pub(super) fn encode(bytes: &[u8]) -> String {
    let letter = |chunk: &[u8], index: usize| {
        let bits =
            chunk.iter().enumerate().fold(0_u64, |bits, (at, &byte)| bits | u64::from(byte) << (32 - 8 * at));
        char::from(ALPHABET[(bits >> (35 - 5 * index) & 31) as usize])
    };
    bytes
        .chunks(5)
        .flat_map(|chunk| (0..(chunk.len() * 8).div_ceil(5)).map(move |i| letter(chunk, i)))
        .collect()
}

/// The bytes; `None` for what [`encode`] never writes.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut held) = (0_u32, 0);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|&known| known == letter)?;
        bits = bits << 5 | u32::try_from(value).ok()?;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0 && encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648, section 10.
    #[test]
    fn test_vectors() {
        for (plain, coded) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(encode(plain.as_bytes()), coded);
            assert_eq!(decode(coded).as_deref(), Some(plain.as_bytes()));
        }
        for bad in ["M", "MZ", "my", "M1", "MZXW6Y", "MY======"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}

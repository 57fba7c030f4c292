//! PEM (RFC 7468), writing only: reading is rustls'.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Letters of a line, 48 bytes.
const LINE_BYTES: usize = 48;

/// One block.
pub(super) fn encode(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(LINE_BYTES) {
        line.chunks(3).for_each(|three| text.extend(letters(three)));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

fn letters(three: &[u8]) -> [char; 4] {
    let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
    let bits = at(0) << 16 | at(1) << 8 | at(2);
    [18, 12, 6, 0].map(|shift| {
        // One letter more than there are bytes; the rest is padding.
        if (18 - shift) / 6 > three.len() { '=' } else { char::from(ALPHABET[(bits >> shift & 63) as usize]) }
    })
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        for len in 0..200 {
            let der: Vec<u8> = (0..len).map(|byte: u8| byte.wrapping_mul(37)).collect();
            let text = encode("CERTIFICATE", &der);
            assert!(text.lines().all(|line| line.len() <= 64));
            assert_eq!(&*CertificateDer::from_pem_slice(text.as_bytes()).unwrap(), der.as_slice());
        }
        assert_eq!(encode("X", b"ab"), "-----BEGIN X-----\nYWI=\n-----END X-----\n");
    }
}

//! 32 bytes as 64 hexadecimal digits: how identities are written for people.

use std::fmt;

/// Why a text is not 64 digits.
pub(crate) enum Fault {
    /// It has this many characters.
    Length(usize),
    /// It has this character, which is no digit.
    Digit { at: usize, found: char },
}

/// Reads 64 digits of either case.
pub(crate) fn parse(text: &str) -> Result<[u8; 32], Fault> {
    let count = text.chars().count();
    if count != 64 {
        return Err(Fault::Length(count));
    }
    let mut bytes = [0; 32];
    for (at, found) in text.chars().enumerate() {
        let digit = found.to_digit(16).ok_or(Fault::Digit { at, found })?;
        let digit = u8::try_from(digit).expect("a hexadecimal digit is below 16");
        bytes[at / 2] = bytes[at / 2] << 4 | digit;
    }
    Ok(bytes)
}

/// All 64 digits, lower case.
pub(crate) fn write(bytes: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// The first 12 digits.
pub(crate) fn short(bytes: &[u8; 32]) -> String {
    bytes[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

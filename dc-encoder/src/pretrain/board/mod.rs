//! TensorBoard event files, written by hand: three messages and one framing are all they take.
//!
//! ```text
//! record = length (u64) │ masked CRC-32C of it │ Event │ masked CRC-32C of it      (TFRecord, little-endian)
//! Event  = wall_time, step, file_version | Summary { tag, number | image } | SessionLog
//! ```
//! Field numbers are those of TensorFlow's `event.proto` and `summary.proto`.

use std::io::{self, Write};

mod crc;
mod message;

use message::Message;

/// The first event of every file.
const FILE_VERSION: &str = "brain.Event:2";
/// Added to a rotated checksum, so that a checksum of data that holds checksums is no weaker.
const MASK_DELTA: u32 = 0xa282_ead8;

/// An event file being written.
#[derive(Debug)]
pub(super) struct Board<W: Write> {
    out: W,
}

/// A picture as JPEG or PNG bytes: readers tell which by looking.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image<'a> {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) bytes: &'a [u8],
}

impl<W: Write> Board<W> {
    /// Begins a file. `step` is where this run begins: what an earlier run's file says of later steps is void.
    pub(super) fn new(out: W, wall_time: f64, step: u64) -> io::Result<Self> {
        let mut board = Self { out };
        board.record(&Message::default().double(1, wall_time).text(3, FILE_VERSION))?;
        let session = Message::default().integer(1, 1); // SessionLog.status = START
        board.record(&Message::default().double(1, wall_time).integer(2, step).message(7, &session))?;
        Ok(board)
    }

    /// Numbers of one step.
    pub(super) fn scalars(&mut self, wall_time: f64, step: u64, values: &[(&str, f64)]) -> io::Result<()> {
        let mut summary = Message::default();
        for (tag, value) in values {
            let value = Message::default().text(1, tag).float(2, *value as f32);
            summary = summary.message(1, &value);
        }
        self.summary(wall_time, step, &summary)
    }

    /// A picture of one step.
    pub(super) fn picture(
        &mut self,
        wall_time: f64,
        step: u64,
        tag: &str,
        encoded: Image<'_>,
    ) -> io::Result<()> {
        const RGB: u64 = 3;
        let image = Message::default()
            .integer(1, u64::from(encoded.height))
            .integer(2, u64::from(encoded.width))
            .integer(3, RGB)
            .bytes(4, encoded.bytes);
        let value = Message::default().text(1, tag).message(4, &image);
        self.summary(wall_time, step, &Message::default().message(1, &value))
    }

    fn summary(&mut self, wall_time: f64, step: u64, summary: &Message) -> io::Result<()> {
        self.record(&Message::default().double(1, wall_time).integer(2, step).message(5, summary))
    }

    /// Everything so far reaches the file: readers follow while it grows.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn record(&mut self, event: &Message) -> io::Result<()> {
        let data = event.as_bytes();
        let length = (data.len() as u64).to_le_bytes();
        self.out.write_all(&length)?;
        self.out.write_all(&masked(&length).to_le_bytes())?;
        self.out.write_all(data)?;
        self.out.write_all(&masked(data).to_le_bytes())
    }
}

fn masked(data: &[u8]) -> u32 {
    crc::crc32c(data).rotate_right(15).wrapping_add(MASK_DELTA)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_file_begins_as_tensorflow_begins_it() {
        let mut bytes = Vec::new();
        Board::new(&mut bytes, 1.5, 0).unwrap();
        // Checked against the bytes that TensorBoard's own EventFileWriter writes for the same event.
        let first = 8 + 4 + 24 + 4;
        assert_eq!(hex(&bytes[..12]), FIRST_HEAD);
        assert_eq!(hex(&bytes[12..first - 4]), "09000000000000f83f1a0d627261696e2e4576656e743a32");
        assert_eq!(hex(&bytes[first - 4..first]), FIRST_TAIL);
    }

    const FIRST_HEAD: &str = "1800000000000000a37f4b22";
    const FIRST_TAIL: &str = "2a28646c";

    #[test]
    fn scalars_and_pictures_are_framed_summaries() {
        let mut bytes = Vec::new();
        let mut board = Board { out: &mut bytes };
        board.scalars(2.0, 300, &[("loss", 0.5)]).unwrap();
        // Event: wall_time 2.0, step 300, summary of one value: tag "loss", simple_value 0.5.
        let event =
            "090000000000000040".to_owned() + "10ac02" + "2a0d" + "0a0b" + "0a046c6f7373" + "150000003f";
        assert_eq!(hex(&bytes[12..bytes.len() - 4]), event);
        let mut bytes = Vec::new();
        let mut board = Board { out: &mut bytes };
        board.picture(2.0, 1, "p", Image { width: 2, height: 3, bytes: b"png" }).unwrap();
        let image = "0803".to_owned() + "1002" + "1803" + "2203706e67";
        let event = "0900000000000000401001".to_owned() + "2a12" + "0a10" + "0a0170" + "220b" + &image;
        assert_eq!(hex(&bytes[12..bytes.len() - 4]), event);
    }
}

//! `OUT.part`: what is done so far, safe against being cut off at any byte.
//!
//! ```text
//! magic, length, plan (JSON), checksum │ record 0 │ record 1 │ …
//!                                        └ state, values, checksum: all of one length
//! ```
//! A record is one frame of the list. Records are only ever appended. On opening, everything behind the last whole
//! batch is dropped: a batch is encoded together or not at all, so that a continued run rounds like any other.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::EmbedError;
use super::plan::Plan;

const MAGIC: &[u8; 8] = b"fthpart1";

/// Longest plan that is read, in bytes; a written one is under a thousand.
const MAX_PLAN_BYTES: u32 = 1 << 16;

/// A record has room for this many bytes of values at least: a bad frame's reason stands in their place.
const MIN_VALUE_BYTES: usize = 256;

/// A SHA-256's first bytes; guards against a cut, not against an attacker.
const CHECKSUM_BYTES: usize = 8;

const EMBEDDED: u8 = 0;
const BAD: u8 = 1;

/// What is known of one frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// The embedding as `f32`, then the latent tokens as `f16`, little-endian.
    Embedded(Vec<u8>),
    /// The frame cannot be used, and why.
    Bad(String),
}

/// An open part file, locked for this process.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    file: File,
    layout: Layout,
    bad: Vec<(usize, String)>,
}

/// Where what lies in the file.
#[derive(Debug, Clone)]
struct Layout {
    plan: Plan,
    head_bytes: u64,
}

/// Opens or begins the part file; also returns the number of frames it holds.
pub(super) fn open(path: &Path, plan: &Plan) -> Result<(Part, usize), EmbedError> {
    let read = |source| EmbedError::Read { path: path.into(), source };
    let write = |source| write_error(path, plan, 0, source);
    let in_the_way = |why: &str| EmbedError::InTheWay { path: path.into(), why: why.into() };
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(in_the_way("it is not a regular file"));
    }
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(write)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(EmbedError::Busy { path: path.into() }),
        Err(TryLockError::Error(_)) => {} // a file system without locks
    }
    let layout = match read_head(&mut file).map_err(read)? {
        Head::Foreign => return Err(in_the_way("it was not begun by this command, or is damaged")),
        Head::Known { plan: then, head_bytes } => {
            if let Some(difference) = then.difference(plan) {
                return Err(EmbedError::OtherRun { path: path.into(), difference });
            }
            Layout { plan: then, head_bytes }
        }
        Head::Missing => {
            let head = head(plan);
            file.set_len(0).and_then(|()| file.write_all(&head)).map_err(write)?;
            Layout { plan: plan.clone(), head_bytes: head.len() as u64 }
        }
    };
    let mut part = Part { path: path.into(), file, layout, bad: Vec::new() };
    let done = part.recover().map_err(read)?;
    Ok((part, done))
}

fn write_error(path: &Path, plan: &Plan, done: usize, source: io::Error) -> EmbedError {
    EmbedError::Write { path: path.into(), source, done, total: plan.frames, part: path.into() }
}

impl Part {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.layout.plan
    }

    /// Frames that cannot be used, by their index in the list, with the reason.
    pub(super) fn bad(&self) -> &[(usize, String)] {
        &self.bad
    }

    /// Frames done.
    pub(super) fn done(&self) -> io::Result<usize> {
        let records = self.file.metadata()?.len() - self.layout.head_bytes;
        Ok((records / self.layout.record_bytes() as u64) as usize)
    }

    /// Appends one batch, `first` being the index of its first frame.
    pub(super) fn append(&mut self, first: usize, records: &[Record]) -> Result<(), EmbedError> {
        append(&mut self.file, &self.layout, first, records)
            .map_err(|source| write_error(&self.path, &self.layout.plan, first, source))?;
        for (index, record) in (first..).zip(records) {
            if let Record::Bad(reason) = record {
                self.bad.push((index, truncated(reason, self.layout.value_bytes()).into()));
            }
        }
        Ok(())
    }

    /// Gives each embedded frame's values (see [`Record::Embedded`]) in the list's order.
    pub(super) fn for_each(&self, visit: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.layout.head_bytes))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut record = vec![0; self.layout.record_bytes()];
        for index in 0..self.layout.plan.frames {
            reader.read_exact(&mut record)?;
            match self.layout.parse(index, &record) {
                Some(Record::Embedded(values)) => visit(&values)?,
                Some(Record::Bad(_)) => {}
                None => return Err(io::Error::other(format!("record {index} is damaged"))),
            }
        }
        Ok(())
    }

    /// Removes the file: its content is in the finished one. One that cannot be removed is only in the way.
    pub(super) fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }

    /// Finds the whole batches, cuts off what follows, and leaves the file ready for appending.
    fn recover(&mut self) -> io::Result<usize> {
        let Plan { frames, batch, .. } = self.layout.plan;
        self.file.seek(SeekFrom::Start(self.layout.head_bytes))?;
        let mut reader = BufReader::with_capacity(1 << 20, &self.file);
        let mut bytes = vec![0; self.layout.record_bytes()];
        let mut whole = 0;
        while whole < frames && read_whole(&mut reader, &mut bytes)? {
            match self.layout.parse(whole, &bytes) {
                Some(Record::Bad(reason)) => self.bad.push((whole, reason)),
                Some(Record::Embedded(_)) => {}
                None => break,
            }
            whole += 1;
        }
        let done = if whole == frames { frames } else { whole - whole % batch };
        self.bad.retain(|(index, _)| *index < done);
        let end = self.layout.head_bytes + (done * self.layout.record_bytes()) as u64;
        self.file.set_len(end)?;
        self.file.seek(SeekFrom::Start(end))?;
        Ok(done)
    }
}

impl Layout {
    fn value_bytes(&self) -> usize {
        (self.plan.dim * 4 + self.plan.token_values() * 2).max(MIN_VALUE_BYTES)
    }

    fn record_bytes(&self) -> usize {
        1 + self.value_bytes() + CHECKSUM_BYTES
    }

    fn write(&self, index: usize, record: &Record, out: &mut Vec<u8>) {
        let start = out.len();
        match record {
            Record::Embedded(values) => {
                out.push(EMBEDDED);
                out.extend_from_slice(values);
            }
            Record::Bad(reason) => {
                out.push(BAD);
                out.extend_from_slice(truncated(reason, self.value_bytes()).as_bytes());
            }
        }
        out.resize(start + 1 + self.value_bytes(), 0);
        let sum = checksum(index as u64, &out[start..]);
        out.extend_from_slice(&sum);
    }

    fn parse(&self, index: usize, record: &[u8]) -> Option<Record> {
        let (body, sum) = record.split_at_checked(1 + self.value_bytes())?;
        if checksum(index as u64, body) != sum {
            return None;
        }
        let values = &body[1..];
        match body[0] {
            EMBEDDED => {
                Some(Record::Embedded(values[..self.plan.dim * 4 + self.plan.token_values() * 2].to_vec()))
            }
            BAD => {
                let end = values.iter().position(|byte| *byte == 0).unwrap_or(values.len());
                Some(Record::Bad(String::from_utf8_lossy(&values[..end]).into_owned()))
            }
            _ => None,
        }
    }
}

/// Writes a batch at the end of `out`, in one call where the system allows.
fn append(out: &mut impl Write, layout: &Layout, first: usize, records: &[Record]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(records.len() * layout.record_bytes());
    for (index, record) in (first..).zip(records) {
        layout.write(index, record, &mut bytes);
    }
    out.write_all(&bytes)
}

/// What stands at the beginning of a part file.
enum Head {
    /// Nothing, or less than a whole head: the process ended while writing it.
    Missing,
    Known {
        plan: Plan,
        head_bytes: u64,
    },
    Foreign,
}

fn head(plan: &Plan) -> Vec<u8> {
    let json = serde_json::to_vec(plan).expect("a plan holds only strings and numbers");
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&(json.len() as u32).to_le_bytes());
    head.extend_from_slice(&json);
    let sum = checksum(0, &head);
    head.extend_from_slice(&sum);
    head
}

fn read_head(file: &mut File) -> io::Result<Head> {
    let mut start = Vec::new();
    file.take(12).read_to_end(&mut start)?;
    if !MAGIC.starts_with(&start[..start.len().min(8)]) {
        return Ok(Head::Foreign);
    }
    let Some(length) = start.get(8..12) else { return Ok(Head::Missing) };
    let length = u32::from_le_bytes(length.try_into().expect("four bytes were taken"));
    if length > MAX_PLAN_BYTES {
        return Ok(Head::Foreign);
    }
    let mut rest = Vec::new();
    file.take(u64::from(length) + CHECKSUM_BYTES as u64).read_to_end(&mut rest)?;
    let Some((json, sum)) =
        rest.split_at_checked(length as usize).filter(|(_, sum)| sum.len() == CHECKSUM_BYTES)
    else {
        return Ok(Head::Missing);
    };
    start.extend_from_slice(json);
    let head_bytes = (start.len() + CHECKSUM_BYTES) as u64;
    match serde_json::from_slice::<Plan>(json) {
        Ok(plan) if checksum(0, &start) == sum && plan.batch > 0 => Ok(Head::Known { plan, head_bytes }),
        _ => Ok(Head::Foreign),
    }
}

/// Fills `bytes`; `false` where the file ends first.
fn read_whole(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn checksum(index: u64, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Sha256::new_with_prefix(index.to_le_bytes()).chain_update(bytes).finalize();
    std::array::from_fn(|at| hash[at])
}

/// At most `bytes` of the text, whole characters.
fn truncated(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            space: "ab".repeat(32),
            model: "tiny".into(),
            note: String::new(),
            uplink: "v1:960x576:q80:420:pass".into(),
            frames: 5,
            frames_digest: String::new(),
            dim: 3,
            tokens: None,
            cells: 1,
            batch: 2,
        }
    }

    #[test]
    fn a_record_reads_back_at_its_own_place_only() {
        let layout = Layout { plan: plan(), head_bytes: 0 };
        let long = format!("{}ü", "x".repeat(MIN_VALUE_BYTES - 1));
        for (record, expected) in [
            (Record::Embedded(vec![9; 12]), Record::Embedded(vec![9; 12])),
            (Record::Bad("no".into()), Record::Bad("no".into())),
            (Record::Bad(long), Record::Bad("x".repeat(MIN_VALUE_BYTES - 1))),
        ] {
            let mut bytes = Vec::new();
            layout.write(3, &record, &mut bytes);
            assert_eq!(bytes.len(), layout.record_bytes());
            assert_eq!(layout.parse(3, &bytes), Some(expected));
            assert_eq!(layout.parse(4, &bytes), None);
        }
    }

    #[test]
    fn a_full_disk_is_reported_not_swallowed() {
        let layout = Layout { plan: plan(), head_bytes: 0 };
        let mut full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = append(&mut full, &layout, 0, &[Record::Bad("no".into())]).unwrap_err();
        let text = write_error(Path::new("out.part"), &layout.plan, 2, error).to_string();
        assert!(text.starts_with("cannot write out.part: No space left on device"), "{text}");
        assert!(
            text.contains("2 of 5 frames are kept in out.part: make room and run the same command again"),
            "{text}"
        );
    }

    #[test]
    fn what_stands_at_the_beginning_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        let head = head(&plan());
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_head(&mut File::open(&path).unwrap()).unwrap()
        };
        for length in 0..head.len() {
            assert!(matches!(read(&head[..length]), Head::Missing), "{length} bytes");
        }
        assert!(
            matches!(read(&head), Head::Known { plan: read, head_bytes } if read == plan() && head_bytes == head.len() as u64)
        );
        for at in 0..head.len() {
            let mut damaged = head.clone();
            damaged[at] ^= 0x10;
            assert!(!matches!(read(&damaged), Head::Known { .. }), "byte {at}");
        }
        assert!(matches!(read(b"my notes, not yours"), Head::Foreign));
    }
}

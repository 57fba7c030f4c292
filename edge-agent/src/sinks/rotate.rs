//! A file of lines that makes way for a new one when it is full: `answers.jsonl`, then `answers.jsonl.1` is the one
//! before, and so on; the oldest goes. A line is never torn between two files.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// When a file is full, and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A file with this many bytes or more is full.
    pub bytes: u64,
    /// Full files that are kept beside the one that is written.
    pub keep: u32,
}

impl Rotation {
    /// One file, however long.
    pub const NEVER: Self = Self { bytes: u64::MAX, keep: 1 };
}

/// Appends to a file, and rotates.
#[derive(Debug)]
pub(super) struct Rotating {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    size: u64,
    /// The last byte written ended a line: here the file may end.
    between_lines: bool,
}

impl Rotating {
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let file = append(path)?;
        let (size, whole) = file.metadata().map(|file| (file.len(), file.is_file()))?;
        // Devices and pipes have no room to make.
        let rotation = if whole { rotation } else { Rotation::NEVER };
        Ok(Self { path: path.to_owned(), rotation, file, size, between_lines: true })
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.rotation.keep).rev() {
            let older = self.number(number);
            if older.exists() {
                std::fs::rename(older, self.number(number + 1))?;
            }
        }
        std::fs::rename(&self.path, self.number(1))?;
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }

    fn number(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Write for Rotating {
    /// Takes whole lines as far as there are some, so that the next call begins one.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.between_lines && self.size >= self.rotation.bytes {
            self.rotate()?;
        }
        let line = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |end| end + 1);
        let written = self.file.write(&bytes[..line])?;
        self.size += written as u64;
        self.between_lines = bytes[..written].last().is_none_or(|&byte| byte == b'\n');
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufWriter;

    use super::*;

    #[test]
    fn a_device_stays_where_it_is() {
        let rotation = Rotation { bytes: 1, keep: 1 };
        let target = Rotating::open(Path::new("/dev/null"), rotation).unwrap();
        assert_eq!(target.rotation, Rotation::NEVER);
    }

    #[test]
    fn full_files_make_way_and_no_line_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers.jsonl");
        let rotation = Rotation { bytes: 100, keep: 2 };
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        for start in [0, 20] {
            // Buffers of an odd size: what reaches the file is not cut at lines.
            let mut target = BufWriter::with_capacity(37, Rotating::open(&path, rotation).unwrap());
            for number in start..start + 20 {
                writeln!(target, "{{\"seq\":{number:08}}}").unwrap();
            }
            target.flush().unwrap();
        }
        let kept = [read("answers.jsonl.2"), read("answers.jsonl.1"), read("answers.jsonl")];
        assert!(kept[..2].iter().all(|text| (100..120).contains(&text.len())), "{kept:?}");
        let lines: Vec<u32> = kept
            .concat()
            .lines()
            .map(|line| line[7..15].parse().unwrap_or_else(|_| panic!("{line}")))
            .collect();
        let first = *lines.first().unwrap();
        assert!(lines.into_iter().eq(first..40), "the newest are there, in order");
        assert!(!dir.path().join("answers.jsonl.3").exists());
    }
}

//! Pictures of a folder or a list.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::frames::{self, FrameRef};
use crate::image::{self, Limits};
use jiff::Timestamp;

use super::frame::{Image, Shot};
use super::uri::is_picture;
use super::{CaptureError, Options, Source, Stop};

/// Pictures one after another, with their own times. JPEG is passed on byte for byte, PNG is decoded.
pub(super) struct Files {
    path: PathBuf,
    frames: Vec<FrameRef>,
    /// Place of the next one.
    next: usize,
    repeat: bool,
    /// One of this round could be read: else the next round would be as idle.
    usable: bool,
    limits: Limits,
}

impl Files {
    /// Lists the pictures of a folder or a list; one picture is a list of itself.
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self, CaptureError> {
        options.check()?;
        let frames = if is_picture(path) { vec![single(path)] } else { frames::list(path)? };
        let (next, usable) = (0, false);
        Ok(Self {
            path: path.to_owned(),
            frames,
            next,
            repeat: options.repeat,
            usable,
            limits: options.limits,
        })
    }

    fn next_frame(&mut self) -> Option<FrameRef> {
        if self.next == self.frames.len() && self.repeat && self.usable {
            (self.next, self.usable) = (0, false);
        }
        let frame = self.frames.get(self.next)?.clone();
        self.next += 1;
        Some(frame)
    }
}

impl Source for Files {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn next(&mut self, stop: &Stop) -> Result<Option<Shot>, CaptureError> {
        if stop.is_stopped() {
            return Ok(None);
        }
        let Some(frame) = self.next_frame() else { return Ok(None) };
        let started = Instant::now();
        let image = read(&frame.path, &self.limits);
        self.usable |= image.is_ok();
        Ok(Some(Shot {
            captured_at: frame.captured_at.unwrap_or_else(Timestamp::now),
            started,
            ready: Instant::now(),
            id: Some(frame.id),
            image,
        }))
    }
}

/// The list of one picture.
fn single(path: &Path) -> FrameRef {
    let id = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let modified = || Timestamp::try_from(path.metadata().ok()?.modified().ok()?).ok();
    let captured_at = frames::from_name(&id).or_else(modified);
    FrameRef { id, path: path.to_owned(), captured_at }
}

/// A picture, told by its first bytes and not by its name; what is wrong with it otherwise.
fn read(path: &Path, limits: &Limits) -> Result<Image, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let mut magic = [0; 8];
    let got = read_some(&mut file, &mut magic).map_err(|error| error.to_string())?;
    match &magic[..got] {
        [] => Err("the file is empty".to_owned()),
        [0xff, 0xd8, ..] => {
            let mut data = magic[..got].to_vec();
            let max = limits.max_bytes;
            file.take(max as u64 + 1).read_to_end(&mut data).map_err(|error| error.to_string())?;
            if data.len() > max {
                return Err(format!("the file is larger than {max} bytes"));
            }
            Ok(Image::Jpeg(data.into()))
        }
        b"\x89PNG\r\n\x1a\n" => image::load(path, limits).map(Image::Rgb).map_err(|error| error.to_string()),
        _ => Err("the file is neither JPEG nor PNG".to_owned()),
    }
}

/// Fills as much of `buffer` as the file has.
fn read_some(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read(&mut buffer[got..])? {
            0 => break,
            more => got += more,
        }
    }
    Ok(got)
}

//! One opening of a device: from `open` to unplug.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use v4l::buffer::{Flags, Type};
use v4l::capability;
use v4l::format::FourCC;
use v4l::fraction::Fraction;
use v4l::framesize::FrameSizeEnum;
use v4l::io::mmap::Stream;
use v4l::io::traits::{CaptureStream, Stream as _};
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Device, Format};

use super::choose::{self, Choice, Offer, Sizes};
use super::picture::Geometry;
use super::rate::Thinner;
use crate::capture::{CaptureError, Options, Pixels, STOP_POLL, Shot, Stop};

/// Buffers mapped: one being read here, one being filled, one between. They are most of an idle agent's memory, and a driver
/// that needs more gives more.
const BUFFERS: u32 = 3;
/// More than any driver gives.
const MAX_BUFFERS: usize = 32;

/// A device that streams.
pub(super) struct Session {
    device: Device,
    /// `None` only while it is dropped.
    stream: Option<Stream<'static>>,
    geometry: Geometry,
    thinner: Option<Thinner>,
}

/// What came of waiting for a frame.
pub(super) enum Event {
    Frame(Shot),
    Failed(io::Error),
    Silent,
    Stopped,
}

impl Session {
    /// Opens the device, sets its format and starts the stream.
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self, CaptureError> {
        let fail = |what| move |source| explain(path, what, source);
        let device = Device::with_path(path).map_err(fail("opening it"))?;
        let caps = device.query_caps().map_err(fail("asking what it is"))?;
        if !caps.capabilities.contains(capability::Flags::VIDEO_CAPTURE | capability::Flags::STREAMING) {
            return Err(CaptureError::NotACamera { path: path.to_owned(), what: caps.card });
        }
        let offers = offers(&device).map_err(fail("listing its formats"))?;
        if offers.is_empty() {
            let what = format!("{} has no picture there", caps.card);
            return Err(CaptureError::NotACamera { path: path.to_owned(), what });
        }
        let choice =
            choose::choose(&offers, options.size, options.pixels).ok_or_else(|| CaptureError::NoFormat {
                path: path.to_owned(),
                wanted: match options.pixels {
                    Some(pixels) => {
                        format!("{}, which the configuration wants (capture.pixels)", pixels.name())
                    }
                    None => format!("any of {}", Pixels::ALL.map(Pixels::name).join(", ")),
                },
                offered: choose::list(&offers),
            })?;
        let geometry = set_format(&device, choice).map_err(fail("setting its format"))?;
        let actual = options.fps.and_then(|fps| set_rate(&device, fps));
        let mut stream = Stream::with_buffers(&device, Type::VideoCapture, BUFFERS)
            .map_err(fail("mapping its buffers"))?;
        start(&mut stream).map_err(fail("starting it"))?;
        tracing::info!(
            device = %path.display(), camera = caps.card, driver = caps.driver,
            format = %FourCC::new(&choice.code), width = geometry.width, height = geometry.height,
            "camera opened"
        );
        let thinner = Thinner::new(options.fps, actual);
        Ok(Self { device, stream: Some(stream), geometry, thinner })
    }

    /// Waits for a frame that is wanted.
    pub(super) fn next(&mut self, patience: Duration, stop: &Stop) -> Event {
        let until = Instant::now() + patience;
        loop {
            if stop.is_stopped() {
                return Event::Stopped;
            }
            match self.device.handle().poll(libc::POLLIN, STOP_POLL.as_millis() as i32) {
                Ok(0) if Instant::now() >= until => return Event::Silent,
                Ok(0) => {}
                Ok(_) => match self.take() {
                    Ok(Some(shot)) => return Event::Frame(shot),
                    Ok(None) => {}
                    Err(error) => return Event::Failed(error),
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Event::Failed(error),
            }
        }
    }

    /// Takes the frame that waits; `None` if the rate leaves it out. The time is when it is taken: drivers do not
    /// agree on whether theirs is the beginning or the end of a frame.
    fn take(&mut self) -> io::Result<Option<Shot>> {
        let (captured_at, started) = (Timestamp::now(), Instant::now());
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let (buffer, meta) = CaptureStream::next(stream)?;
        if self.thinner.as_mut().is_some_and(|thinner| !thinner.wants(started)) {
            return Ok(None);
        }
        let image = if meta.flags.contains(Flags::ERROR) {
            Err("the driver marked the frame as damaged".to_owned())
        } else {
            self.geometry.picture(buffer, meta.bytesused)
        };
        Ok(Some(Shot { captured_at, started, ready: Instant::now(), id: None, image }))
    }
}

impl Drop for Session {
    /// `v4l` panics if a stream that is dropped cannot be stopped, unless the device is gone: such a stream is
    /// left behind, mapped, rather than ending the agent.
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take() else { return };
        match stream.stop() {
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => {
                tracing::warn!(%error, "the camera's stream does not stop; its buffers are left behind");
                std::mem::forget(stream);
            }
            _ => drop(stream),
        }
    }
}

/// Queues every buffer but the first and starts: [`CaptureStream::next`] queues the one it handed out last
/// before it takes another, and begins with the first.
fn start(stream: &mut Stream<'static>) -> io::Result<()> {
    for index in 1..MAX_BUFFERS {
        match CaptureStream::queue(stream, index) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
            Err(error) => return Err(error),
        }
    }
    stream.start()
}

pub(super) fn offers(device: &Device) -> io::Result<Vec<Offer>> {
    let formats = device.enum_formats()?;
    let offer = |format: v4l::format::Description| {
        // A driver that lists no sizes takes any: it is asked for the wanted one and says what it made of it.
        let any = Sizes::Range { min: (1, 1), max: (u32::from(u16::MAX), u32::from(u16::MAX)), step: (1, 1) };
        let sizes: Vec<_> = device.enum_framesizes(format.fourcc).unwrap_or_default();
        let mut sizes: Vec<_> = sizes.into_iter().map(|size| sizes_of(size.size)).collect();
        if sizes.is_empty() {
            sizes.push(any);
        }
        Offer { code: format.fourcc.repr, sizes }
    };
    Ok(formats.into_iter().map(offer).collect())
}

fn sizes_of(size: FrameSizeEnum) -> Sizes {
    match size {
        FrameSizeEnum::Discrete(size) => Sizes::One((size.width, size.height)),
        FrameSizeEnum::Stepwise(range) => Sizes::Range {
            min: (range.min_width, range.min_height),
            max: (range.max_width, range.max_height),
            step: (range.step_width, range.step_height),
        },
    }
}

/// Sets the format and reads what the driver made of it: the size may differ, the pixels may not.
fn set_format(device: &Device, choice: Choice) -> io::Result<Geometry> {
    let (width, height) = choice.size;
    let set = device.set_format(&Format::new(width, height, FourCC::new(&choice.code)))?;
    if set.fourcc.repr != choice.code {
        return Err(io::Error::other(format!(
            "the driver set {} instead of {}",
            set.fourcc,
            FourCC::new(&choice.code)
        )));
    }
    let Format { width, height, stride, .. } = set;
    Ok(Geometry { pixels: choice.pixels, width, height, stride })
}

/// Asks for a frame rate; the rate it then runs at, if the driver says.
fn set_rate(device: &Device, fps: f64) -> Option<f64> {
    let interval = Fraction::new(1000, (fps * 1000.0).round().max(1.0) as u32);
    let set = device.set_params(&Parameters::new(interval)).or_else(|_| device.params()).ok()?.interval;
    (set.numerator > 0 && set.denominator > 0).then(|| f64::from(set.denominator) / f64::from(set.numerator))
}

/// The system's answer in words.
pub(super) fn explain(path: &Path, what: &'static str, source: io::Error) -> CaptureError {
    let path = path.to_owned();
    match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => CaptureError::DeviceMissing { path },
        Some(libc::EACCES | libc::EPERM) => CaptureError::DevicePermission { path },
        Some(libc::EBUSY) => CaptureError::DeviceBusy { path },
        Some(libc::ENOTTY) => CaptureError::NotACamera { path, what: "it is no video device".to_owned() },
        _ => CaptureError::Device { path, what, source },
    }
}

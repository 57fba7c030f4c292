//! What a camera offers, without starting it.

use std::path::Path;

use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::video::Capture as _;
use v4l::{Device, capability};

use super::choose::{self, Choice};
use super::session::{explain, offers};
use crate::capture::cameras::{Camera, Format, Size};
use crate::capture::{CaptureError, Options};

/// Asks a device; it may be in use meanwhile.
pub(in crate::capture) fn look(path: &Path) -> Result<Camera, CaptureError> {
    let fail = |what| move |source| explain(path, what, source);
    let device = Device::with_path(path).map_err(fail("opening it"))?;
    let caps = device.query_caps().map_err(fail("asking what it is"))?;
    if !caps.capabilities.contains(capability::Flags::VIDEO_CAPTURE | capability::Flags::STREAMING) {
        return Err(CaptureError::NotACamera { path: path.to_owned(), what: caps.card });
    }
    let formats = device.enum_formats().map_err(fail("listing its formats"))?;
    let formats: Vec<Format> = formats.iter().map(|format| described(&device, format)).collect();
    if formats.is_empty() {
        let what = format!("{} has no picture there", caps.card);
        return Err(CaptureError::NotACamera { path: path.to_owned(), what });
    }
    let offers = offers(&device).map_err(fail("listing its formats"))?;
    let choice = choose::choose(&offers, Options::default().size, None);
    let choice = choice.map(|Choice { code, size: (width, height), .. }| (name(&code), width, height));
    Ok(Camera { path: path.to_owned(), name: caps.card, driver: caps.driver, bus: caps.bus, formats, choice })
}

fn described(device: &Device, format: &v4l::format::Description) -> Format {
    let sizes = device.enum_framesizes(format.fourcc).unwrap_or_default();
    let sizes = sizes.into_iter().map(|size| match size.size {
        FrameSizeEnum::Discrete(size) => {
            let intervals = device.enum_frameintervals(format.fourcc, size.width, size.height);
            let rates = intervals.unwrap_or_default().into_iter().filter_map(|rate| match rate.interval {
                FrameIntervalEnum::Discrete(fraction) if fraction.numerator > 0 => {
                    Some(f64::from(fraction.denominator) / f64::from(fraction.numerator))
                }
                _ => None,
            });
            Size { from: (size.width, size.height), to: (size.width, size.height), rates: rates.collect() }
        }
        FrameSizeEnum::Stepwise(range) => Size {
            from: (range.min_width, range.min_height),
            to: (range.max_width, range.max_height),
            rates: vec![],
        },
    });
    Format { code: name(&format.fourcc.repr), words: format.description.clone(), sizes: sizes.collect() }
}

fn name(code: &[u8; 4]) -> String {
    String::from_utf8_lossy(code).trim().to_owned()
}

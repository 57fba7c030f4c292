//! `edge-agent cameras`: the cameras of this box as a person wants to see them, and what to write into the
//! configuration.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use super::CaptureError;

/// Where the system has its devices.
const DEVICES: &str = "/dev";

/// A camera.
#[derive(Debug, Clone, PartialEq)]
pub struct Camera {
    /// Its device.
    pub path: PathBuf,
    /// What it calls itself.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// Where it is plugged in.
    pub bus: String,
    /// What it offers.
    pub formats: Vec<Format>,
    /// What the agent would take: format, width, height. `None`: nothing that it reads.
    pub choice: Option<(String, u32, u32)>,
}

/// How pixels come.
#[derive(Debug, Clone, PartialEq)]
pub struct Format {
    /// V4L2's four letters.
    pub code: String,
    /// The driver's words.
    pub words: String,
    /// Its sizes.
    pub sizes: Vec<Size>,
}

/// A size, or a range of them, `(width, height)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Size {
    /// The smallest.
    pub from: (u32, u32),
    /// The largest.
    pub to: (u32, u32),
    /// Frames a second, where the driver says.
    pub rates: Vec<f64>,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.from.0, self.from.1)?;
        if self.from != self.to {
            write!(f, " to {}x{}", self.to.0, self.to.1)?;
        }
        let Some((first, rest)) = self.rates.split_first() else { return Ok(()) };
        // Drivers count in fractions: 29.97 and 7.5 stay, 30.00003 is 30.
        let rate = |rate: f64| (rate * 100.0).round() / 100.0;
        write!(f, " at {}", rate(*first))?;
        rest.iter().try_for_each(|other| write!(f, ", {}", rate(*other)))?;
        f.write_str(" fps")
    }
}

impl fmt::Display for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  {} ({}, {})", self.path.display(), self.name, self.driver, self.bus)?;
        for format in &self.formats {
            writeln!(f, "  {:4}  {}", format.code, format.words)?;
            for size in &format.sizes {
                writeln!(f, "        {size}")?;
            }
        }
        match &self.choice {
            Some((code, width, height)) => {
                writeln!(f, "  the agent takes {code} {width}x{height}; in its configuration:")?;
                writeln!(f, "    source = \"{}\"", self.path.display())?;
                write!(f, "    fps = 2.0")
            }
            None => write!(
                f,
                "  the agent reads none of these formats (it reads MJPG, YUYV, UYVY, NV12 and GREY)"
            ),
        }
    }
}

/// What was found at each device.
pub type Found = Vec<(PathBuf, Result<Camera, CaptureError>)>;

/// Looks at every video device of this box. It may take a second each.
#[must_use]
pub fn find() -> Found {
    devices(Path::new(DEVICES)).into_iter().map(|path| (path.clone(), look(&path))).collect()
}

/// The first camera whose pictures the agent reads.
#[must_use]
pub fn first() -> Option<PathBuf> {
    let usable = |camera: &Camera| camera.choice.is_some();
    devices(Path::new(DEVICES)).into_iter().find(|path| look(path).is_ok_and(|camera| usable(&camera)))
}

#[cfg(feature = "v4l")]
fn look(path: &Path) -> Result<Camera, CaptureError> {
    super::v4l::look(path)
}

#[cfg(not(feature = "v4l"))]
fn look(path: &Path) -> Result<Camera, CaptureError> {
    Err(CaptureError::NoV4l { path: path.to_owned() })
}

/// `video0`, `video1`, … in that order.
fn devices(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix("video")?.parse::<u32>().ok();
    let mut found: Vec<_> =
        entries.filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path()))).collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// The list in words.
#[must_use]
pub fn report(found: &Found) -> String {
    let mut text = String::new();
    for (path, camera) in found {
        // Writing into a string cannot fail.
        let _ = match camera {
            Ok(camera) => writeln!(text, "{camera}"),
            Err(CaptureError::NotACamera { what, .. }) => {
                writeln!(text, "{}  no camera: {what}", path.display())
            }
            Err(error) => writeln!(text, "{}  {error}", path.display()),
        };
    }
    if found.iter().all(|(_, camera)| camera.is_err()) {
        text += "no camera here: plug one in; `ls /dev/video*` shows what the system sees. A network camera needs no \
                 device: source = \"rtsp://…\"\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera() -> Camera {
        let size = |width, height, rates: &[f64]| Size {
            from: (width, height),
            to: (width, height),
            rates: rates.to_vec(),
        };
        Camera {
            path: "/dev/video0".into(),
            name: "HD Webcam".into(),
            driver: "uvcvideo".into(),
            bus: "usb-1.2".into(),
            formats: vec![
                Format {
                    code: "MJPG".into(),
                    words: "Motion-JPEG".into(),
                    sizes: vec![size(1280, 720, &[30.000_03, 7.5]), size(640, 480, &[])],
                },
                Format {
                    code: "YUYV".into(),
                    words: "YUYV 4:2:2".into(),
                    sizes: vec![Size { from: (32, 32), to: (640, 480), rates: vec![] }],
                },
            ],
            choice: Some(("MJPG".into(), 1280, 720)),
        }
    }

    #[test]
    fn a_camera_is_shown_with_what_to_write() {
        let shown = report(&vec![
            ("/dev/video0".into(), Ok(camera())),
            (
                "/dev/video1".into(),
                Err(CaptureError::NotACamera { path: "/dev/video1".into(), what: "HD Webcam".into() }),
            ),
            ("/dev/video2".into(), Err(CaptureError::DevicePermission { path: "/dev/video2".into() })),
        ]);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[0], "/dev/video0  HD Webcam (uvcvideo, usb-1.2)");
        assert_eq!(lines[2], "        1280x720 at 30, 7.5 fps");
        assert_eq!(lines[5], "        32x32 to 640x480");
        assert_eq!(lines[6], "  the agent takes MJPG 1280x720; in its configuration:");
        assert_eq!(lines[7], "    source = \"/dev/video0\"");
        assert_eq!(lines[9], "/dev/video1  no camera: HD Webcam");
        assert!(lines[10].contains("group `video`"));
        assert!(!shown.contains("plug one in"));
        assert!(report(&vec![]).contains("plug one in"));
        let unread = Camera { choice: None, ..camera() };
        assert!(unread.to_string().ends_with("(it reads MJPG, YUYV, UYVY, NV12 and GREY)"));
    }

    #[test]
    fn devices_come_in_the_order_of_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["video10", "video2", "video", "videox", "radio0", "video0"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let names: Vec<_> =
            devices(dir.path()).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["video0", "video2", "video10"]);
    }
}

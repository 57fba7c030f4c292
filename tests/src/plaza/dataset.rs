//! A folder of rendered frames with their labels, laid out as the training commands read them.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use shared::{image::jpeg, uplink::Chroma};

use super::{Clock, Plaza, Truth};

/// JPEG quality of rendered frames: a good camera's.
const QUALITY: u8 = 90;

/// One line of `labels.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Labelled {
    /// Path of the frame, relative to the labels file.
    pub file: String,
    /// What is true of it.
    #[serde(flatten)]
    pub truth: Truth,
}

/// Which frames to render: `count` frames from `start`, `step_s` seconds apart.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Seed of the plaza.
    pub seed: u64,
    /// Clock of the first frame.
    pub start: Clock,
    /// Seconds between frames.
    pub step_s: f64,
    /// Number of frames.
    pub count: u32,
}

/// Renders the plan into `dir/frames/*.jpg` and `dir/labels.jsonl`; `progress` is called once a frame.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn render(dir: &Path, plan: &Plan, progress: impl Fn() + Sync) -> anyhow::Result<PathBuf> {
    let frames = dir.join("frames");
    fs::create_dir_all(&frames).with_context(|| format!("cannot make the folder {}", frames.display()))?;
    let plaza = Plaza::new(plan.seed);
    let labelled: Vec<Labelled> = (0..plan.count)
        .into_par_iter()
        .map(|k| {
            let (image, truth) = plaza.frame(Clock(plan.start.0 + f64::from(k) * plan.step_s));
            let file = format!("frames/{:06}.jpg", k + 1);
            let path = dir.join(&file);
            fs::write(&path, jpeg::encode(&image, QUALITY, Chroma::C420))
                .with_context(|| format!("cannot write {}", path.display()))?;
            progress();
            Ok(Labelled { file, truth })
        })
        .collect::<anyhow::Result<_>>()?;
    let path = dir.join("labels.jsonl");
    let mut out = std::io::BufWriter::new(
        fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?,
    );
    for line in &labelled {
        serde_json::to_writer(&mut out, line)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(path)
}

/// Reads a `labels.jsonl` back.
///
/// # Errors
/// An unreadable file or line, named.
pub fn read(path: &Path) -> anyhow::Result<Vec<Labelled>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.lines()
        .enumerate()
        .map(|(k, line)| {
            serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), k + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan { seed: 2, start: Clock::at(0, 600.0), step_s: 30.0, count: 2 };
        let path = render(dir.path(), &plan, || {}).unwrap();
        let labels = read(&path).unwrap();
        assert_eq!(labels.len(), 2);
        assert_eq!(labels[1].truth, Plaza::new(2).frame(Clock::at(0, 600.5)).1);
        assert!(dir.path().join(&labels[1].file).exists());
    }
}

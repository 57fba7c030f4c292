//! Finding the embedded frame of each label.

use std::collections::HashMap;

use super::error::TrainError;
use super::labels::{Label, normal};

/// A label with its frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Row in the embeddings file.
    pub frame: usize,
    /// The label.
    pub value: f64,
}

/// Finds each label's frame, and puts the samples in time order: the order in which the frames were embedded,
/// which is by name for a folder and as written for a list.
///
/// A label's path is the embedded id, or one of the two ends with the other, at a `/`: labels written beside the
/// folder `frames` may say `frames/1.jpg` where the folder was embedded as `1.jpg`.
///
/// # Errors
/// [`TrainError::NotEmbedded`], [`TrainError::Ambiguous`], [`TrainError::Twice`].
pub fn join(labels: &[Label], ids: &[String]) -> Result<Vec<Sample>, TrainError> {
    let frames = locate(labels, ids)?;
    let mut samples: Vec<Sample> =
        labels.iter().zip(frames).map(|(label, frame)| Sample { frame, value: label.value }).collect();
    samples.sort_by_key(|sample| sample.frame);
    Ok(samples)
}

/// The embedded frame of each label, in the labels' order.
///
/// # Errors
/// As [`join`].
pub fn locate(labels: &[Label], ids: &[String]) -> Result<Vec<usize>, TrainError> {
    let index = Index::new(ids);
    let mut taken: HashMap<usize, &Label> = HashMap::with_capacity(labels.len());
    let mut frames = Vec::with_capacity(labels.len());
    for label in labels {
        let frame = index.find(label)?;
        if let Some(first) = taken.insert(frame, label) {
            let file = ids[frame].clone();
            return Err(TrainError::Twice { file, first: first.line, second: label.line });
        }
        frames.push(frame);
    }
    Ok(frames)
}

struct Index<'a> {
    ids: &'a [String],
    exact: HashMap<&'a str, usize>,
    by_name: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Index<'a> {
    fn new(ids: &'a [String]) -> Self {
        let exact = ids.iter().enumerate().map(|(i, id)| (normal(id), i)).collect();
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, id) in ids.iter().enumerate() {
            by_name.entry(name(id)).or_default().push(i);
        }
        Self { ids, exact, by_name }
    }

    fn find(&self, label: &Label) -> Result<usize, TrainError> {
        if let Some(index) = self.exact.get(label.file.as_str()) {
            return Ok(*index);
        }
        let candidates = self.by_name.get(name(&label.file)).map_or(&[][..], Vec::as_slice);
        let mut fitting = candidates.iter().copied().filter(|i| {
            let id = normal(&self.ids[*i]);
            ends_with(id, &label.file) || ends_with(&label.file, id)
        });
        let (file, line) = (label.file.clone(), label.line);
        match (fitting.next(), fitting.next()) {
            (Some(index), None) => Ok(index),
            (Some(first), Some(second)) => {
                let (first, second) = (self.ids[first].clone(), self.ids[second].clone());
                Err(TrainError::Ambiguous { file, line, first, second })
            }
            (None, _) => Err(TrainError::NotEmbedded { file, line, embedded: self.ids.len() }),
        }
    }
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether `path` ends with `end` at a component boundary.
fn ends_with(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(files: &[&str]) -> Vec<Label> {
        let label = |(i, f): (usize, &&str)| Label { file: (*f).into(), value: i as f64, line: i + 2 };
        files.iter().enumerate().map(label).collect()
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn samples_come_in_the_order_of_the_frames() {
        let got = join(&labels(&["c", "a"]), &ids(&["a", "b", "c"])).unwrap();
        assert_eq!(got, [Sample { frame: 0, value: 1.0 }, Sample { frame: 2, value: 0.0 }]);
    }

    #[test]
    fn a_label_written_beside_the_folder_finds_its_frame() {
        let frames = ids(&["1.jpg", "2.jpg", "day/2.jpg"]);
        assert_eq!(join(&labels(&["frames/1.jpg"]), &frames).unwrap()[0].frame, 0);
        assert_eq!(join(&labels(&["day/2.jpg"]), &frames).unwrap()[0].frame, 2);
        assert_eq!(join(&labels(&["1.jpg"]), &ids(&["./frames/1.jpg"])).unwrap()[0].frame, 0);
        // A name that merely ends alike is another frame.
        let error = join(&labels(&["11.jpg"]), &frames).unwrap_err().to_string();
        assert!(
            error.starts_with("line 2 of the labels names `11.jpg`, which is not among the 3"),
            "{error}"
        );
        assert!(error.contains("dc-encoder embed"), "{error}");
    }

    #[test]
    fn a_path_that_fits_two_frames_is_not_guessed() {
        let error = join(&labels(&["2.jpg"]), &ids(&["a/2.jpg", "b/2.jpg"])).unwrap_err().to_string();
        assert!(error.contains("fits both `a/2.jpg` and `b/2.jpg`"), "{error}");
        let error = join(&labels(&["x/2.jpg", "2.jpg"]), &ids(&["2.jpg"])).unwrap_err().to_string();
        assert!(error.contains("lines 3 and 2") || error.contains("lines 2 and 3"), "{error}");
    }
}

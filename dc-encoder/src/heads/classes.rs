//! The classes of a training: those its labels name, and no others.
//!
//! A labels file may name more classes than the rows that are trained on; a head has one output for each class it was
//! shown. Labels are places in a list of names, and here they are moved from the file's list to the head's.

use super::error::TrainError;
use super::join::Sample;

/// Moves labels from places in `names` to places among the classes that `train` has, whose names are given back; they
/// keep their order. For other tasks `names` is empty, and nothing is done.
///
/// # Errors
/// [`TrainError::UnknownClass`] when a test label is of a class that no training label is of.
pub(super) fn among(
    names: &[String],
    train: &mut [Sample],
    test: &mut [Sample],
    ids: &[String],
) -> Result<Vec<String>, TrainError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut places = vec![None; names.len()];
    let mut kept = Vec::new();
    for (class, name) in names.iter().enumerate() {
        if train.iter().any(|sample| sample.value as usize == class) {
            places[class] = Some(kept.len() as f64);
            kept.push(name.clone());
        }
    }
    for sample in train.iter_mut().chain(test) {
        let class = sample.value as usize;
        sample.value = places[class].ok_or_else(|| TrainError::UnknownClass {
            class: names[class].clone(),
            file: ids[sample.frame].clone(),
            known: listed(&kept),
        })?;
    }
    Ok(kept)
}

/// Names as a list for people.
pub(crate) fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A head's answer as a label of a file that lists classes as `names`: the place of the class it says. A class that the
/// file does not name is none of them, and equals no label.
pub(crate) fn as_label(prediction: shared::head::Prediction, head: &[String], names: &[String]) -> f64 {
    match prediction.class {
        Some(class) => names.iter().position(|name| *name == head[class]).unwrap_or(names.len()) as f64,
        None => prediction.value,
    }
}

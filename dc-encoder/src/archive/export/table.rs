//! One row a frame: what is known of it, its embedding, its label.

use std::path::Path;

use shared::head::Task;

use super::parquet::{Column, Values, file};
use crate::archive::{Archive, ArchiveError, Consensus, Found};

/// Columns in the order of the file.
pub(super) fn write(archive: &Archive, found: &[Found], task: Task, out: &Path) -> Result<(), ArchiveError> {
    let text = |of: &dyn Fn(&Found) -> String| Values::Text(found.iter().map(|it| Some(of(it))).collect());
    let said: Vec<Option<Consensus>> = found.iter().map(|it| Consensus::of(&it.labels_of(task))).collect();
    let value = |it: &Option<Consensus>| it.as_ref().and_then(|it| it.value.clone());
    let label = match task {
        Task::Class => Values::Text(said.iter().map(|it| value(it)?.as_str().map(str::to_owned)).collect()),
        _ => Values::Doubles(said.iter().map(|it| value(it)?.as_f64()).collect()),
    };
    let people = said.iter().map(|it| Some(it.as_ref().map_or(0, |it| it.people as i64))).collect();
    let columns = [
        Column::new("id", text(&|it| it.record.id.to_string())),
        Column::new("camera", text(&|it| it.record.camera.clone())),
        Column::new(
            "captured_at",
            Values::Timestamps(found.iter().map(|it| it.record.captured_at.as_microsecond()).collect()),
        ),
        Column::new("zone", text(&|it| it.record.zone.clone())),
        Column::new(
            "uncertainty_ms",
            Values::Integers(found.iter().map(|it| i64::try_from(it.record.uncertainty_ms).ok()).collect()),
        ),
        Column::new("path", text(&|it| it.record.path.clone())),
        Column::new("sha256", text(&|it| it.record.sha256.clone())),
        Column::new("label", label),
        Column::new("people", Values::Integers(people)),
        Column::new("embedding", Values::Lists(embeddings(archive, found)?)),
    ];
    std::fs::write(out, file(&columns)).map_err(ArchiveError::io("write", out))
}

/// Each frame's numbers in its camera's newest space; none where there are none.
fn embeddings(archive: &Archive, found: &[Found]) -> Result<Vec<Vec<f32>>, ArchiveError> {
    let mut by_id = std::collections::HashMap::new();
    let mut cameras: Vec<&str> = found.iter().map(|it| it.record.camera.as_str()).collect();
    cameras.sort_unstable();
    cameras.dedup();
    for camera in cameras {
        match archive.embeddings(camera, None) {
            Ok(all) => by_id.extend(all.ids.iter().enumerate().map(|(row, id)| (*id, all.row(row).to_vec()))),
            Err(ArchiveError::NoEmbeddings(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found.iter().map(|it| by_id.remove(&it.record.id).unwrap_or_default()).collect())
}

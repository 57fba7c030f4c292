//! From the part file to the finished one: written beside it, synced, then renamed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use protocol::GridShape;
use serde_json::json;
use shared::frames::FrameRef;

use super::file::{FORMAT, Header, MAX_HEADER_BYTES};
use super::part::Part;
use super::plan::Plan;
use super::{EmbedError, Skipped, Summary};

/// Writes `out` and returns the frames that are not in it.
pub(super) fn write(out: &Path, frames: &[FrameRef], part: &mut Part) -> Result<Vec<Skipped>, EmbedError> {
    let total = frames.len();
    let skipped: Vec<Skipped> =
        part.bad().iter().map(|(index, reason)| skip(&frames[*index], reason)).collect();
    if let Some(Skipped { file, reason }) = skipped.first().filter(|_| skipped.len() == total) {
        return Err(EmbedError::NothingUsable { total, file: file.clone(), reason: reason.clone() });
    }
    let header = header(frames, part, &skipped);
    if header.len() as u64 > MAX_HEADER_BYTES {
        return Err(EmbedError::TooMany { total });
    }
    let temporary = temporary_path(out);
    let result = fill(&temporary, &header, part).and_then(|()| std::fs::rename(&temporary, out));
    if let Err(source) = result {
        // A part of a file helps nobody, and its room is needed.
        let _ = std::fs::remove_file(&temporary);
        return Err(EmbedError::Write {
            path: temporary,
            source,
            done: total,
            total,
            part: part.path().into(),
        });
    }
    // The rename itself lasts once the folder is synced. Not every file system can; the file is whole either way.
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(skipped)
}

/// What an earlier run has finished, if `out` is just what this one would make.
pub(super) fn find_complete(out: &Path, plan: &Plan) -> Result<Option<Summary>, EmbedError> {
    if !out.exists() {
        return Ok(None);
    }
    let in_the_way = |why: String| EmbedError::InTheWay { path: out.into(), why };
    let header = Header::read(out).map_err(|error| in_the_way(error.to_string()))?;
    if let Some(difference) = header.difference(plan) {
        return Err(in_the_way(format!("it holds other embeddings: {difference}")));
    }
    Ok(Some(Summary {
        total: plan.frames,
        embedded: plan.frames - header.skipped.len(),
        skipped: header.skipped,
        resumed: 0,
        bytes: 0,
        kept: 1.0,
        already_complete: true,
        dim: plan.dim,
        grid: plan.grid(),
        took: std::time::Duration::ZERO,
    }))
}

/// `OUT.tmp`; locking the part file keeps a second process away from it.
fn temporary_path(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

fn skip(frame: &FrameRef, reason: &str) -> Skipped {
    Skipped { file: frame.id.clone(), reason: reason.into() }
}

/// The safetensors header, its length in front. Keys are sorted, so the same run gives the same bytes.
fn header(frames: &[FrameRef], part: &Part, skipped: &[Skipped]) -> Vec<u8> {
    let plan = part.plan();
    let bad: std::collections::HashSet<usize> = part.bad().iter().map(|(index, _)| *index).collect();
    let kept = || frames.iter().enumerate().filter(|(index, _)| !bad.contains(index)).map(|(_, frame)| frame);
    let ids: Vec<&str> = kept().map(|frame| frame.id.as_str()).collect();
    let times: Vec<Option<String>> =
        kept().map(|frame| frame.captured_at.map(|time| time.to_string())).collect();
    let mut metadata = BTreeMap::from([
        ("format", FORMAT.to_string()),
        ("space", plan.space.clone()),
        ("model", plan.model.clone()),
        ("note", plan.note.clone()),
        ("uplink", plan.uplink.clone()),
        ("frames_digest", plan.frames_digest.clone()),
        ("ids", json!(ids).to_string()),
        ("captured_at", json!(times).to_string()),
        ("skipped", json!(skipped).to_string()),
    ]);
    let n = ids.len();
    let embedding_bytes = n * plan.dim * 4;
    let mut tensors = BTreeMap::from([(
        "embedding",
        json!({"dtype": "F32", "shape": [n, plan.dim], "data_offsets": [0, embedding_bytes]}),
    )]);
    if let Some(grid) = plan.grid() {
        metadata.insert("grid", grid_json(grid, plan.cells));
        let end = embedding_bytes + n * plan.token_values() * 2;
        let shape = [n, grid.rows as usize * grid.cols as usize, grid.dim as usize];
        tensors.insert(
            "tokens",
            json!({"dtype": "F16", "shape": shape, "data_offsets": [embedding_bytes, end]}),
        );
    }
    tensors.insert("__metadata__", json!(metadata));
    let mut json = json!(tensors).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' '); // tensors start at a multiple of 8, as safetensors asks
    [&(json.len() as u64).to_le_bytes()[..], &json].concat()
}

/// `cells` is written where it says something: files of tokens without cells stay as they always were.
fn grid_json(grid: GridShape, cells: u32) -> String {
    let GridShape { rows, cols, dim } = grid;
    let mut json = json!({"rows": rows, "cols": cols, "dim": dim});
    if cells != 1 {
        json["cells"] = cells.into();
    }
    json.to_string()
}

fn fill(path: &Path, header: &[u8], part: &Part) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(header)?;
    let embedding_bytes = part.plan().dim * 4;
    part.for_each(&mut |values| out.write_all(&values[..embedding_bytes]))?;
    if part.plan().tokens.is_some() {
        part.for_each(&mut |values| out.write_all(&values[embedding_bytes..]))?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

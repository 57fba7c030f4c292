//! The finished file: a safetensors file that head training reads.
//!
//! `embedding` `[n, dim]` f32 and, if kept, `tokens` `[n, rows·cols, grid.dim]` f16; the metadata says which frames,
//! which model and which uplink transformation they are of.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use half::f16;
use jiff::Timestamp;
use protocol::{GridShape, SpaceId};
use serde::Deserialize;

use super::Skipped;
use super::plan::Plan;

/// What the metadata's `format` says.
pub(super) const FORMAT: &str = "fth embeddings 1";

/// Longest header, with its length: the limit that the safetensors library sets. About two million frames.
pub(super) const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Numbers converted at a time.
const CHUNK: usize = 1 << 16;

/// Embeddings of a list of frames, as `dc-encoder embed` wrote them.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingsFile {
    /// The space the embeddings are in.
    pub space: SpaceId,
    /// Id of the uplink transformation the frames passed through.
    pub uplink: String,
    /// Name of the encoder, for people.
    pub model: String,
    /// One id per frame: its path relative to the list or folder, `[n]`.
    pub ids: Vec<String>,
    /// When each frame was captured, as far as known, `[n]`.
    pub captured_at: Vec<Option<Timestamp>>,
    /// Numbers in one embedding.
    pub dim: usize,
    /// The embeddings, `[n, dim]`.
    pub embedding: Vec<f32>,
    /// Shape of one frame's latent-token grid, if the file has tokens.
    pub grid: Option<GridShape>,
    /// Cells along one side of a latent token: the grid is `dim / cells²` maps of `[rows·cells, cols·cells]`.
    pub cells: u32,
    /// The latent tokens, `[n, rows·cols, grid.dim]`, if the file has them (stored as f16).
    pub tokens: Option<Vec<f32>>,
}

/// Why a file is not one of embeddings.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not there, or not readable.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something else, or cut off.
    #[error("{} is not a file of `dc-encoder embed`: {why}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl EmbeddingsFile {
    /// Reads a whole file into memory.
    ///
    /// # Errors
    /// A file that cannot be read, is cut off, or was not made by `dc-encoder embed`.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let (header, mut reader) = Header::read_from(path)?;
        let io = |source| ReadError::Io { path: path.into(), source };
        let n = header.ids.len();
        let embedding = numbers(&mut reader, n * header.dim, f32::from_le_bytes).map_err(io)?;
        let tokens = match header.grid {
            None => None,
            Some(grid) => {
                let count = n * grid.rows as usize * grid.cols as usize * grid.dim as usize;
                Some(numbers(&mut reader, count, |bytes| f16::from_le_bytes(bytes).to_f32()).map_err(io)?)
            }
        };
        let Header { space, uplink, model, ids, captured_at, dim, grid, cells, .. } = header;
        Ok(Self { space, uplink, model, ids, captured_at, dim, embedding, grid, cells, tokens })
    }

    /// Frames in the file, n.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it has no frames.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// These frames alone, in this order. Panics if there is no such frame.
    pub fn select(&self, frames: &[usize]) -> Self {
        let tokens = self.tokens.as_ref().map(|_| {
            frames.iter().flat_map(|frame| self.token_row(*frame).unwrap_or(&[])).copied().collect()
        });
        Self {
            ids: frames.iter().map(|frame| self.ids[*frame].clone()).collect(),
            captured_at: frames.iter().map(|frame| self.captured_at[*frame]).collect(),
            embedding: frames.iter().flat_map(|frame| self.row(*frame)).copied().collect(),
            tokens,
            space: self.space,
            uplink: self.uplink.clone(),
            model: self.model.clone(),
            dim: self.dim,
            grid: self.grid,
            cells: self.cells,
        }
    }

    /// The embedding of frame `index`, `[dim]`. Panics if there is no such frame.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.embedding[index * self.dim..(index + 1) * self.dim]
    }

    /// The latent tokens of frame `index`, `[rows·cols, grid.dim]`, if the file has tokens. Panics if there is no
    /// such frame.
    pub fn token_row(&self, index: usize) -> Option<&[f32]> {
        let tokens = self.tokens.as_deref()?;
        let values = tokens.len() / self.len();
        Some(&tokens[index * values..(index + 1) * values])
    }
}

/// `count` little-endian numbers, converted a piece at a time: no second copy of the file in memory.
fn numbers<const N: usize>(
    reader: &mut impl Read,
    count: usize,
    convert: impl Fn([u8; N]) -> f32,
) -> std::io::Result<Vec<f32>> {
    let mut values = Vec::with_capacity(count);
    let mut buffer = vec![0; CHUNK * N];
    while values.len() < count {
        let piece = &mut buffer[..(count - values.len()).min(CHUNK) * N];
        reader.read_exact(piece)?;
        values.extend(piece.as_chunks::<N>().0.iter().map(|bytes| convert(*bytes)));
    }
    Ok(values)
}

/// Everything but the numbers.
pub(super) struct Header {
    pub(super) space: SpaceId,
    pub(super) uplink: String,
    pub(super) model: String,
    pub(super) frames_digest: String,
    pub(super) ids: Vec<String>,
    pub(super) captured_at: Vec<Option<Timestamp>>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) dim: usize,
    pub(super) grid: Option<GridShape>,
    pub(super) cells: u32,
}

/// The safetensors header as written.
#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "__metadata__")]
    metadata: HashMap<String, String>,
    embedding: Tensor,
    tokens: Option<Tensor>,
}

#[derive(Deserialize, PartialEq)]
struct Tensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

#[derive(Deserialize)]
struct Grid {
    rows: u32,
    cols: u32,
    dim: u32,
    #[serde(default = "one")]
    cells: u32,
}

fn one() -> u32 {
    1
}

impl Header {
    pub(super) fn read(path: &Path) -> Result<Self, ReadError> {
        Self::read_from(path).map(|(header, _)| header)
    }

    /// The header, and a reader that stands at the first number. The file's length is checked against the header.
    fn read_from(path: &Path) -> Result<(Self, BufReader<File>), ReadError> {
        let io = |source| ReadError::Io { path: path.into(), source };
        let format = |why: String| ReadError::Format { path: path.into(), why };
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut reader = BufReader::with_capacity(1 << 20, file);
        if length < 8 {
            return Err(format(format!("it is only {length} bytes long")));
        }
        let mut size = [0; 8];
        reader.read_exact(&mut size).map_err(io)?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER_BYTES || size > length - 8 {
            return Err(format("it does not begin with a safetensors header".into()));
        }
        let mut json = vec![0; size as usize];
        reader.read_exact(&mut json).map_err(io)?;
        let raw = serde_json::from_slice(&json).map_err(|error| format(format!("its header: {error}")))?;
        let header = Self::parse(raw, length - 8 - size).map_err(format)?;
        Ok((header, reader))
    }

    fn parse(raw: Raw, data_bytes: u64) -> Result<Self, String> {
        let text = |key: &str| raw.metadata.get(key).ok_or_else(|| format!("its metadata has no `{key}`"));
        let wrong =
            |key: &'static str| move |error: serde_json::Error| format!("its metadata `{key}`: {error}");
        if text("format")? != FORMAT {
            return Err(format!("its format is {:?}, this program reads {FORMAT:?}", text("format")?));
        }
        let ids: Vec<String> = serde_json::from_str(text("ids")?).map_err(wrong("ids"))?;
        let captured_at: Vec<_> = serde_json::from_str(text("captured_at")?).map_err(wrong("captured_at"))?;
        let skipped = serde_json::from_str(text("skipped")?).map_err(wrong("skipped"))?;
        let grid: Option<Grid> = raw
            .metadata
            .get("grid")
            .map(|grid| serde_json::from_str(grid))
            .transpose()
            .map_err(wrong("grid"))?;
        let cells = grid.as_ref().map_or(1, |grid| grid.cells);
        if let Some(dim) = grid.as_ref().map(|grid| grid.dim).filter(|dim| !divides(cells, *dim)) {
            return Err(format!("its latent tokens of {dim} numbers cannot be {cells}×{cells} cells"));
        }
        let grid = grid.map(|Grid { rows, cols, dim, .. }| GridShape { rows, cols, dim });
        let [n, dim] = raw.embedding.shape[..] else {
            return Err(format!(
                "`embedding` has the shape {:?} instead of [frames, numbers]",
                raw.embedding.shape
            ));
        };
        if n != ids.len() || n != captured_at.len() || n == 0 || dim == 0 {
            let (ids, times) = (ids.len(), captured_at.len());
            return Err(format!(
                "it has {n} embeddings of {dim} numbers, {ids} ids and {times} capture times"
            ));
        }
        let middle = check_tensor("embedding", &raw.embedding, "F32", &[n, dim], 0)?;
        let end = match (&raw.tokens, grid) {
            (None, None) => middle,
            (Some(tokens), Some(grid)) => {
                let shape = [n, grid.rows as usize * grid.cols as usize, grid.dim as usize];
                check_tensor("tokens", tokens, "F16", &shape, middle)?
            }
            _ => return Err("it has tokens without a grid, or a grid without tokens".into()),
        };
        if end != data_bytes {
            return Err(format!(
                "it is cut off or has something appended: {data_bytes} bytes of numbers, not {end}"
            ));
        }
        Ok(Self {
            space: text("space")?.parse().map_err(|error| format!("its metadata `space`: {error}"))?,
            uplink: text("uplink")?.clone(),
            model: text("model")?.clone(),
            frames_digest: text("frames_digest")?.clone(),
            ids,
            captured_at,
            skipped,
            dim,
            grid,
            cells,
        })
    }

    /// In what `plan` differs from the run that made this file, in words.
    pub(super) fn difference(&self, plan: &Plan) -> Option<String> {
        let then = Plan {
            space: self.space.to_string(),
            model: self.model.clone(),
            uplink: self.uplink.clone(),
            frames: self.ids.len() + self.skipped.len(),
            frames_digest: self.frames_digest.clone(),
            dim: self.dim,
            tokens: self.grid.map(|grid| (grid.rows, grid.cols, grid.dim)),
            cells: self.grid.map_or(plan.cells, |_| self.cells),
            ..plan.clone()
        };
        then.difference(plan)
    }
}

/// Whether `dim` numbers can be whole maps of `cells × cells`.
fn divides(cells: u32, dim: u32) -> bool {
    cells.checked_mul(cells).is_some_and(|area| area > 0 && dim.is_multiple_of(area))
}

/// Checks one tensor's place and returns where its bytes end.
fn check_tensor(
    name: &str,
    tensor: &Tensor,
    dtype: &str,
    shape: &[usize],
    start: u64,
) -> Result<u64, String> {
    let element = if dtype == "F32" { 4 } else { 2 };
    let bytes = shape.iter().try_fold(element, |product: u64, side| product.checked_mul(*side as u64));
    let end = bytes.and_then(|bytes| start.checked_add(bytes)).ok_or(format!("`{name}` is too large"))?;
    let expected = Tensor { dtype: dtype.into(), shape: shape.to_vec(), data_offsets: (start, end) };
    if *tensor != expected {
        let Tensor { dtype: found, shape: found_shape, data_offsets } = tensor;
        return Err(format!(
            "`{name}` is {found} {found_shape:?} at {data_offsets:?} instead of {dtype} {shape:?} at ({start}, {end})"
        ));
    }
    Ok(end)
}

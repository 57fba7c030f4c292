//! The head file: one safetensors file, its manifest in the metadata key `manifest`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

use half::f16;
use safetensors::{Dtype, SafeTensors, View};

use super::error::LoadError;
use super::limits;
use super::manifest::Manifest;

/// Key of the manifest in the safetensors metadata.
const MANIFEST_KEY: &str = "manifest";

/// A tensor to be written: its shape and its numbers, little-endian.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorData {
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Vec<u8>,
}

impl TensorData {
    /// A tensor of f32, row-major.
    pub fn f32(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { shape: shape.to_vec(), dtype: Dtype::F32, bytes }
    }

    /// A tensor of indices, row-major.
    pub fn u32(shape: &[usize], values: &[u32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { shape: shape.to_vec(), dtype: Dtype::U32, bytes }
    }

    /// A tensor stored as f16, row-major; for backgrounds and self-test inputs, which need no more.
    pub fn f16(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        Self { shape: shape.to_vec(), dtype: Dtype::F16, bytes }
    }
}

impl View for &TensorData {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes a head file without looking at what the tensors mean. The same input gives the same bytes.
///
/// [`super::seal`] makes a whole, checked head; this is its last step.
///
/// # Errors
/// [`LoadError::Container`] when a tensor's shape and length disagree, [`LoadError::Manifest`] when the
/// manifest has no JSON form.
pub fn write(manifest: &Manifest, tensors: &BTreeMap<String, TensorData>) -> Result<Vec<u8>, LoadError> {
    let json =
        serde_json::to_string(manifest).map_err(|error| LoadError::Manifest { reason: error.to_string() })?;
    let metadata = HashMap::from([(MANIFEST_KEY.to_owned(), json)]);
    safetensors::serialize(tensors.iter(), Some(metadata)).map_err(container)
}

/// A tensor as read.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) shape: Vec<usize>,
    pub(super) numbers: Numbers,
}

/// A tensor's content: numbers widened to f32, or indices.
#[derive(Debug)]
pub(super) enum Numbers {
    Real(Vec<f32>),
    Index(Vec<u32>),
}

impl Numbers {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Real(values) => values.len(),
            Self::Index(values) => values.len(),
        }
    }
}

/// Tensors that may be stored as f16.
const HALF: [&str; 5] = ["token.mean", "token.std", "background", "support", "self_test.input"];

/// The file's content, before anything is known about what the tensors mean.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) manifest: Manifest,
    pub(super) tensors: BTreeMap<String, Raw>,
}

/// Reads a file of at most [`limits::MAX_FILE_BYTES`]; a longer one is refused by its announced size, and a
/// file that grows while it is read is cut off there.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let announced = file.metadata().map_err(failed)?.len();
    check_size("the file", announced, limits::MAX_FILE_BYTES)?;
    let mut bytes = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
    file.take(limits::MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Checks the limits, the container and the manifest, and widens the tensors.
pub(super) fn parse(bytes: &[u8]) -> Result<Content, LoadError> {
    check_size("the file", bytes.len() as u64, limits::MAX_FILE_BYTES)?;
    let header: [u8; 8] = bytes
        .get(..8)
        .and_then(|prefix| prefix.try_into().ok())
        .ok_or_else(|| LoadError::Container { reason: format!("only {} bytes", bytes.len()) })?;
    check_size("the header", u64::from_le_bytes(header), limits::MAX_HEADER_BYTES)?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(container)?;
    let json =
        metadata.metadata().as_ref().and_then(|map| map.get(MANIFEST_KEY)).ok_or(LoadError::NoManifest)?;
    check_size("the manifest", json.len() as u64, limits::MAX_MANIFEST_BYTES as u64)?;
    let manifest = Manifest::from_json(json)?;

    let file = SafeTensors::deserialize(bytes).map_err(container)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let data = view.data();
        let numbers = match view.dtype() {
            Dtype::F32 => Numbers::Real(data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Dtype::F16 => {
                Numbers::Real(data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect())
            }
            Dtype::U32 => Numbers::Index(data.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect()),
            other => {
                return Err(LoadError::Tensor {
                    head: manifest.name,
                    tensor: name.to_owned(),
                    got: format!("of type {other:?}"),
                    want: "F32 (F16 for backgrounds and the self-test input, U32 for indices)".to_owned(),
                });
            }
        };
        if view.dtype() == Dtype::F16 && !HALF.contains(&name) {
            return Err(LoadError::Tensor {
                head: manifest.name,
                tensor: name.to_owned(),
                got: "of type F16".to_owned(),
                want: "F32".to_owned(),
            });
        }
        tensors.insert(name.to_owned(), Raw { shape: view.shape().to_vec(), numbers });
    }
    Ok(Content { manifest, tensors })
}

fn check_size(what: &'static str, got: u64, max: u64) -> Result<(), LoadError> {
    if got > max { Err(LoadError::TooLarge { what, got, max }) } else { Ok(()) }
}

fn container(error: safetensors::SafeTensorError) -> LoadError {
    LoadError::Container { reason: error.to_string() }
}

//! Model folders: `config.json` and `model.safetensors`, read with limits and written atomically.
//!
//! The header is read and checked against the configuration before any tensor is allocated; every tensor is then read
//! once, widened to f32 and checked to be finite. Files are read, not mapped: a file that changes under a mapping is
//! undefined behaviour.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::config::{Config, MAX_CONFIG_BYTES, read_text};
use super::error::ModelError;
use super::tensors::{Spec, specs};

/// Named tensors of a model: f32, on the CPU.
pub type Weights = HashMap<String, Tensor>;

/// The file that describes a model.
pub const CONFIG_FILE: &str = "config.json";
/// The file that holds its weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";

/// Largest safetensors header read, in bytes: 250 bytes a tensor for 16,000 tensors.
const MAX_HEADER_BYTES: u64 = 4 << 20;

/// How weights are stored in a file. Everything is computed in f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Precision {
    /// 4 bytes a number.
    #[default]
    F32,
    /// 2 bytes a number.
    F16,
    /// 2 bytes a number, with the range of f32 and fewer digits.
    Bf16,
}

/// Reads the configuration of a model folder.
///
/// # Errors
/// No such file, too large, or not a configuration that can work.
pub fn load_config(dir: &Path) -> Result<Config, ModelError> {
    let path = dir.join(CONFIG_FILE);
    let text = read_text(&path, MAX_CONFIG_BYTES)
        .map_err(|source| ModelError::Read { path: path.clone(), source })?;
    Config::from_json(&text).map_err(|source| ModelError::Config { path, source })
}

/// Reads a model folder: its configuration and exactly the tensors it asks for.
///
/// # Errors
/// See [`ModelError`]; every problem with a tensor names it and the file.
pub fn load(dir: &Path) -> Result<(Config, Weights), ModelError> {
    let config = load_config(dir)?;
    let specs = specs(&config);
    let mut file = TensorFile::open(&dir.join(WEIGHTS_FILE))?;
    file.check(&specs)?;
    let weights = specs.iter().map(|spec| Ok((spec.name.clone(), file.read(&spec.name)?)));
    Ok((config, weights.collect::<Result<_, ModelError>>()?))
}

/// An open safetensors file whose header has been checked against its length.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    reader: BufReader<File>,
    tensors: HashMap<String, TensorInfo>,
    /// Where the tensors' bytes begin.
    start: u64,
}

impl TensorFile {
    /// Opens a file and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let read = |source| ModelError::Read { path: path.to_owned(), source };
        let broken = |problem: String| ModelError::Weights { path: path.to_owned(), problem };
        let file = File::open(path).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        let mut reader = BufReader::with_capacity(1 << 20, file);

        let mut size = [0; 8];
        reader.read_exact(&mut size).map_err(|_| broken("too short to be a safetensors file".to_owned()))?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER_BYTES.min(length.saturating_sub(8)) {
            return Err(broken(format!(
                "not a safetensors file, or cut short: it claims a header of {size} bytes in a file of {length} \
                 (limit {MAX_HEADER_BYTES})"
            )));
        }
        let mut header = vec![0; size as usize];
        reader.read_exact(&mut header).map_err(read)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| broken(format!("its header is not that of a safetensors file ({error})")))?;

        let start = 8 + size;
        let want = start.checked_add(metadata.data_len() as u64);
        if want != Some(length) {
            let problem = format!(
                "it has {length} bytes where its header announces {}: the copy was cut short, or something was appended",
                want.map_or_else(|| "too many".to_owned(), |want| want.to_string())
            );
            return Err(broken(problem));
        }
        let tensors = metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        let file = Self { path: path.to_owned(), reader, tensors, start };
        file.check_offsets(metadata.data_len())?;
        Ok(file)
    }

    /// The names in the file.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|info| info.shape.as_slice())
    }

    /// Every tensor's bytes lie in the file and are as many as its shape needs.
    fn check_offsets(&self, data_len: usize) -> Result<(), ModelError> {
        for (name, info) in &self.tensors {
            let (start, end) = info.data_offsets;
            let numbers = info.shape.iter().try_fold(1usize, |total, axis| total.checked_mul(*axis));
            let bits = numbers.and_then(|numbers| numbers.checked_mul(info.dtype.bitsize()));
            let fits = start <= end && end <= data_len && bits == (end - start).checked_mul(8);
            if !fits {
                let problem = format!(
                    "tensor `{name}` {:?} of {:?} cannot lie at bytes {start}..{end} of {data_len}",
                    info.shape, info.dtype
                );
                return Err(ModelError::Weights { path: self.path.clone(), problem });
            }
        }
        Ok(())
    }

    /// The file holds exactly these tensors, in shapes and formats that can be read.
    fn check(&self, specs: &[Spec]) -> Result<(), ModelError> {
        let path = || self.path.clone();
        for spec in specs {
            let tensor = spec.name.clone();
            let Some(info) = self.tensors.get(&tensor) else {
                let remedy = if spec.is_decoder() {
                    "remove `decoder` from config.json to use the encoder alone"
                } else {
                    "the file is of another model, or config.json was edited"
                };
                return Err(ModelError::Missing { path: path(), tensor, want: spec.shape.clone(), remedy });
            };
            if info.shape != spec.shape {
                let (got, want) = (info.shape.clone(), spec.shape.clone());
                return Err(ModelError::Shape { path: path(), tensor, got, want });
            }
        }
        let mut unexpected: Vec<_> =
            self.names().filter(|name| !specs.iter().any(|spec| spec.name == *name)).collect();
        unexpected.sort_unstable();
        let Some(tensor) = unexpected.first() else { return Ok(()) };
        let remedy = if tensor.starts_with(super::tensors::DECODER) {
            "describe the decoder under `decoder` in config.json, or remove its tensors"
        } else {
            "the file is of another model, or config.json was edited"
        };
        let got = self.shape(tensor).unwrap_or_default().to_vec();
        Err(ModelError::Unexpected { path: path(), tensor: (*tensor).to_owned(), got, remedy })
    }

    /// Reads one tensor, widened to f32.
    pub(crate) fn read(&mut self, name: &str) -> Result<Tensor, ModelError> {
        let path = self.path.clone();
        let tensor = name.to_owned();
        let info = self.tensors.get(name).ok_or_else(|| ModelError::Missing {
            path: path.clone(),
            tensor: tensor.clone(),
            want: Vec::new(),
            remedy: "the file is of another model",
        })?;
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(ModelError::Dtype { path, tensor, got: format!("{:?}", info.dtype) });
        }
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        self.reader
            .seek(SeekFrom::Start(self.start + start as u64))
            .and_then(|_| self.reader.read_exact(&mut bytes))
            .map_err(|source| ModelError::Read { path: path.clone(), source })?;
        let values = widen(&bytes, info.dtype);
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(ModelError::NotFinite { path, tensor, index });
        }
        Tensor::from_vec(values, info.shape.as_slice(), &Device::Cpu)
            .map_err(ModelError::compute("placing a tensor in memory"))
    }
}

fn widen(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    let pairs = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    match dtype {
        Dtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    }
}

/// Writes a model folder. Each file appears whole or not at all, and `config.json` last: a folder without it is not a
/// model yet.
///
/// # Errors
/// The folder holds a model already and `overwrite` is false; a full disk; weights that do not fit the configuration.
pub fn save(
    dir: &Path,
    config: &Config,
    weights: &Weights,
    precision: Precision,
    overwrite: bool,
) -> Result<(), ModelError> {
    let write = |path: &Path| {
        let path = path.to_owned();
        move |source| ModelError::Write { path, source }
    };
    for name in [CONFIG_FILE, WEIGHTS_FILE] {
        let path = dir.join(name);
        if !overwrite && path.exists() {
            return Err(ModelError::Exists { path });
        }
    }
    std::fs::create_dir_all(dir).map_err(write(dir))?;

    let path = dir.join(WEIGHTS_FILE);
    let file = tempfile::NamedTempFile::new_in(dir).map_err(write(dir))?;
    let stored = specs(config)
        .into_iter()
        .map(|spec| Ok((spec.name.clone(), Stored::new(&spec, weights, precision, &path)?)))
        .collect::<Result<Vec<_>, ModelError>>()?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(stored, Some(metadata), file.path())
        .map_err(|error| std::io::Error::other(error.to_string()))
        .map_err(write(&path))?;
    finish(file, &path)?;

    let path = dir.join(CONFIG_FILE);
    let file = tempfile::NamedTempFile::new_in(dir).map_err(write(dir))?;
    std::fs::write(file.path(), config.to_json()).map_err(write(&path))?;
    finish(file, &path)
}

/// Makes a written temporary file durable, readable by others, and gives it its name.
fn finish(file: tempfile::NamedTempFile, path: &Path) -> Result<(), ModelError> {
    let failed = |source| ModelError::Write { path: path.to_owned(), source };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let readable = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(file.path(), readable).map_err(failed)?;
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// One tensor as it is written; narrowed only when its turn comes.
struct Stored {
    tensor: Tensor,
    shape: Vec<usize>,
    precision: Precision,
}

impl Stored {
    fn new(spec: &Spec, weights: &Weights, precision: Precision, path: &Path) -> Result<Self, ModelError> {
        let Some(tensor) = weights.get(&spec.name) else {
            return Err(ModelError::Missing {
                path: path.to_owned(),
                tensor: spec.name.clone(),
                want: spec.shape.clone(),
                remedy: "this is a mistake in the program",
            });
        };
        if tensor.dims() != spec.shape {
            return Err(ModelError::Shape {
                path: path.to_owned(),
                tensor: spec.name.clone(),
                got: tensor.dims().to_vec(),
                want: spec.shape.clone(),
            });
        }
        let tensor = tensor
            .to_device(&Device::Cpu)
            .and_then(|t| t.to_dtype(candle_core::DType::F32)?.flatten_all())
            .map_err(ModelError::compute("collecting the weights"))?;
        Ok(Self { tensor, shape: spec.shape.clone(), precision })
    }
}

impl safetensors::View for Stored {
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::F16 => Dtype::F16,
            Precision::Bf16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        let values =
            self.tensor.to_vec1::<f32>().expect("the constructor made this a vector of f32 on the CPU");
        let bytes = match self.precision {
            Precision::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Precision::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect::<Vec<_>>(),
            Precision::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        };
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.tensor.elem_count() * self.dtype().bitsize() / 8
    }
}

//! What a run is worth if it stops now: one file, there whole or not at all.
//!
//! A checkpoint is a safetensors file: `weights.*`, `first.*` and `second.*` of every variable, and in the metadata the
//! recipe and the state. It is written beside the old one, synced, and renamed over it: a kill at any moment leaves the
//! one or the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::adamw::Slot;
use super::error::PretrainError;
use super::recipe::Recipe;

/// The file's name in the run's folder.
const NAME: &str = "checkpoint.safetensors";
/// Where a new one is written.
const TEMPORARY: &str = "checkpoint.safetensors.tmp";
/// Version of the metadata.
const FORMAT: &str = "fth.pretrain.checkpoint.v1";
/// Longest header that is read, in bytes.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Everything besides the tensors that the next step depends on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Steps done.
    pub(super) step: u64,
    /// Seconds of training so far, over all runs.
    pub(super) seconds: f64,
    /// Lowest held-out loss so far.
    pub(super) best: Option<f64>,
    /// Validations since then.
    pub(super) since_best: u64,
    /// Effective rank of the embedding at the first validation.
    pub(super) first_rank: Option<f64>,
    /// Ended before the last step, because the held-out loss fell no more.
    pub(super) stopped_early: bool,
}

/// A run's folder.
#[derive(Debug, Clone)]
pub(super) struct Place {
    folder: PathBuf,
}

impl Place {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join(TEMPORARY)
    }

    /// Writes a checkpoint in place of the last.
    pub(super) fn save(&self, recipe: &Recipe, state: &State, slots: &[Slot]) -> io::Result<()> {
        self.write(recipe, state, slots)?;
        if let Err(error) = std::fs::rename(self.temporary(), self.file()) {
            let _ = std::fs::remove_file(self.temporary());
            return Err(error);
        }
        // The rename lasts once the folder is synced. Not every file system can; the file is whole either way.
        let _ = File::open(&self.folder).and_then(|folder| folder.sync_all());
        Ok(())
    }

    /// Writes what [`Place::save`] would, and removes it: what the last checkpoint says stays.
    pub(super) fn rehearse(&self, recipe: &Recipe, state: &State, slots: &[Slot]) -> io::Result<()> {
        self.write(recipe, state, slots)?;
        std::fs::remove_file(self.temporary())
    }

    /// Writes a checkpoint beside the last.
    fn write(&self, recipe: &Recipe, state: &State, slots: &[Slot]) -> io::Result<()> {
        let written = File::create(self.temporary()).and_then(|file| {
            let mut out = BufWriter::with_capacity(1 << 20, file);
            write(&mut out, recipe, state, slots)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
        });
        if written.is_err() {
            // A part of a file helps nobody, and its room is needed.
            let _ = std::fs::remove_file(self.temporary());
        }
        written
    }

    /// The recipe and state of the checkpoint, if there is one.
    pub(super) fn read(&self) -> Result<Option<(Recipe, State)>, PretrainError> {
        if !self.file().exists() {
            return Ok(None);
        }
        let damaged = |why: String| PretrainError::Checkpoint { path: self.file(), why };
        let header = header(&self.file()).map_err(|error| damaged(error.to_string()))?;
        let header: serde_json::Value =
            serde_json::from_slice(&header).map_err(|e| damaged(e.to_string()))?;
        let text = |key: &str| {
            header["__metadata__"][key]
                .as_str()
                .ok_or_else(|| damaged(format!("its metadata has no `{key}`")))
        };
        if text("format")? != FORMAT {
            return Err(damaged(format!("its format is {:?}, not {FORMAT:?}", text("format")?)));
        }
        let recipe = serde_json::from_str(text("recipe")?).map_err(|error| damaged(error.to_string()))?;
        let state = serde_json::from_str(text("state")?).map_err(|error| damaged(error.to_string()))?;
        Ok(Some((recipe, state)))
    }

    /// Puts the checkpoint's numbers into the variables.
    pub(super) fn load(&self, slots: &[Slot], device: &Device) -> Result<(), PretrainError> {
        let damaged = |why: String| PretrainError::Checkpoint { path: self.file(), why };
        let tensors = candle_core::safetensors::load(self.file(), device)
            .map_err(|error| damaged(error.to_string()))?;
        for slot in slots {
            for (kind, var) in parts(slot) {
                let name = format!("{kind}.{}", slot.name);
                let tensor =
                    tensors.get(&name).ok_or_else(|| damaged(format!("tensor `{name}` is missing")))?;
                var.set(tensor).map_err(|error| damaged(format!("tensor `{name}`: {error}")))?;
            }
        }
        Ok(())
    }
}

fn parts(slot: &Slot) -> [(&'static str, &candle_core::Var); 3] {
    [("weights", &slot.var), ("first", &slot.first), ("second", &slot.second)]
}

fn header(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(io::Error::other(format!(
            "its header claims {length} bytes, at most {MAX_HEADER_BYTES} are read"
        )));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header)?;
    Ok(header)
}

/// Writes a checkpoint; bytes depend on the arguments alone.
fn write(out: &mut dyn Write, recipe: &Recipe, state: &State, slots: &[Slot]) -> io::Result<()> {
    let mut entries = BTreeMap::new();
    let mut end = 0;
    for slot in slots {
        for (kind, var) in parts(slot) {
            let (start, length) = (end, var.elem_count() * 4);
            end += length;
            let entry = json!({"dtype": "F32", "shape": var.dims(), "data_offsets": [start, end]});
            entries.insert(format!("{kind}.{}", slot.name), entry);
        }
    }
    let metadata = json!({
        "format": FORMAT,
        "recipe": serde_json::to_string(recipe)?,
        "state": serde_json::to_string(state)?,
    });
    entries.insert("__metadata__".to_owned(), metadata);
    let mut header = json!(entries).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' '); // tensors start at a multiple of 8, as safetensors asks
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
    for slot in slots {
        for (_, var) in parts(slot) {
            let values = values(var.as_tensor()).map_err(io::Error::other)?;
            for chunk in values.chunks(1 << 14) {
                let bytes: Vec<u8> = chunk.iter().flat_map(|value| value.to_le_bytes()).collect();
                out.write_all(&bytes)?;
            }
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    fn slots(start: f32) -> Vec<Slot> {
        let var = |shift: f32| Var::from_vec(vec![start + shift, 2.5], 2, &Device::Cpu).unwrap();
        vec![Slot { name: "a".into(), var: var(0.0), first: var(1.0), second: var(2.0), decays: true }]
    }

    #[test]
    fn what_is_saved_is_loaded_and_the_last_save_counts() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path());
        assert!(place.read().unwrap().is_none());
        let recipe = Recipe::for_tests();
        for step in [1, 2] {
            place
                .save(
                    &recipe,
                    &State { step, best: Some(0.1 + 0.2), ..State::default() },
                    &slots(step as f32),
                )
                .unwrap();
        }
        let (read, state) = place.read().unwrap().unwrap();
        assert_eq!((read, state.step, state.best), (recipe, 2, Some(0.1 + 0.2)));
        place.rehearse(&Recipe::for_tests(), &State::default(), &slots(9.0)).unwrap();
        let fresh = slots(0.0);
        place.load(&fresh, &Device::Cpu).unwrap();
        assert_eq!(fresh[0].second.to_vec1::<f32>().unwrap(), [4.0, 2.5]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_damaged_file_is_named_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path());
        place.save(&Recipe::for_tests(), &State::default(), &slots(0.0)).unwrap();
        let whole = std::fs::read(place.file()).unwrap();
        std::fs::write(place.file(), &whole[..whole.len() - 3]).unwrap();
        let error = place.load(&slots(0.0), &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(NAME) && error.contains("start anew"), "{error}");
        std::fs::write(place.file(), b"?").unwrap();
        assert!(place.read().is_err());
    }

    /// Fails after some bytes, as a full disk does.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 < bytes.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0 -= bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_an_error_wherever_it_fills() {
        let all = |room| write(&mut Full(room), &Recipe::for_tests(), &State::default(), &slots(0.0));
        assert!(all(1 << 20).is_ok());
        for room in [0, 7, 8, 500] {
            assert_eq!(all(room).unwrap_err().kind(), io::ErrorKind::StorageFull, "{room}");
        }
    }
}

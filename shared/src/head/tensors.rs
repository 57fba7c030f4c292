//! The tensors of a head file, claimed one by one; each is checked as it is taken.

use std::collections::BTreeMap;

use super::error::LoadError;
use super::file::{Numbers, Raw};

/// The tensors of a file that have not been claimed yet.
pub(super) struct TensorSet<'a> {
    head: &'a str,
    tensors: BTreeMap<String, Raw>,
}

impl<'a> TensorSet<'a> {
    pub(super) fn new(head: &'a str, tensors: BTreeMap<String, Raw>) -> Self {
        Self { head, tensors }
    }

    /// Takes a tensor of exactly this shape.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Numbers, LoadError> {
        let raw = self
            .tensors
            .remove(name)
            .ok_or_else(|| self.wrong(name, "missing".to_owned(), format!("shape {shape:?}")))?;
        if raw.shape != shape {
            return Err(self.wrong(name, format!("of shape {:?}", raw.shape), format!("shape {shape:?}")));
        }
        Ok(raw.numbers)
    }

    /// Takes a tensor of exactly this shape with finite numbers.
    pub(super) fn values(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let Numbers::Real(values) = self.take(name, shape)? else {
            return Err(self.wrong(name, "of type U32".into(), "F32".into()));
        };
        match values.iter().position(|v| !v.is_finite()) {
            Some(at) => {
                Err(self.wrong(name, format!("{} at position {at}", values[at]), "finite numbers".into()))
            }
            None => Ok(values),
        }
    }

    /// Takes a tensor of exactly this shape with indices; what they lead to is the caller's to check.
    pub(super) fn indices(&mut self, name: &str, shape: &[usize]) -> Result<Vec<u32>, LoadError> {
        match self.take(name, shape)? {
            Numbers::Index(values) => Ok(values),
            Numbers::Real(_) => Err(self.wrong(name, "of type F32".into(), "U32".into())),
        }
    }

    /// Takes a tensor of positive numbers and gives one over each.
    pub(super) fn inverse(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let values = self.values(name, shape)?;
        if let Some(at) = values.iter().position(|s| *s <= 0.0) {
            return Err(self.wrong(
                name,
                format!("{} at position {at}", values[at]),
                "positive numbers".into(),
            ));
        }
        let inverse: Vec<f32> = values.iter().map(|s| 1.0 / s).collect();
        match inverse.iter().position(|s| !s.is_finite()) {
            Some(at) => {
                Err(self.wrong(name, format!("{} at position {at}", values[at]), "normal numbers".into()))
            }
            None => Ok(inverse),
        }
    }

    /// The first dimension of `name`, at most `max`, whose others must be `rest`.
    pub(super) fn rows(&self, name: &str, max: u32, rest: &[usize]) -> Result<usize, LoadError> {
        let tail: String = rest.iter().map(|side| format!(", {side}")).collect();
        let want = format!("shape [1..={max}{tail}]");
        let Some(raw) = self.tensors.get(name) else {
            return Err(self.wrong(name, "missing".to_owned(), want));
        };
        match raw.shape.split_first() {
            Some((rows, others)) if others == rest && (1..=max as usize).contains(rows) => Ok(*rows),
            _ => Err(self.wrong(name, format!("of shape {:?}", raw.shape), want)),
        }
    }

    /// Numbers in the tensors that nobody claimed yet.
    pub(super) fn len(&self) -> usize {
        self.tensors.values().map(|raw| raw.numbers.len()).sum()
    }

    /// Refuses whatever nobody claimed.
    pub(super) fn finish(self) -> Result<(), LoadError> {
        match self.tensors.first_key_value() {
            Some((name, raw)) => Err(self.wrong(
                name,
                format!("unexpected (shape {:?})", raw.shape),
                "no such tensor in a head of this kind".into(),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn wrong(&self, tensor: &str, got: String, want: String) -> LoadError {
        let tensor = tensor.chars().take(80).collect();
        LoadError::Tensor { head: self.head.to_owned(), tensor, got, want }
    }
}

//! A loaded head: from an embedding to a value, its interval, and the self-test.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::error::{HeadError, LoadError, SpaceMismatch};
use super::file::{self, TensorData};
use super::manifest::{IntervalOffsets, Manifest, OutputKind};
use super::network::Network;
use super::tensors::TensorSet;

/// Hex digits of a release or space in messages; enough to tell two apart, short enough to read aloud.
const SHORT: usize = 12;

/// A circular output shorter than this has no direction worth naming.
const MIN_DIRECTION: f64 = 1e-9;

/// What the encoder gave for one frame.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The embedding, `[D]`.
    pub embedding: &'a [f32],
    /// The latent tokens, `[T, L]` row-major, when the encoder was asked for them.
    pub tokens: Option<&'a [f32]>,
}

/// A head's answer for one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The value, in the manifest's unit; in `[0, period)` for circular outputs, the probability of `class` for classes.
    pub value: f64,
    /// Place of the answer among the manifest's classes.
    pub class: Option<usize>,
    /// Where the true value lies with the manifest's stated probability. For a circular output the range runs
    /// from the first to the second number upwards, through the wrap when the first is larger.
    pub interval: Option<[f64; 2]>,
}

/// A head that was read and checked, ready to run.
#[derive(Debug)]
pub struct Head {
    manifest: Manifest,
    network: Network,
    release: String,
    parameters: usize,
    self_test: SelfTest,
}

#[derive(Debug)]
struct SelfTest {
    input: Vec<f32>,
    output: Vec<f32>,
}

impl Head {
    /// Reads and checks a head file.
    ///
    /// # Errors
    /// [`LoadError`], naming the file and what is wrong in it.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let inside = |error| match error {
            error @ LoadError::Read { .. } => error,
            source => LoadError::InFile { path: path.to_owned(), source: Box::new(source) },
        };
        file::read(path).and_then(|bytes| Self::from_bytes(&bytes)).map_err(inside)
    }

    /// Reads and checks a head from the bytes of its file. The self-test is a separate step
    /// ([`self_test`](Self::self_test)): a head that fails it can still be inspected.
    ///
    /// # Errors
    /// [`LoadError`], naming the head, the tensor or field, what it is and what it should be.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        let file::Content { manifest, tensors } = file::parse(bytes)?;
        let mut tensors = TensorSet::new(&manifest.name, tensors);
        let out = manifest.output.kind.width();
        let self_test = SelfTest {
            input: tensors.values("self_test.input", &input_shape(&manifest))?,
            output: tensors.values("self_test.output", &[out])?,
        };
        let parameters = tensors.len();
        let network = Network::take(&manifest, &mut tensors)?;
        tensors.finish()?;
        let release = hex(&Sha256::digest(bytes));
        Ok(Self { network, release, parameters, self_test, manifest })
    }

    /// What the head says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Identity of the head: SHA-256 of the whole file, 64 hex digits.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// First 12 hex digits of the release, for messages.
    pub fn short_release(&self) -> &str {
        &self.release[..SHORT]
    }

    /// Numbers in the network's tensors, normalisation and background included, self-test excluded.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// Operations that one answer takes, at most; a comparison counts as one, an exponential as ten.
    pub fn flops(&self) -> u64 {
        self.network.flops()
    }

    /// Whether the encoder must be asked for the latent tokens.
    pub fn needs_tokens(&self) -> bool {
        self.manifest.input.grid.is_some()
    }

    /// Checks that the head was trained on this embedding space.
    ///
    /// # Errors
    /// [`SpaceMismatch`], saying what to do.
    pub fn check_space(&self, space: &protocol::SpaceId) -> Result<(), SpaceMismatch> {
        let got = space.to_string();
        if self.manifest.input.space == got {
            return Ok(());
        }
        let short = |text: &str| text.chars().take(SHORT).collect();
        Err(SpaceMismatch {
            head: self.manifest.name.clone(),
            release: self.short_release().to_owned(),
            want: short(&self.manifest.input.space),
            got: short(&got),
        })
    }

    /// The answer for one frame.
    ///
    /// # Errors
    /// [`HeadError`] when the input has the wrong length or is not finite, or the network's output is no
    /// answer (NaN, infinite, or without direction): such a frame has no value rather than a wrong one.
    pub fn run(&self, input: &Input<'_>) -> Result<Prediction, HeadError> {
        let head = || self.manifest.name.clone();
        let (name, numbers) = if self.needs_tokens() {
            ("token grid", input.tokens.ok_or_else(|| HeadError::NoTokens { head: head() })?)
        } else {
            ("embedding", input.embedding)
        };
        let want = input_shape(&self.manifest).iter().product();
        if numbers.len() != want {
            let got = numbers.len();
            return Err(HeadError::InputLength { head: head(), input: name, got, want });
        }
        // A ReLU would turn NaN into 0, so the input is checked and not only the output.
        if let Some(index) = numbers.iter().position(|x| !x.is_finite()) {
            return Err(HeadError::InputNotFinite { head: head(), input: name, index, got: numbers[index] });
        }
        let outputs = self.network.forward(numbers);
        let offsets = self.manifest.interval.map(|offsets| {
            let deviation = self.network.deviation(numbers);
            IntervalOffsets { lower: offsets.lower * deviation, upper: offsets.upper * deviation, ..offsets }
        });
        decode(&self.manifest, &outputs, offsets)
            .ok_or_else(|| HeadError::NoAnswer { head: head(), got: format!("{outputs:?}") })
    }

    /// Runs the file's self-test vector on this machine.
    ///
    /// # Errors
    /// [`HeadError::SelfTest`] with the number that came out, the one in the file, and the tolerance.
    pub fn self_test(&self) -> Result<(), HeadError> {
        let outputs = self.network.forward(&self.self_test.input);
        let tolerance = self.manifest.self_test.tolerance;
        for (index, (got, want)) in outputs.iter().zip(&self.self_test.output).enumerate() {
            let allowed = tolerance * f64::from(want.abs()).max(1.0);
            // Written so that NaN fails.
            let close = (f64::from(*got) - f64::from(*want)).abs() <= allowed;
            if !close {
                return Err(HeadError::SelfTest {
                    head: self.manifest.name.clone(),
                    release: self.short_release().to_owned(),
                    index,
                    got: *got,
                    want: *want,
                    tolerance,
                });
            }
        }
        Ok(())
    }
}

/// Makes a whole head file: runs the network on `self_test_input` (an embedding, or a token grid), adds both
/// self-test tensors, writes, and reads the result back, so that no file is made that would not load.
///
/// # Errors
/// [`LoadError`], as reading would give.
pub fn seal(
    manifest: &Manifest,
    mut tensors: BTreeMap<String, TensorData>,
    self_test_input: &[f32],
) -> Result<Vec<u8>, LoadError> {
    manifest.validate()?;
    let out = manifest.output.kind.width();
    let input = match manifest.input.grid {
        Some(_) => TensorData::f16(&input_shape(manifest), self_test_input),
        None => TensorData::f32(&input_shape(manifest), self_test_input),
    };
    tensors.insert("self_test.input".to_owned(), input);
    tensors.insert("self_test.output".to_owned(), TensorData::f32(&[out], &vec![0.0; out]));
    let draft = Head::from_bytes(&file::write(manifest, &tensors)?)?;
    let outputs = draft.network.forward(&draft.self_test.input);
    tensors.insert("self_test.output".to_owned(), TensorData::f32(&[out], &outputs));
    let bytes = file::write(manifest, &tensors)?;
    Head::from_bytes(&bytes)?;
    Ok(bytes)
}

/// Shape of the network's input as stored: `[D]`, or `[T, L]` for a head that reads the grid.
fn input_shape(manifest: &Manifest) -> Vec<usize> {
    match manifest.input.grid {
        Some(grid) => vec![grid.tokens(), grid.dim as usize],
        None => vec![manifest.input.dim as usize],
    }
}

/// The value and interval of the network's numbers; none when they are no answer.
fn decode(manifest: &Manifest, outputs: &[f32], offsets: Option<IntervalOffsets>) -> Option<Prediction> {
    if !outputs.iter().all(|x| x.is_finite()) {
        return None;
    }
    match (&manifest.output.kind, outputs) {
        (OutputKind::Scalar, [raw]) => {
            let clamp = |x: f64| manifest.output.min.map_or(x, |min| x.max(min));
            let value = clamp(f64::from(*raw));
            let interval = offsets.map(|o| [clamp(value + o.lower), clamp(value + o.upper)]);
            Some(Prediction { value, class: None, interval })
        }
        (OutputKind::Circular { period }, [cos, sin]) => {
            let (cos, sin, period) = (f64::from(*cos), f64::from(*sin), *period);
            if cos.hypot(sin) < MIN_DIRECTION {
                return None;
            }
            let value = wrap(sin.atan2(cos) / std::f64::consts::TAU * period, period);
            let interval = offsets.map(|o| match o.upper - o.lower < period {
                true => [wrap(value + o.lower, period), wrap(value + o.upper, period)],
                false => [0.0, period],
            });
            Some(Prediction { value, class: None, interval })
        }
        (OutputKind::Classes { .. }, scores) => Some(most_likely(scores)),
        _ => None,
    }
}

/// The class of the largest score, the first among equals. Its probability is its share of the positive scores, which
/// sum to about 1: they were fitted to 1 for the class that was seen and 0 for the others. With none above 0, one class
/// is as likely as another.
fn most_likely(scores: &[f32]) -> Prediction {
    let ahead = |best: usize, at: usize| if scores[at] > scores[best] { at } else { best };
    let class = (1..scores.len()).fold(0, ahead);
    let positive: f64 = scores.iter().map(|score| f64::from(score.max(0.0))).sum();
    let value = match positive > 0.0 {
        true => f64::from(scores[class]) / positive,
        false => 1.0 / scores.len().max(1) as f64,
    };
    Prediction { value, class: Some(class), interval: None }
}

/// `x` modulo `period`, in `[0, period)`: `rem_euclid` alone rounds −1e−20 up to the period itself.
fn wrap(x: f64, period: f64) -> f64 {
    let wrapped = x.rem_euclid(period);
    if wrapped < period { wrapped } else { 0.0 }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

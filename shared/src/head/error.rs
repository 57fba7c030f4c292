//! What can go wrong with a head, one enum per operation.

use std::path::PathBuf;

/// Why a head file was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file could not be read.
    #[error("head file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file was read, and what is in it is wrong.
    #[error("head file {}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<LoadError>,
    },
    /// More bytes than a head may have.
    #[error("{what} is {got} bytes, at most {max} are accepted: this is not a head file")]
    TooLarge {
        /// Which part: the file, its header, the manifest.
        what: &'static str,
        /// Bytes found or announced.
        got: u64,
        /// The limit.
        max: u64,
    },
    /// Not safetensors, or cut short.
    #[error("not a whole safetensors file ({reason}): copy or train it again")]
    Container {
        /// The parser's reason.
        reason: String,
    },
    /// A safetensors file without a manifest.
    #[error(
        "the file has no `manifest` in its metadata: it is a safetensors file, but not a head (train one with `dc-encoder head train`)"
    )]
    NoManifest,
    /// The manifest's JSON does not parse.
    #[error("manifest: {reason}")]
    Manifest {
        /// The parser's reason, with line and column.
        reason: String,
    },
    /// A manifest of another format.
    #[error(
        "manifest format {got} is not known here (this program reads format {want}): update this program, or train the head with a matching one"
    )]
    Format {
        /// Format in the file.
        got: u32,
        /// Format of this build.
        want: u32,
    },
    /// A field of the manifest is out of range.
    #[error("head {head}: manifest field `{field}` is {got}, want {want}")]
    Field {
        /// Name of the head.
        head: String,
        /// The field.
        field: &'static str,
        /// Its value.
        got: String,
        /// What is accepted.
        want: String,
    },
    /// A tensor is missing, unexpected, or has the wrong shape, type or values.
    #[error("head {head}: tensor `{tensor}` is {got}, want {want}")]
    Tensor {
        /// Name of the head.
        head: String,
        /// The tensor.
        tensor: String,
        /// What was found.
        got: String,
        /// What is accepted.
        want: String,
    },
}

/// Why a head gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The input has another length than the head was trained on.
    #[error("head {head}: the {input} has {got} numbers, want {want}")]
    InputLength {
        /// Name of the head.
        head: String,
        /// Embedding or token grid.
        input: &'static str,
        /// Numbers given.
        got: usize,
        /// Numbers needed.
        want: usize,
    },
    /// A token head was run without tokens.
    #[error(
        "head {head} reads the latent-token grid, and only the embedding was given: ask the encoder for tokens"
    )]
    NoTokens {
        /// Name of the head.
        head: String,
    },
    /// The input is not a number somewhere.
    #[error("head {head}: number {index} of the {input} is {got}")]
    InputNotFinite {
        /// Name of the head.
        head: String,
        /// Embedding or token grid.
        input: &'static str,
        /// Position.
        index: usize,
        /// NaN or an infinity.
        got: f32,
    },
    /// The network gave NaN, an infinity, or a circular output without a direction.
    #[error("head {head}: the network gave {got}, which is no answer")]
    NoAnswer {
        /// Name of the head.
        head: String,
        /// The numbers.
        got: String,
    },
    /// The self-test vector was not reproduced.
    #[error(
        "head {head} (release {release}) failed its self-test on this machine: output {index} is {got}, want {want} within {tolerance}"
    )]
    SelfTest {
        /// Name of the head.
        head: String,
        /// First 12 hex digits of the release.
        release: String,
        /// Which of the network's numbers.
        index: usize,
        /// Number computed here.
        got: f32,
        /// Number in the file.
        want: f32,
        /// Allowed relative difference.
        tolerance: f64,
    },
}

/// A head met an embedding of a space it was not trained on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "head {head} (release {release}) was trained on embedding space {want}; this encoder gives {got}: \
     embed and train again, or serve the model with space {want}"
)]
pub struct SpaceMismatch {
    /// Name of the head.
    pub head: String,
    /// First 12 hex digits of the release.
    pub release: String,
    /// First 12 hex digits of the space the head reads.
    pub want: String,
    /// First 12 hex digits of the space that was given.
    pub got: String,
}

//! What a head file may be at most, checked before anything of that size is allocated.

/// Largest head file in bytes. A head is kilobytes to a few megabytes; the largest useful one, a token head
/// with a background over 8040 tokens of 512 numbers in f16, is 17 MB.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// Largest manifest in bytes; a real one is about one kilobyte.
pub const MAX_MANIFEST_BYTES: usize = 64 << 10;

/// Largest safetensors header in bytes: the manifest with every byte escaped, and the tensor table.
pub const MAX_HEADER_BYTES: u64 = 2 * MAX_MANIFEST_BYTES as u64 + (16 << 10);

/// Largest length of any one dimension: embedding, hidden layer, grid side, latent token.
pub const MAX_DIM: u32 = 1 << 16;

/// Most tokens in a grid; the finest preset has 8040.
pub const MAX_TOKENS: u32 = 1 << 16;

/// Most numbers in a latent grid; the finest preset has 4 million.
pub const MAX_GRID_NUMBERS: u32 = 1 << 24;

/// Most trees in a forest; past a few hundred the answer does not change.
pub const MAX_TREES: u32 = 1 << 12;

/// Most nodes, and most leaves, of a forest: 1000 trees grown on 1000 frames have 2 million.
pub const MAX_NODES: u32 = 1 << 22;

/// Most scales of the maps that trees read; the eighth is a 128th of the grid.
pub const MAX_SCALES: u32 = 8;

/// Most thresholds of a departures head.
pub const MAX_THRESHOLDS: u32 = 64;

/// Most frames a kernel head is likened to; their pairs take 4 MB.
pub const MAX_SUPPORT: u32 = 1 << 10;

/// Most classes of a head; hundreds of labels tell no more apart.
pub const MAX_CLASSES: usize = 16;

/// Longest name of a class in characters; it stands in every answer.
pub const MAX_CLASS_CHARS: usize = 32;

/// Longest name of a head in characters.
pub const MAX_NAME_CHARS: usize = 64;

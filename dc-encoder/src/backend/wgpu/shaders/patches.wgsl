// Frames to normalised patches: bytes (y, x, channel), four a word, to rows [patches, channel * PATCH² + y * PATCH + x].
// A thread takes one number of every patch of one row of the grid.

@group(0) @binding(0) var<storage, read> frames: array<u32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;

const AREA = PATCH * PATCH;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let number = id.x;
    if number >= 3u * AREA {
        return;
    }
    let channel = number / AREA;
    let line = id.y * PATCH + number % AREA / PATCH;
    for (var col = 0u; col < GRID_COLS; col++) {
        let at = 3u * (line * GRID_COLS * PATCH + col * PATCH + number % PATCH) + channel;
        let byte = frames[id.z * FRAME_WORDS + at / 4u] >> (8u * (at % 4u)) & 255u;
        let row = (id.z * GRID_ROWS + id.y) * GRID_COLS + col;
        output[row * OUTPUT_STRIDE + number] = (f32(byte) / 255.0 - MEAN[channel]) / STD[channel];
    }
}

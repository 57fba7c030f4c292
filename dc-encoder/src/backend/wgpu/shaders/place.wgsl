// A patch to its token: behind the class token if there is one, with its position.
@group(0) @binding(4) var<storage, read> positions: array<f32>;

fn finish(row: u32, col: u32, value: f32) {
    let patch_number = row % PATCHES;
    let token = row / PATCHES * TOKENS + (TOKENS - PATCHES) + patch_number;
    output[token * OUTPUT_STRIDE + col] = value + positions[patch_number * COLS + col];
}

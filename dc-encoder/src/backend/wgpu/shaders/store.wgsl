fn finish(row: u32, col: u32, value: f32) {
    output[row * OUTPUT_STRIDE + col] = value;
}

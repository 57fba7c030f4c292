// LayerNorm in two passes (Ba et al., 2016): four rows in 64 threads.

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

var<workgroup> parts: array<f32, 64>;

// The sum over the sixteen threads of a row.
fn total(index: u32, value: f32) -> f32 {
    workgroupBarrier();
    parts[index] = value;
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < 16u; i++) {
        sum += parts[index / 16u * 16u + i];
    }
    return sum;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let row = (4u * group.y + index / 16u) * STRIDE;
    let first = index % 16u;
    var sum = 0.0;
    for (var col = first; col < COLS; col += 16u) {
        sum += input[row + col];
    }
    let mean = total(index, sum) / f32(COLS);
    sum = 0.0;
    for (var col = first; col < COLS; col += 16u) {
        let off = input[row + col] - mean;
        sum += off * off;
    }
    let scale = 1.0 / sqrt(total(index, sum) / f32(COLS) + EPS);
    for (var col = first; col < COLS; col += 16u) {
        output[row + col] = (input[row + col] - mean) * scale * weight[col] + bias[col];
    }
}

// A linear layer, `finish(input · weightᵀ + bias)`: input [rows, WORDS * 4], weight [COLS, WORDS * 4], both with rows up
// to whole tiles and zeros up to whole steps, so that nothing is checked on the way in.

@group(0) @binding(0) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    var sums = array<vec4<f32>, 4>();
    let row = index / 4u;
    let part = index % 4u;
    let to = row * PITCH + 4u * part;
    let from_left = (group.y * TILE + row) * WORDS + part;
    let from_right = (group.x * TILE + row) * WORDS + part;
    for (var word = 0u; word < WORDS; word += STEPS / 4u) {
        let a = input[from_left + word];
        let b = weight[from_right + word];
        workgroupBarrier();
        left[to] = a.x;
        left[to + 1u] = a.y;
        left[to + 2u] = a.z;
        left[to + 3u] = a.w;
        right[to] = b.x;
        right[to + 1u] = b.y;
        right[to + 2u] = b.z;
        right[to + 3u] = b.w;
        workgroupBarrier();
        accumulate(thread.xy, &sums);
    }
    for (var i = 0u; i < 4u; i++) {
        let out_row = group.y * TILE + thread.y + 16u * i;
        for (var j = 0u; j < 4u; j++) {
            let col = group.x * TILE + thread.x + 16u * j;
            if out_row < ROWS && col < COLS {
                finish(out_row, col, sums[i][j] + bias[col]);
            }
        }
    }
}

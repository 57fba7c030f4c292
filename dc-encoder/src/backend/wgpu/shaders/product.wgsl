// A product of each head of each frame: `GAIN * a (SHIFT I + SIGN b)`, a [ROWS, INNER], b [INNER, COLS].

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

// Where the matrix of a head of a frame begins.
fn start(frame_and_head: u32, frame: u32, head: u32) -> u32 {
    return frame_and_head / HEADS * frame + frame_and_head % HEADS * head;
}

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    var sums = array<vec4<f32>, 4>();
    let a_start = start(group.z, A_FRAME, A_HEAD);
    let b_start = start(group.z, B_FRAME, B_HEAD);
    for (var first = 0u; first < INNER; first += STEPS) {
        workgroupBarrier();
        for (var i = index; i < TILE * STEPS; i += 256u) {
            let row = group.y * TILE + i / STEPS;
            let step = first + i % STEPS;
            var value = 0.0;
            if row < ROWS && step < INNER {
                value = a[a_start + row * A_STRIDE + step];
            }
            left[i / STEPS * PITCH + i % STEPS] = value;
        }
        for (var i = index; i < TILE * STEPS; i += 256u) {
            let col = group.x * TILE + i % TILE;
            let step = first + i / TILE;
            var value = 0.0;
            if col < COLS && step < INNER {
                value = SIGN * b[b_start + step * B_STRIDE + col] + select(0.0, SHIFT, step == col);
            }
            right[i % TILE * PITCH + i / TILE] = value;
        }
        workgroupBarrier();
        accumulate(thread.xy, &sums);
    }
    let to = start(group.z, OUTPUT_FRAME, OUTPUT_HEAD);
    for (var i = 0u; i < 4u; i++) {
        let row = group.y * TILE + thread.y + 16u * i;
        for (var j = 0u; j < 4u; j++) {
            let col = group.x * TILE + thread.x + 16u * j;
            if row < ROWS && col < COLS {
                output[to + row * OUTPUT_STRIDE + col] = GAIN * sums[i][j];
            }
        }
    }
}

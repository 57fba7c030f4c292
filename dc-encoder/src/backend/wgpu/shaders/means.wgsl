// Means of groups of rows: group `i` is rows `members[starts[i]..starts[i + 1]]` of each frame.

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read> members: array<u32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let col = id.x;
    if col >= COLS {
        return;
    }
    let first = starts[id.y];
    let end = starts[id.y + 1u];
    var sum = 0.0;
    for (var i = first; i < end; i++) {
        sum += input[(id.z * TOKENS + members[i]) * INPUT_STRIDE + col];
    }
    output[(id.z * GROUPS + id.y) * OUTPUT_STRIDE + col] = sum / f32(end - first);
}

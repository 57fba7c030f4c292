// Softmax of the scores of landmarks with landmarks: one row of one head in 64 threads.
// landmarks [frames * SIZE, queries then keys] to output [frames * heads, SIZE, SIZE].

@group(0) @binding(0) var<storage, read> landmarks: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;

var<workgroup> parts: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let query = (group.z * SIZE + group.x) * STRIDE + group.y * WIDTH;
    let to = ((group.z * HEADS + group.y) * SIZE + group.x) * SIZE;
    var largest = -3e38;
    for (var col = index; col < SIZE; col += 64u) {
        let key = (group.z * SIZE + col) * STRIDE + KEYS_FIRST + group.y * WIDTH;
        var score = 0.0;
        for (var i = 0u; i < WIDTH; i++) {
            score += landmarks[query + i] * landmarks[key + i];
        }
        output[to + col] = score * SCALE;
        largest = max(largest, score * SCALE);
    }
    parts[index] = largest;
    workgroupBarrier();
    for (var i = 0u; i < 64u; i++) {
        largest = max(largest, parts[i]);
    }
    var total = 0.0;
    for (var col = index; col < SIZE; col += 64u) {
        let power = exp(output[to + col] - largest);
        output[to + col] = power;
        total += power;
    }
    workgroupBarrier();
    parts[index] = total;
    workgroupBarrier();
    total = 0.0;
    for (var i = 0u; i < 64u; i++) {
        total += parts[i];
    }
    for (var col = index; col < SIZE; col += 64u) {
        output[to + col] /= total;
    }
}

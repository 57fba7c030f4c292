// The start of the pseudo-inverse of each matrix: `aᵀ / (largest row sum * largest column sum)`. No number of a softmax is
// negative.

@group(0) @binding(0) var<storage, read> matrix: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;

var<workgroup> parts: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let first = group.z * SIZE * SIZE;
    var most = vec2(0.0);
    for (var line = index; line < SIZE; line += 256u) {
        var sums = vec2(0.0);
        for (var i = 0u; i < SIZE; i++) {
            sums += vec2(matrix[first + line * SIZE + i], matrix[first + i * SIZE + line]);
        }
        most = max(most, sums);
    }
    parts[index] = most;
    workgroupBarrier();
    for (var i = 0u; i < 256u; i++) {
        most = max(most, parts[i]);
    }
    for (var at = index; at < SIZE * SIZE; at += 256u) {
        output[first + at % SIZE * SIZE + at / SIZE] = matrix[first + at] / (most.x * most.y);
    }
}

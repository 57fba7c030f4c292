// Exact attention with a running softmax (Milakov and Gimelshein, 2018): sixteen queries of one head in 64 threads, four
// a query; keys and values pass in runs of KEYS_HELD, and no matrix of scores exists.

@group(0) @binding(0) var<storage, read> queries: array<f32>;
@group(0) @binding(1) var<storage, read> keys: array<f32>;
@group(0) @binding(2) var<storage, read> values: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

const QUERIES_HELD = 16u;
const PITCH = WIDTH + 1u;
const EACH = (WIDTH + 3u) / 4u;

var<workgroup> query: array<f32, QUERIES_HELD * PITCH>;
// Keys of a run, then its values.
var<workgroup> held: array<f32, KEYS_HELD * PITCH>;
// Scores of a run, then their powers: `[QUERIES_HELD][KEYS_HELD]`.
var<workgroup> scores: array<f32, QUERIES_HELD * KEYS_HELD>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let head = group.y * WIDTH;
    let row = index / 4u;
    let lane = index % 4u;
    let first = group.x * QUERIES_HELD;
    for (var i = index; i < QUERIES_HELD * WIDTH; i += 64u) {
        let at = group.z * QUERIES + min(first + i / WIDTH, QUERIES - 1u);
        query[i / WIDTH * PITCH + i % WIDTH] = queries[at * QUERIES_STRIDE + QUERIES_FIRST + head + i % WIDTH];
    }
    var sums = array<f32, EACH>();
    var largest = -3e38;
    var total = 0.0;
    for (var run = 0u; run < KEYS; run += KEYS_HELD) {
        workgroupBarrier();
        for (var i = index; i < KEYS_HELD * WIDTH; i += 64u) {
            let at = group.z * KEYS + min(run + i / WIDTH, KEYS - 1u);
            held[i / WIDTH * PITCH + i % WIDTH] = keys[at * KEYS_STRIDE + KEYS_FIRST + head + i % WIDTH];
        }
        workgroupBarrier();
        for (var key = lane; key < KEYS_HELD; key += 4u) {
            var score = 0.0;
            for (var i = 0u; i < WIDTH; i++) {
                score += query[row * PITCH + i] * held[key * PITCH + i];
            }
            scores[row * KEYS_HELD + key] = select(-3e38, score * SCALE, run + key < KEYS);
        }
        workgroupBarrier();
        var most = largest;
        for (var key = 0u; key < KEYS_HELD; key++) {
            most = max(most, scores[row * KEYS_HELD + key]);
        }
        workgroupBarrier();
        for (var key = lane; key < KEYS_HELD; key += 4u) {
            scores[row * KEYS_HELD + key] = exp(scores[row * KEYS_HELD + key] - most);
        }
        for (var i = index; i < KEYS_HELD * WIDTH; i += 64u) {
            let at = group.z * KEYS + min(run + i / WIDTH, KEYS - 1u);
            held[i / WIDTH * PITCH + i % WIDTH] = values[at * VALUES_STRIDE + VALUES_FIRST + head + i % WIDTH];
        }
        workgroupBarrier();
        let keep = exp(largest - most);
        largest = most;
        total *= keep;
        for (var i = 0u; i < EACH; i++) {
            sums[i] *= keep;
        }
        for (var key = 0u; key < KEYS_HELD; key++) {
            let power = scores[row * KEYS_HELD + key];
            total += power;
            for (var i = 0u; i < EACH; i++) {
                // The last lanes of an odd width read the padding, and are not written.
                sums[i] += power * held[key * PITCH + min(lane + 4u * i, WIDTH)];
            }
        }
    }
    if first + row < QUERIES {
        let to = (group.z * QUERIES + first + row) * OUTPUT_STRIDE + head;
        for (var i = 0u; i < EACH; i++) {
            if lane + 4u * i < WIDTH {
                output[to + lane + 4u * i] = sums[i] / total;
            }
        }
    }
}

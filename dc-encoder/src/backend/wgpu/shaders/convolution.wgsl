// Adds the depthwise convolution of the values over tokens: a cross-correlation, zeros beyond both ends, one kernel a head.
// A thread takes one column of eight tokens.

@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let col = id.x;
    if col >= COLS {
        return;
    }
    let taps = col / WIDTH * TAPS;
    let frame = id.z * TOKENS;
    for (var token = 8u * id.y; token < min(8u * id.y + 8u, TOKENS); token++) {
        var sum = 0.0;
        for (var tap = 0u; tap < TAPS; tap++) {
            let at = token + tap;
            if at >= TAPS / 2u && at < TOKENS + TAPS / 2u {
                sum += weight[taps + tap] * values[(frame + at - TAPS / 2u) * VALUES_STRIDE + VALUES_FIRST + col];
            }
        }
        output[(frame + token) * OUTPUT_STRIDE + col] += sum;
    }
}

// A tile of a matrix product: 64 by 64 numbers in 256 threads, each with 4 by 4 of them, sixteen apart.

const TILE = 64u;
const STEPS = 16u;
// An odd pitch: threads side by side read different banks.
const PITCH = 17u;

// Sixteen steps of both operands: `[TILE][PITCH]`.
var<workgroup> left: array<f32, TILE * PITCH>;
var<workgroup> right: array<f32, TILE * PITCH>;

fn accumulate(thread: vec2<u32>, sums: ptr<function, array<vec4<f32>, 4>>) {
    for (var step = 0u; step < STEPS; step++) {
        let at = thread.x * PITCH + step;
        let across = vec4(
            right[at], right[at + 16u * PITCH], right[at + 32u * PITCH], right[at + 48u * PITCH]);
        for (var row = 0u; row < 4u; row++) {
            (*sums)[row] += left[(thread.y + 16u * row) * PITCH + step] * across;
        }
    }
}

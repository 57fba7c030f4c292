// LayerNorm (Ba et al., 2016) of x [frames * TOKENS, STRIDE] plus the frame's offset, less the frame's centre where rows
// are CENTRED: a row in a warp, which reads it once and keeps it.

constexpr int EACH = (COLS + WARP - 1) / WARP;

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(
    const float *x, const float *offset, const float *weight, const float *bias, const float *centre, T *output) {
    int token = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    if (token >= TOKENS) {
        return;
    }
    int lane = threadIdx.x % WARP;
    long frame = blockIdx.z, row = frame * TOKENS + token;
    x += row * STRIDE;
    offset += frame * STRIDE;
    centre += frame * STRIDE;
    output += row * STRIDE;
    float values[EACH];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int col = lane + WARP * i;
        values[i] = col < COLS ? x[col] + offset[col] : 0.0f;
        sum += values[i];
    }
    float mean = warp_sum(sum) / COLS;
    sum = 0.0f;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        float off = values[i] - mean;
        sum += lane + WARP * i < COLS ? off * off : 0.0f;
    }
    float scale = rsqrtf(warp_sum(sum) / COLS + EPS);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int col = lane + WARP * i;
        if (col < COLS) {
            float value = (values[i] - mean) * scale * weight[col] + bias[col];
            output[col] = narrow<T>(CENTRED ? value - centre[col] : value);
        }
    }
}

// Means and texture of each region of the maps that latent tokens are: latent [frames * TOKENS, STRIDE], number (channel,
// i, j) of a token in cell (i, j) of its patch, to [frames, REGION_ROWS * REGION_COLS, 4]. A region in a block.

constexpr int WARPS = THREADS / WARP;

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(const float *latent, float *output) {
    __shared__ float parts[4][WARPS];
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int region = blockIdx.x;
    int row = region / REGION_COLS, col = region % REGION_COLS;
    int top = row * GRID_ROWS * CELLS / REGION_ROWS, bottom = (row + 1) * GRID_ROWS * CELLS / REGION_ROWS;
    int left = col * GRID_COLS * CELLS / REGION_COLS, right = (col + 1) * GRID_COLS * CELLS / REGION_COLS;
    int wide = right - left, count = (bottom - top) * wide;
    latent += (long)blockIdx.z * TOKENS * STRIDE;
    float sums[4] = {};
    for (int i = threadIdx.x; i < count; i += THREADS) {
        int y = top + i / wide, x = left + i % wide;
        const float *token = latent + (long)(FIRST + y / CELLS * GRID_COLS + x / CELLS) * STRIDE;
        int cell = y % CELLS * CELLS + x % CELLS;
        for (int channel = 0; channel < 3; channel++) {
            sums[channel] += token[channel * CELLS * CELLS + cell];
        }
        sums[3] += token[cell] * token[cell];
    }
    for (int part = 0; part < 4; part++) {
        float sum = warp_sum(sums[part]);
        if (lane == 0) {
            parts[part][warp] = sum;
        }
    }
    __syncthreads();
    if (threadIdx.x > 0) {
        return;
    }
    float means[4] = {};
    for (int part = 0; part < 4; part++) {
        for (int i = 0; i < WARPS; i++) {
            means[part] += parts[part][i];
        }
        means[part] /= (float)count;
    }
    output += ((long)blockIdx.z * REGION_ROWS * REGION_COLS + region) * 4;
    for (int channel = 0; channel < 3; channel++) {
        output[channel] = means[channel];
    }
    output[3] = sqrtf(fmaxf(means[3] - means[0] * means[0], 0.0f) + VARIANCE_EPS);
}

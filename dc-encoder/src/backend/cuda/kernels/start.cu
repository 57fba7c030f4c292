// The start of the pseudo-inverse of each matrix [SIZE, SIZE]: `aᵀ / (largest row sum * largest column sum)`. No number of
// a softmax is negative.

constexpr int WARPS = THREADS / WARP;

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(const float *matrices, float *output) {
    __shared__ float rows[WARPS], cols[WARPS];
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const float *matrix = matrices + (long)blockIdx.z * SIZE * SIZE;
    output += (long)blockIdx.z * SIZE * SIZE;
    float row = 0.0f, col = 0.0f;
    for (int line = warp; line < SIZE; line += WARPS) {
        float sum = 0.0f;
        for (int i = lane; i < SIZE; i += WARP) {
            sum += matrix[line * SIZE + i];
        }
        row = fmaxf(row, warp_sum(sum));
    }
    for (int line = threadIdx.x; line < SIZE; line += THREADS) {
        float sum = 0.0f;
        for (int i = 0; i < SIZE; i++) {
            sum += matrix[i * SIZE + line];
        }
        col = fmaxf(col, sum);
    }
    col = warp_most(col);
    if (lane == 0) {
        rows[warp] = row;
        cols[warp] = col;
    }
    __syncthreads();
    for (int i = 0; i < WARPS; i++) {
        row = fmaxf(row, rows[i]);
        col = fmaxf(col, cols[i]);
    }
    for (int at = threadIdx.x; at < SIZE * SIZE; at += THREADS) {
        output[at] = matrix[at % SIZE * SIZE + at / SIZE] / (row * col);
    }
}

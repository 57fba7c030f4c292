// Softmax of the scores of landmarks with landmarks: landmarks [frames * SIZE, queries then keys], STRIDE, to [frames *
// HEADS, SIZE, SIZE]. Eight rows of one head in eight warps; keys pass in runs of 32, one a thread.

constexpr int ROWS = 8;
constexpr int PITCH = WIDTH + 1;
constexpr int RUNS = (SIZE + WARP - 1) / WARP;

extern "C" __global__ void __launch_bounds__(ROWS *WARP) KERNEL(const float *landmarks, float *output) {
    __shared__ float queries[ROWS * PITCH], keys[WARP * PITCH];
    int head = blockIdx.y, frame = blockIdx.z;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    landmarks += (long)frame * SIZE * STRIDE + head * WIDTH;
    for (int i = threadIdx.x; i < ROWS * WIDTH; i += ROWS * WARP) {
        int row = min((int)blockIdx.x * ROWS + i / WIDTH, SIZE - 1);
        queries[i / WIDTH * PITCH + i % WIDTH] = landmarks[(long)row * STRIDE + i % WIDTH];
    }
    float scores[RUNS];
    float most = LOWEST;
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
        __syncthreads();
        for (int i = threadIdx.x; i < WARP * WIDTH; i += ROWS * WARP) {
            int key = min(run * WARP + i / WIDTH, SIZE - 1);
            keys[i / WIDTH * PITCH + i % WIDTH] = landmarks[(long)key * STRIDE + HEADS * WIDTH + i % WIDTH];
        }
        __syncthreads();
        float score = 0.0f;
        for (int i = 0; i < WIDTH; i++) {
            score += queries[warp * PITCH + i] * keys[lane * PITCH + i];
        }
        scores[run] = run * WARP + lane < SIZE ? score * SCALE : LOWEST;
        most = fmaxf(most, scores[run]);
    }
    most = warp_most(most);
    float total = 0.0f;
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
        scores[run] = expf(scores[run] - most);
        total += scores[run];
    }
    total = warp_sum(total);
    int row = blockIdx.x * ROWS + warp;
    if (row < SIZE) {
        output += (((long)frame * HEADS + head) * SIZE + row) * SIZE;
#pragma unroll
        for (int run = 0; run < RUNS; run++) {
            if (run * WARP + lane < SIZE) {
                output[run * WARP + lane] = scores[run] / total;
            }
        }
    }
}

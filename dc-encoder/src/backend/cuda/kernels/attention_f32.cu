// Exact attention with a running softmax (Milakov and Gimelshein, 2018) in f32: sixteen queries of one head in 64 threads,
// four a query; keys and values pass in runs of HELD, and no matrix of scores exists.

constexpr int QUERIES_HELD = 16;
constexpr int PITCH = WIDTH + 1;
constexpr int EACH = (WIDTH + 3) / 4;

extern "C" __global__ void __launch_bounds__(64) KERNEL(
    const T *queries, const T *keys, const T *values, const T *convolved, const float *whole, const float *weight,
    O *output) {
    __shared__ float held_queries[QUERIES_HELD * PITCH];
    // Keys of a run, then its values.
    __shared__ float held[HELD * PITCH];
    // Scores of a run, then their powers.
    __shared__ float scores[QUERIES_HELD * HELD];
    int head = blockIdx.y, frame = blockIdx.z;
    int row = threadIdx.x / 4, lane = threadIdx.x % 4;
    int first = blockIdx.x * QUERIES_HELD;
    for (int i = threadIdx.x; i < QUERIES_HELD * WIDTH; i += 64) {
        int from = min(first + i / WIDTH, QUERIES - 1);
        held_queries[i / WIDTH * PITCH + i % WIDTH] = query(queries, whole, frame, head, from, i % WIDTH);
    }
    keys += (long)frame * K_FRAME + head * K_HEAD + K_FIRST;
    const T *head_values = values + (long)frame * V_FRAME + head * V_HEAD + V_FIRST;
    float sums[EACH] = {};
    float largest = LOWEST, total = 0.0f;
    for (int run = 0; run < KEYS; run += HELD) {
        __syncthreads();
        for (int i = threadIdx.x; i < HELD * WIDTH; i += 64) {
            int key = min(run + i / WIDTH, KEYS - 1);
            held[i / WIDTH * PITCH + i % WIDTH] = wide(keys[(long)key * K_ROW + i % WIDTH]);
        }
        __syncthreads();
        for (int key = lane; key < HELD; key += 4) {
            float score = 0.0f;
            for (int i = 0; i < WIDTH; i++) {
                score += held_queries[row * PITCH + i] * held[key * PITCH + i];
            }
            scores[row * HELD + key] = run + key < KEYS ? score * SCALE : LOWEST;
        }
        __syncthreads();
        float most = largest;
        for (int key = 0; key < HELD; key++) {
            most = fmaxf(most, scores[row * HELD + key]);
        }
        __syncthreads();
        for (int key = lane; key < HELD; key += 4) {
            scores[row * HELD + key] = expf(scores[row * HELD + key] - most);
        }
        for (int i = threadIdx.x; i < HELD * WIDTH; i += 64) {
            int key = min(run + i / WIDTH, KEYS - 1);
            held[i / WIDTH * PITCH + i % WIDTH] = wide(head_values[(long)key * V_ROW + i % WIDTH]);
        }
        __syncthreads();
        float keep = expf(largest - most);
        largest = most;
        total *= keep;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            sums[i] *= keep;
        }
        for (int key = 0; key < HELD; key++) {
            float power = scores[row * HELD + key];
            total += power;
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                // The last lanes of an odd width would read beyond it, and are not stored.
                sums[i] += power * held[key * PITCH + min(lane + 4 * i, WIDTH - 1)];
            }
        }
    }
    if (first + row < QUERIES) {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            if (lane + 4 * i < WIDTH) {
                finish(convolved, whole, weight, output, frame, head, first + row, lane + 4 * i, sums[i] / total);
            }
        }
    }
}

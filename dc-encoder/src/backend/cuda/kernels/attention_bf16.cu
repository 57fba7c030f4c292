// Exact attention with a running softmax on tensor cores (Dao, 2023): 64 queries of one head in four warps, sixteen a
// warp; keys and values pass in runs of HELD through shared memory, scores and results stay in registers.
//
// Numbers of a 16 by 8 tile lie in a warp as the tensor cores have them: thread `4 g + t` holds rows g and g + 8, columns
// 2 t and 2 t + 1. A row's numbers are with four neighbouring threads.

constexpr int ROWS = 16;
constexpr int THREADS = 128;
constexpr int TILE = ROWS * THREADS / WARP;
constexpr int PADDED = (WIDTH + 15) / 16 * 16;
// Sixteen bytes more than a row: eight rows of a matrix then lie in different banks.
constexpr int PITCH = PADDED + 8;
constexpr float LOG2_E = 1.44269504f;

// Rows of a head to shared memory, zeros beyond the last row and the last column.
__device__ inline void hold(bf16 *held, const bf16 *from, int row_step, int run) {
    if constexpr (ALIGNED) {
        constexpr int PACKS = PADDED / 8;
        for (int i = threadIdx.x; i < HELD * PACKS; i += THREADS) {
            int row = i / PACKS, col = i % PACKS * 8;
            Pack<bf16> pack = {};
            if (run + row < KEYS && col < WIDTH) {
                pack = *(const Pack<bf16> *)(from + (long)(run + row) * row_step + col);
            }
            *(Pack<bf16> *)(held + row * PITCH + col) = pack;
        }
    } else {
        for (int i = threadIdx.x; i < HELD * PADDED; i += THREADS) {
            int row = i / PADDED, col = i % PADDED;
            bf16 zero = {0};
            bool inside = run + row < KEYS && col < WIDTH;
            held[row * PITCH + col] = inside ? from[(long)(run + row) * row_step + col] : zero;
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(
    const bf16 *queries, const bf16 *keys, const bf16 *values, const bf16 *convolved, const float *whole, const float *weight,
    O *output) {
    // Keys and values of a run; the queries before the first.
    alignas(16) __shared__ bf16 held[2 * HELD * PITCH];
    bf16 *held_values = held + HELD * PITCH;
    int head = blockIdx.y, frame = blockIdx.z;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int first = blockIdx.x * TILE;
    for (int i = threadIdx.x; i < TILE * PADDED; i += THREADS) {
        int row = i / PADDED, col = i % PADDED;
        bool inside = first + row < QUERIES && col < WIDTH;
        float value = inside ? query(queries, whole, frame, head, first + row, col) : 0.0f;
        held[row * PITCH + col] = narrow<bf16>(value);
    }
    __syncthreads();
    uint32 left[PADDED / 16][4];
#pragma unroll
    for (int step = 0; step < PADDED / 16; step++) {
        load_matrices(left[step], held + (warp * ROWS + lane % 16) * PITCH + step * 16 + lane / 16 * 8);
    }
    keys += (long)frame * K_FRAME + head * K_HEAD + K_FIRST;
    const bf16 *head_values = values + (long)frame * V_FRAME + head * V_HEAD + V_FIRST;
    float sums[PADDED / 8][4] = {};
    float largest[2] = {LOWEST, LOWEST}, total[2] = {};
    for (int run = 0; run < KEYS; run += HELD) {
        __syncthreads();
        hold(held, keys, K_ROW, run);
        hold(held_values, head_values, V_ROW, run);
        __syncthreads();
        float scores[HELD / 8][4] = {};
#pragma unroll
        for (int step = 0; step < PADDED / 16; step++) {
#pragma unroll
            for (int tile = 0; tile < HELD / 8; tile += 2) {
                uint32 right[4];
                int row = tile * 8 + lane % 8 + lane / 16 * 8;
                load_matrices(right, held + row * PITCH + step * 16 + lane / 8 % 2 * 8);
                multiply(scores[tile], left[step], right[0], right[1]);
                multiply(scores[tile + 1], left[step], right[2], right[3]);
            }
        }
        float most[2] = {largest[0], largest[1]};
#pragma unroll
        for (int tile = 0; tile < HELD / 8; tile++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                bool inside = run + tile * 8 + lane % 4 * 2 + i % 2 < KEYS;
                scores[tile][i] = inside ? scores[tile][i] * (SCALE * LOG2_E) : LOWEST;
                most[i / 2] = fmaxf(most[i / 2], scores[tile][i]);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            most[half] = fmaxf(most[half], __shfl_xor_sync(0xffffffff, most[half], 1));
            most[half] = fmaxf(most[half], __shfl_xor_sync(0xffffffff, most[half], 2));
            float keep = exp2f(largest[half] - most[half]);
            largest[half] = most[half];
            total[half] *= keep;
#pragma unroll
            for (int tile = 0; tile < PADDED / 8; tile++) {
                sums[tile][2 * half] *= keep;
                sums[tile][2 * half + 1] *= keep;
            }
        }
#pragma unroll
        for (int tile = 0; tile < HELD / 8; tile++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                scores[tile][i] = exp2f(scores[tile][i] - most[i / 2]);
                total[i / 2] += scores[tile][i];
            }
        }
#pragma unroll
        for (int step = 0; step < HELD / 16; step++) {
            const float(&low)[4] = scores[2 * step], (&high)[4] = scores[2 * step + 1];
            uint32 powers[4] = {pair(low[0], low[1]), pair(low[2], low[3]), pair(high[0], high[1]), pair(high[2], high[3])};
#pragma unroll
            for (int tile = 0; tile < PADDED / 8; tile += 2) {
                uint32 right[4];
                int row = step * 16 + lane % 16;
                load_transposed(right, held_values + row * PITCH + tile * 8 + lane / 16 * 8);
                multiply(sums[tile], powers, right[0], right[1]);
                multiply(sums[tile + 1], powers, right[2], right[3]);
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        total[half] += __shfl_xor_sync(0xffffffff, total[half], 1);
        total[half] += __shfl_xor_sync(0xffffffff, total[half], 2);
    }
#pragma unroll
    for (int tile = 0; tile < PADDED / 8; tile++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = first + warp * ROWS + lane / 4 + i / 2 * 8;
            int col = tile * 8 + lane % 4 * 2 + i % 2;
            if (row < QUERIES && col < WIDTH) {
                finish(convolved, whole, weight, output, frame, head, row, col, sums[tile][i] / total[i / 2]);
            }
        }
    }
}

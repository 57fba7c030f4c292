// The centre of each frame's normed rows: the mean of a few (it need not be exact, only near). A warp measures one of
// them, then a thread takes a column. x [frames * TOKENS, STRIDE] and offset [frames, STRIDE] to centre [frames, STRIDE],
// and the same split over rows of a product's operand, [frames * SPLIT, STRIDE].

extern "C" __global__ void KERNEL(
    const float *x, const float *offset, const float *weight, const float *bias, float *centre, T *rows) {
    __shared__ float means[SAMPLES], scales[SAMPLES];
    int frame = blockIdx.z, lane = threadIdx.x % WARP;
    offset += (long)frame * STRIDE;
    for (int sample = threadIdx.x / WARP; sample < SAMPLES; sample += blockDim.x / WARP) {
        const float *row = x + ((long)frame * TOKENS + (2 * sample + 1) * TOKENS / (2 * SAMPLES)) * STRIDE;
        float sum = 0.0f;
        for (int col = lane; col < COLS; col += WARP) {
            sum += row[col] + offset[col];
        }
        float mean = warp_sum(sum) / COLS;
        sum = 0.0f;
        for (int col = lane; col < COLS; col += WARP) {
            float off = row[col] + offset[col] - mean;
            sum += off * off;
        }
        float scale = rsqrtf(warp_sum(sum) / COLS + EPS);
        if (lane == 0) {
            means[sample] = mean;
            scales[sample] = scale;
        }
    }
    __syncthreads();
    for (int col = threadIdx.x; col < COLS; col += blockDim.x) {
        float sum = 0.0f;
        for (int sample = 0; sample < SAMPLES; sample++) {
            long token = (2 * sample + 1) * TOKENS / (2 * SAMPLES);
            float value = x[((long)frame * TOKENS + token) * STRIDE + col] + offset[col];
            sum += (value - means[sample]) * scales[sample];
        }
        float value = sum / SAMPLES * weight[col] + bias[col];
        centre[(long)frame * STRIDE + col] = value;
        split<T, SPLIT>(value, rows, STRIDE, frame, col);
    }
}

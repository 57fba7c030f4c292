// Landmarks: means of the queries, whole, and of the keys, less their centre, of each group of tokens. qkv [frames *
// TOKENS, STRIDE] to [frames * GROUPS, 2 * INNER] in f32 and as an operand, OUTPUT_STRIDE both. Group `i` is tokens
// `members[starts[i]..starts[i + 1]]`.

extern "C" __global__ void KERNEL(
    const T *qkv, const float *whole, const uint32 *starts, const uint32 *members, float *output, T *rows) {
    int col = blockIdx.x * blockDim.x + threadIdx.x;
    if (col >= 2 * INNER) {
        return;
    }
    int group = blockIdx.y, frame = blockIdx.z;
    float sum = 0.0f;
    for (uint32 i = starts[group]; i < starts[group + 1]; i++) {
        sum += wide(qkv[((long)frame * TOKENS + members[i]) * STRIDE + col]);
    }
    float mean = sum / (float)(starts[group + 1] - starts[group]);
    if (col < INNER) {
        mean += whole[(long)frame * WHOLE_STRIDE + col];
    }
    long at = ((long)frame * GROUPS + group) * OUTPUT_STRIDE + col;
    output[at] = mean;
    rows[at] = narrow<T>(mean);
}

// Means of groups of rows: input [frames * TOKENS, INPUT_STRIDE] to [frames * GROUPS, OUTPUT_STRIDE]; group `i` is rows
// `members[starts[i]..starts[i + 1]]` of each frame.

extern "C" __global__ void KERNEL(const float *input, const uint32 *starts, const uint32 *members, float *output) {
    int col = blockIdx.x * blockDim.x + threadIdx.x;
    if (col >= COLS) {
        return;
    }
    int group = blockIdx.y, frame = blockIdx.z;
    float sum = 0.0f;
    for (uint32 i = starts[group]; i < starts[group + 1]; i++) {
        sum += input[((long)frame * TOKENS + members[i]) * INPUT_STRIDE + col];
    }
    output[((long)frame * GROUPS + group) * OUTPUT_STRIDE + col] = sum / (float)(starts[group + 1] - starts[group]);
}

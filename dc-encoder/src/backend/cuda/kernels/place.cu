// The residual stream: embedded patches [frames * PATCHES, STRIDE] with bias and position, behind the class token if there
// is one, to x [frames * TOKENS, STRIDE]. The offset of each frame, [frames, STRIDE], begins at zero.

extern "C" __global__ void KERNEL(
    const float *embedded, const float *bias, const float *positions, const float *class_token, float *x, float *offset) {
    int col = blockIdx.x * blockDim.x + threadIdx.x;
    if (col >= COLS) {
        return;
    }
    int token = blockIdx.y, frame = blockIdx.z;
    int patch = token - (TOKENS - PATCHES);
    float value;
    if (patch < 0) {
        value = class_token[col];
    } else {
        value = embedded[((long)frame * PATCHES + patch) * STRIDE + col] + bias[col] + positions[patch * COLS + col];
    }
    x[((long)frame * TOKENS + token) * STRIDE + col] = value;
    if (token == 0) {
        offset[(long)frame * STRIDE + col] = 0.0f;
    }
}

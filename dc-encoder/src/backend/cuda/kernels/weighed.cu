// The values of landmarks, without the centre, as an operand: [frames * HEADS, SIZE, WIDTH] in f32 to the same shape.

extern "C" __global__ void KERNEL(const float *values, const float *whole, T *output) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= SIZE * WIDTH) {
        return;
    }
    int head = blockIdx.z % HEADS, frame = blockIdx.z / HEADS;
    float centre = whole[(long)frame * WHOLE_STRIDE + 2 * HEADS * WIDTH + head * WIDTH + at % WIDTH];
    long to = (long)blockIdx.z * SIZE * WIDTH + at;
    output[to] = narrow<T>(values[to] - centre);
}

// Frames to the operand of the patch embedding: bytes (y, x, channel) to rows [patches, channel * PATCH² + y * PATCH + x],
// less 128, which is exact in every format; the rest of the normalisation is in the weights.
// A thread takes one number of every patch of one row of the grid.

constexpr int AREA = PATCH * PATCH;

extern "C" __global__ void KERNEL(const unsigned char *frames, T *output) {
    int number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= 3 * AREA) {
        return;
    }
    int channel = number / AREA;
    int line = blockIdx.y * PATCH + number % AREA / PATCH;
    const unsigned char *from =
        frames + (long)blockIdx.z * FRAME_BYTES + 3L * (line * GRID_COLS * PATCH + number % PATCH) + channel;
    T *to = output + ((long)blockIdx.z * GRID_ROWS + blockIdx.y) * GRID_COLS * STRIDE + number;
    for (int col = 0; col < GRID_COLS; col++) {
        to[(long)col * STRIDE] = narrow<T>((float)from[3 * col * PATCH] - 128.0f);
    }
}

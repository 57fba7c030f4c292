// What a layer gives all rows of a frame goes to the frame's offset, and not to each row: offset [frames, STRIDE] += the
// layer's sums [frames * SPLIT, STRIDE] of the centre, and its bias.

extern "C" __global__ void KERNEL(const float *sums, const float *bias, float *offset) {
    int col = blockIdx.x * blockDim.x + threadIdx.x;
    if (col < COLS) {
        offset[(long)blockIdx.z * STRIDE + col] += joined<SPLIT>(sums, bias, STRIDE, blockIdx.z, col);
    }
}

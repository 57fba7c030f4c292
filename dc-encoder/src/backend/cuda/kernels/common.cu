// What a layer gives all rows of a frame: its sums [frames * SPLIT, STRIDE] of the centre, and its bias, to
// whole [frames, STRIDE]. Columns FIRST.. are the centre of the next operand, through GELU where the rows go through it:
// [frames, NEXT_STRIDE], and split over rows of that operand, [frames * SPLIT, NEXT_STRIDE].

extern "C" __global__ void KERNEL(const float *sums, const float *bias, float *whole, float *centre, T *rows) {
    int col = blockIdx.x * blockDim.x + threadIdx.x;
    if (col >= COLS) {
        return;
    }
    int frame = blockIdx.z;
    float value = joined<SPLIT>(sums, bias, STRIDE, frame, col);
    whole[(long)frame * STRIDE + col] = value;
    if (col >= FIRST) {
        float next = GELU ? gelu(value) : value;
        centre[(long)frame * NEXT_STRIDE + col - FIRST] = next;
        split<T, SPLIT>(next, rows, NEXT_STRIDE, frame, col - FIRST);
    }
}

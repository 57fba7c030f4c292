// GELU in place: hidden [frames * TOKENS, STRIDE] without what the layer gives all rows of the frame (whole [frames,
// STRIDE]) becomes GELU of all of it without what that makes of the whole (centre [frames, STRIDE]).
// A thread takes sixteen bytes of ROWS rows; what lies beyond the columns is never read by a product.

extern "C" __global__ void KERNEL(T *hidden, const float *whole, const float *centre) {
    constexpr int COUNT = Pack<T>::COUNT;
    int first = (blockIdx.x * blockDim.x + threadIdx.x) * COUNT;
    if (first >= STRIDE) {
        return;
    }
    int frame = blockIdx.z;
    float add[COUNT], less[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        add[i] = whole[(long)frame * STRIDE + first + i];
        less[i] = centre[(long)frame * STRIDE + first + i];
    }
    for (int token = blockIdx.y * ROWS; token < TOKENS && token < (blockIdx.y + 1) * ROWS; token++) {
        Pack<T> *at = (Pack<T> *)(hidden + ((long)frame * TOKENS + token) * STRIDE + first);
        Pack<T> values = *at;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            values.numbers[i] = narrow<T>(gelu(wide(values.numbers[i]) + add[i]) - less[i]);
        }
        *at = values;
    }
}

// What every kernel has: numbers in two formats, sums over a warp, and tensor core products. NVRTC compiles it for a GPU;
// the tests compile the same text with a C++ compiler, behind `host.h`, which stands in for a GPU.

#ifdef __CUDACC_RTC__
typedef unsigned short uint16;
typedef unsigned int uint32;
#define FOR_GPU 1
#else
#define FOR_GPU 0
#endif

struct bf16 {
    uint16 bits;
};

__device__ inline float wide(float value) {
    return value;
}

__device__ inline float wide(bf16 value) {
    return __uint_as_float((uint32)value.bits << 16);
}

template <class T>
__device__ inline T narrow(float value);

template <>
__device__ inline float narrow<float>(float value) {
    return value;
}

// To the nearest, ties to even; what is not a number stays so.
template <>
__device__ inline bf16 narrow<bf16>(float value) {
    bf16 result;
#if FOR_GPU
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
#else
    uint32 bits = __float_as_uint(value);
    result.bits = value != value ? 0x7fff : (uint16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#endif
    return result;
}

// As many numbers as one load of sixteen bytes has.
template <class T>
struct alignas(16) Pack {
    static constexpr int COUNT = 16 / sizeof(T);
    T numbers[COUNT];
};

// Two numbers in one word, the first in the lower half.
__device__ inline uint32 pair(float low, float high) {
    return (uint32)narrow<bf16>(high).bits << 16 | narrow<bf16>(low).bits;
}

constexpr int WARP = 32;
// Less than any score; its power of e is zero.
constexpr float LOWEST = -3e38f;

// The sum over the threads of a warp, in all of them.
__device__ inline float warp_sum(float value) {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        value += __shfl_xor_sync(0xffffffff, value, lanes);
    }
    return value;
}

__device__ inline float warp_most(float value) {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, lanes));
    }
    return value;
}

// Exact GELU; the error function to 4e-7 absolute, with the coefficients of `model::ops`. (cuBLASLt's own epilogue is the
// approximation by tanh: another function.)
__device__ inline float gelu(float value) {
    float x = fminf(fmaxf(value * 0.70710678f, -3.832507f), 3.832507f);
    float s = x * x;
    float top = (((2.2905066e-4f * s + 3.408291e-3f) * s + 5.0955695e-2f) * s + 0.18520832f) * s + 1.1283792f;
    float high = ((-1.1791603e-7f * s + 2.3547966e-5f) * s + 1.0179625e-3f) * s + 1.407047e-2f;
    float low = ((high * s + 0.11098505f) * s + 0.49746925f) * s + 1.0f;
    return 0.5f * value * (1.0f + __fdividef(x * top, low));
}

// The sum of what a product made of the rows that a centre was split over, and the bias.
template <int SPLIT>
__device__ inline float joined(const float *sums, const float *bias, int stride, int frame, int col) {
    float sum = bias[col];
    for (int part = 0; part < SPLIT; part++) {
        sum += sums[(long)(frame * SPLIT + part) * stride + col];
    }
    return sum;
}

// Splits a number over rows of a format: each holds what the ones before have rounded away.
template <class T, int SPLIT>
__device__ inline void split(float value, T *rows, int stride, int frame, int col) {
    for (int part = 0; part < SPLIT; part++) {
        T rounded = narrow<T>(value);
        rows[(long)(frame * SPLIT + part) * stride + col] = rounded;
        value -= wide(rounded);
    }
}

#if FOR_GPU
// Four 8 by 8 matrices of bf16 from shared memory: each thread of the warp gives the address of a row.
__device__ inline void load_matrices(uint32 (&to)[4], const bf16 *row) {
    uint32 address = (uint32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// The same, each matrix transposed.
__device__ inline void load_transposed(uint32 (&to)[4], const bf16 *row) {
    uint32 address = (uint32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// sums [16, 8] += left [16, 16] · right [16, 8]: bf16 operands, f32 sums, spread over a warp.
__device__ inline void multiply(float (&sums)[4], const uint32 (&left)[4], uint32 right0, uint32 right1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
}
#endif

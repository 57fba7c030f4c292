// Stands in for a GPU: kernels run on the processor, so that their arithmetic and their indices can be tested where there
// is no card. Threads are fibres that run one after another; a warp runs up to a barrier of the block before the next one
// begins, in every other block in reverse, so that a missing barrier shows. What needs all threads of a warp or of a block
// and does not get them ends the program. Memory ends where an unreadable page begins, and holds no number before something is written.

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

typedef uint16_t uint16;
typedef uint32_t uint32;

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
using std::min;

struct dim3 {
    int x, y, z;
};

static dim3 blockIdx, blockDim, threadIdx;

inline float __uint_as_float(uint32 bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32 __float_as_uint(float value) {
    uint32 bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float __fdividef(float top, float bottom) {
    return top / bottom;
}

inline float rsqrtf(float value) {
    return 1.0f / sqrtf(value);
}

// Threads.

constexpr int LANES = 32;
constexpr size_t STACK = 64 << 10;

enum class State { Runs, AtWarp, AtBlock, Done };

struct Fibre {
    ucontext_t context;
    std::vector<char> stack;
    State state;
};

static std::vector<Fibre> fibres;
static ucontext_t scheduler;
static int current;
static const std::function<void()> *body;
// What a thread shows to its warp.
static unsigned char shown[1024][64];

[[noreturn]] inline void fail(const char *reason) {
    fprintf(stderr, "thread %d of block %d, %d, %d: %s\n", current, blockIdx.x, blockIdx.y, blockIdx.z, reason);
    exit(1);
}

inline void wait_at(State state) {
    fibres[current].state = state;
    swapcontext(&fibres[current].context, &scheduler);
}

inline void __syncthreads() {
    wait_at(State::AtBlock);
}

inline void run_fibre() {
    (*body)();
    fibres[current].state = State::Done;
    swapcontext(&fibres[current].context, &scheduler);
}

inline bool release(int first, int end, State state) {
    int waiting = 0, done = 0;
    for (int i = first; i < end; i++) {
        waiting += fibres[i].state == state;
        done += fibres[i].state == State::Done;
    }
    // Threads that are done are not waited for at a block's barrier; a warp needs all of its own.
    if (waiting == 0 || waiting + (state == State::AtBlock ? done : 0) < end - first) {
        return false;
    }
    for (int i = first; i < end; i++) {
        if (fibres[i].state == state) {
            fibres[i].state = State::Runs;
        }
    }
    return true;
}

// Runs a warp until all of its threads are at a barrier of the block or done: as far ahead of the other warps as it can be.
inline void run_warp(int first, int end, bool reverse) {
    do {
        for (int i = first; i < end; i++) {
            current = reverse ? first + end - 1 - i : i;
            if (fibres[current].state == State::Runs) {
                threadIdx = {current, 0, 0};
                swapcontext(&scheduler, &fibres[current].context);
            }
        }
    } while (release(first, end, State::AtWarp));
}

inline void run_block(int threads, bool reverse) {
    for (int i = 0; i < threads; i++) {
        Fibre &fibre = fibres[i];
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = fibre.stack.data();
        fibre.context.uc_stack.ss_size = fibre.stack.size();
        makecontext(&fibre.context, run_fibre, 0);
        fibre.state = State::Runs;
    }
    int warps = (threads + LANES - 1) / LANES;
    do {
        for (int i = 0; i < warps; i++) {
            int first = (reverse ? warps - 1 - i : i) * LANES;
            run_warp(first, std::min(first + LANES, threads), reverse);
        }
    } while (release(0, threads, State::AtBlock));
    for (current = 0; current < threads; current++) {
        if (fibres[current].state != State::Done) {
            fail("waits for threads that do not come");
        }
    }
}

inline void launch(dim3 grid, int threads, const std::function<void()> &kernel) {
    while ((int)fibres.size() < threads) {
        fibres.emplace_back();
        fibres.back().stack.resize(STACK);
    }
    body = &kernel;
    blockDim = {threads, 1, 1};
    for (int z = 0; z < grid.z; z++) {
        for (int y = 0; y < grid.y; y++) {
            for (int x = 0; x < grid.x; x++) {
                blockIdx = {x, y, z};
                run_block(threads, (x + y + z) % 2 == 1);
            }
        }
    }
}

// What a warp does together.

template <class T>
inline void show(const T &value) {
    static_assert(sizeof(T) <= sizeof shown[0]);
    memcpy(shown[current], &value, sizeof value);
    wait_at(State::AtWarp);
}

template <class T>
inline T seen(int lane) {
    T value;
    memcpy(&value, shown[current / LANES * LANES + lane], sizeof value);
    return value;
}

inline float __shfl_xor_sync(uint32 mask, float value, int lanes) {
    if (mask != 0xffffffff) {
        fail("a warp's exchange without all of its threads");
    }
    show(value);
    float result = seen<float>(current % LANES ^ lanes);
    wait_at(State::AtWarp);
    return result;
}

// Four 8 by 8 matrices, the rows of matrix `i` at the addresses of threads 8 i to 8 i + 7 (PTX ISA, ldmatrix).
inline void load(uint32 (&to)[4], const void *row, bool transposed) {
    if ((uintptr_t)row % 16 != 0) {
        fail("a row of a matrix does not begin at a multiple of sixteen bytes");
    }
    show(row);
    int lane = current % LANES;
    for (int matrix = 0; matrix < 4; matrix++) {
        uint32 halves[2];
        for (int half = 0; half < 2; half++) {
            int at_row = transposed ? lane % 4 * 2 + half : lane / 4;
            int at_col = transposed ? lane / 4 : lane % 4 * 2 + half;
            halves[half] = seen<const uint16 *>(8 * matrix + at_row)[at_col];
        }
        to[matrix] = halves[1] << 16 | halves[0];
    }
    wait_at(State::AtWarp);
}

template <class B>
inline void load_matrices(uint32 (&to)[4], const B *row) {
    load(to, row, false);
}

template <class B>
inline void load_transposed(uint32 (&to)[4], const B *row) {
    load(to, row, true);
}

// sums [16, 8] += left [16, 16] · right [16, 8] (PTX ISA, the fragments of mma.m16n8k16 for .bf16).
inline void multiply(float (&sums)[4], const uint32 (&left)[4], uint32 right0, uint32 right1) {
    struct Operands {
        uint32 left[4], right[2];
    } mine;
    memcpy(mine.left, left, sizeof left);
    mine.right[0] = right0;
    mine.right[1] = right1;
    show(mine);
    auto half = [](uint32 word, int index) { return __uint_as_float(index ? word & 0xffff0000 : word << 16); };
    int lane = current % LANES;
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + i / 2 * 8, col = lane % 4 * 2 + i % 2;
        double sum = sums[i];
        for (int k = 0; k < 16; k++) {
            int owner = k % 8 / 2;
            uint32 a = seen<Operands>(row % 8 * 4 + owner).left[row / 8 + k / 8 * 2];
            uint32 b = seen<Operands>(col * 4 + owner).right[k / 8];
            sum += (double)half(a, k % 2) * half(b, k % 2);
        }
        sums[i] = (float)sum;
    }
    wait_at(State::AtWarp);
}

// Memory.

// So many bytes that hold no number, in front of a page that cannot be read.
inline unsigned char *memory(size_t bytes) {
    const size_t page = 4096;
    size_t whole = (bytes + page - 1) / page * page;
    char *start =
        (char *)mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED || mprotect(start + whole, page, PROT_NONE) != 0) {
        fail("there is no memory");
    }
    unsigned char *first = (unsigned char *)start + whole - bytes;
    memset(first, 0xff, bytes);
    return first;
}

inline void read_all(unsigned char *to, size_t bytes) {
    if (fread(to, 1, bytes, stdin) != bytes) {
        fail("the input ends early");
    }
}

inline void write_all(const unsigned char *from, size_t bytes) {
    if (fwrite(from, 1, bytes, stdout) != bytes) {
        fail("the output cannot be written");
    }
}

// A pointer of whatever type a kernel takes.
struct Pointer {
    unsigned char *bytes;
    template <class T>
    operator T *() const {
        return (T *)bytes;
    }
};

// Products, as cuBLASLt describes them: column by column.

struct Layout {
    unsigned char *bytes;
    bool half, transposed;
    long leading, batch;
    float at(long matrix, long row, long col) const {
        if (transposed) {
            std::swap(row, col);
        }
        long index = matrix * batch + col * leading + row;
        uint16 word;
        float value;
        if (half) {
            memcpy(&word, bytes + 2 * index, 2);
            return __uint_as_float((uint32)word << 16);
        }
        memcpy(&value, bytes + 4 * index, 4);
        return value;
    }
};

struct Gemm {
    int m, n, k, count;
    float alpha, beta;
    Layout a, b, c, d;
    const float *bias;
};

template <class N>
inline void product(const Gemm &gemm, N narrow) {
    for (int matrix = 0; matrix < gemm.count; matrix++) {
        for (int col = 0; col < gemm.n; col++) {
            for (int row = 0; row < gemm.m; row++) {
                float sum = 0.0f;
                for (int k = 0; k < gemm.k; k++) {
                    sum += gemm.a.at(matrix, row, k) * gemm.b.at(matrix, k, col);
                }
                sum *= gemm.alpha;
                if (gemm.beta != 0.0f) {
                    sum += gemm.beta * gemm.c.at(matrix, row, col);
                }
                if (gemm.bias) {
                    sum += gemm.bias[row];
                }
                unsigned char *to = gemm.d.bytes;
                long index = matrix * gemm.d.batch + col * gemm.d.leading + row;
                if (gemm.d.half) {
                    uint16 bits = narrow(sum).bits;
                    memcpy(to + 2 * index, &bits, 2);
                } else {
                    memcpy(to + 4 * index, &sum, 4);
                }
            }
        }
    }
}

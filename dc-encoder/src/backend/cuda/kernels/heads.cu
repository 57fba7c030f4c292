// Where the rows of a head of a frame lie, and what becomes of an attention's result; shared by its two kernels.

// What was taken from the queries (whole, [frames, WHOLE_STRIDE]) goes back into them where they are of tokens.
__device__ inline float query(const T *queries, const float *whole, int frame, int head, int row, int col) {
    float value = wide(queries[(long)frame * Q_FRAME + head * Q_HEAD + (long)row * Q_ROW + Q_FIRST + col]);
    return QUERIES_CENTRED ? value + whole[(long)frame * WHOLE_STRIDE + head * WIDTH + col] : value;
}

__device__ inline float centre_of_values(const float *whole, int frame, int head, int col) {
    return whole[(long)frame * WHOLE_STRIDE + 2 * HEADS * WIDTH + head * WIDTH + col];
}

// A result as it is stored: with the centre of the values where WHOLE_RESULT, and with the depthwise convolution of the
// tokens' values (a cross-correlation, zeros beyond both ends, one kernel a head) where there are TAPS.
__device__ inline void finish(
    const T *convolved, const float *whole, const float *weight, O *output, int frame, int head, int row, int col,
    float value) {
    float centre = WHOLE_RESULT || TAPS > 0 ? centre_of_values(whole, frame, head, col) : 0.0f;
    if (WHOLE_RESULT) {
        value += centre;
    }
    for (int tap = 0; tap < TAPS; tap++) {
        int at = row + tap - TAPS / 2;
        if (at >= 0 && at < QUERIES) {
            const T *from = convolved + ((long)frame * QUERIES + at) * C_ROW + C_FIRST + head * WIDTH;
            value += weight[head * TAPS + tap] * (wide(from[col]) + centre);
        }
    }
    output[(long)frame * O_FRAME + head * O_HEAD + (long)row * O_ROW + col] = narrow<O>(value);
}

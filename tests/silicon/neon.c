/* Sequences of AArch64 vector instructions as the kernels of libraries have them, as a program without a
   library: it reads a header (which, rows, channels, taps, fold), inputs (rows, taps), weights (channels,
   taps) and starting values (channels) from its input and writes int32 (rows, channels). Taps are a
   multiple of 16, of 128 where lanes are folded. */

#include <arm_neon.h>
#include <stdint.h>

#define MOST (1 << 23)

static int8_t inputs[MOST], weights[MOST];
static int32_t start[1 << 12], row[1 << 12];

static long kernel_call(long number, long a, const void *b, long c) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register const void *x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}

static void leave(int code) {
    for (;;) kernel_call(94, code, 0, 0);
}

static void take(void *where, long bytes) {
    for (long done = 0, got; done < bytes; done += got)
        if ((got = kernel_call(63, 0, (char *)where + done, bytes - done)) <= 0) leave(2);
}

static void give(const void *where, long bytes) {
    for (long done = 0, got; done < bytes; done += got)
        if ((got = kernel_call(64, 1, (const char *)where + done, bytes - done)) <= 0) leave(3);
}

typedef int32_t sequence(const int8_t *x, const int8_t *w, long taps, long fold, int32_t start);

static inline int32x4_t first(int32_t value) { return vsetq_lane_s32(value, vdupq_n_s32(0), 0); }

/* smull, smlal2 in 16 bits, sadalp: XNNPACK's c8, gemmlowp, MLAS. */
__attribute__((noinline)) int32_t mull_mlal(const int8_t *x, const int8_t *w, long taps, long fold, int32_t from) {
    int32x4_t sum = first(from);
    (void)fold;
    for (long k = 0; k < taps; k += 16) {
        const int8x16_t a = vld1q_s8(x + k), b = vld1q_s8(w + k);
        int16x8_t two = vmull_s8(vget_low_s8(a), vget_low_s8(b));
        two = vmlal_high_s8(two, a, b);
        sum = vpadalq_s16(sum, two);
    }
    return vaddvq_s32(sum);
}

/* smlal, smlal2 in 16 bits for `fold` taps, then 32 bits: BitNet's codes without dot products. */
__attribute__((noinline)) int32_t mlal_chain(const int8_t *x, const int8_t *w, long taps, long fold, int32_t from) {
    int32x4_t sum = first(from);
    for (long k = 0; k < taps; k += fold) {
        const long end = k + fold < taps ? k + fold : taps;
        int16x8_t lane = vdupq_n_s16(0);
        for (long i = k; i < end; i += 16) {
            const int8x16_t a = vld1q_s8(x + i), b = vld1q_s8(w + i);
            lane = vmlal_s8(lane, vget_low_s8(a), vget_low_s8(b));
            lane = vmlal_high_s8(lane, a, b);
        }
        sum = vaddq_s32(sum, vmovl_s16(vget_low_s16(lane)));
        sum = vaddq_s32(sum, vmovl_high_s16(lane));
    }
    return vaddvq_s32(sum);
}

/* smull, sqadd in 16 bits, eight lanes that stay apart: the eight are eight outputs of one channel each. */
__attribute__((noinline)) void qadd_chain(const int8_t *x, const int8_t *w, long taps, int32_t *out) {
    int16x8_t lane = vmovn_high_s32(vmovn_s32(vld1q_s32(out)), vld1q_s32(out + 4));
    for (long k = 0; k < taps; k++)
        lane = vqaddq_s16(lane, vmull_s8(vdup_n_s8(x[k]), vld1_s8(w + 8 * k)));
    vst1q_s32(out, vmovl_s16(vget_low_s16(lane)));
    vst1q_s32(out + 4, vmovl_high_s16(lane));
}

__attribute__((noinline)) int32_t sdot(const int8_t *x, const int8_t *w, long taps, long fold, int32_t from) {
    int32x4_t sum = first(from);
    (void)fold;
    for (long k = 0; k < taps; k += 16) sum = vdotq_s32(sum, vld1q_s8(x + k), vld1q_s8(w + k));
    return vaddvq_s32(sum);
}

__attribute__((noinline)) int32_t udot(const int8_t *x, const int8_t *w, long taps, long fold, int32_t from) {
    uint32x4_t sum = vreinterpretq_u32_s32(first(from));
    (void)fold;
    for (long k = 0; k < taps; k += 16)
        sum = vdotq_u32(sum, vld1q_u8((const uint8_t *)x + k), vld1q_u8((const uint8_t *)w + k));
    return (int32_t)vaddvq_u32(sum);
}

/* Rows 0 of both operands are the row and the channel, rows 1 nothing: one result in four. */
__attribute__((noinline)) int32_t smmla(const int8_t *x, const int8_t *w, long taps, long fold, int32_t from) {
    int32x4_t sum = first(from);
    const int8x8_t none = vdup_n_s8(0);
    (void)fold;
    for (long k = 0; k < taps; k += 8)
        sum = vmmlaq_s32(sum, vcombine_s8(vld1_s8(x + k), none), vcombine_s8(vld1_s8(w + k), none));
    return vgetq_lane_s32(sum, 0);
}

void _start(void) {
    static sequence *const all[] = {mull_mlal, mlal_chain, sdot, udot, smmla};
    int64_t head[5];
    take(head, sizeof head);
    const long which = head[0], rows = head[1], channels = head[2], taps = head[3], fold = head[4];
    if (rows * taps > MOST || channels * taps > MOST || channels > 1 << 12) leave(4);
    take(inputs, rows * taps);
    take(weights, channels * taps);
    take(start, channels * 4);
    for (long r = 0; r < rows; r++) {
        for (long c = 0; c < channels; c += which < 5 ? 1 : 8)
            if (which < 5) {
                row[c] = all[which](inputs + r * taps, weights + c * taps, taps, fold, start[c]);
            } else {
                for (long i = c; i < c + 8; i++) row[i] = start[i];
                qadd_chain(inputs + r * taps, weights + c * taps, taps, row + c);
            }
        give(row, channels * 4);
    }
    leave(0);
}

/* Sequences of x86 instructions as the kernels of libraries have them: rows of inputs against packed
   weights, one 32-bit output for each row and channel. Inputs are (rows, taps) bytes, taps a multiple
   of the pack's depth; see `pack` in silicon.py for the weights. Starting values are one per channel. */

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define COLUMNS 8

static inline __m256i four(const uint8_t *x) {
    int32_t bytes;
    memcpy(&bytes, x, 4);
    return _mm256_set1_epi32(bytes);
}

static inline __m256i at(const void *where) { return _mm256_loadu_si256((const __m256i *)where); }

#define QUADS(NAME, STEP)                                                                        \
    void NAME(const uint8_t *x, const int8_t *w, const int32_t *start, int32_t *out, long rows,  \
              long channels, long taps) {                                                        \
        const __m256i ones = _mm256_set1_epi16(1);                                               \
        (void)ones;                                                                              \
        for (long r = 0; r < rows; r++)                                                          \
            for (long c = 0; c < channels; c += COLUMNS) {                                       \
                __m256i sum = at(start + c);                                                     \
                for (long k = 0; k < taps; k += 4) {                                             \
                    const __m256i a = four(x + r * taps + k);                                    \
                    const __m256i b = at(w + c * taps + k * COLUMNS);                            \
                    sum = STEP;                                                                  \
                }                                                                                \
                _mm256_storeu_si256((__m256i *)(out + r * channels + c), sum);                   \
            }                                                                                    \
    }

QUADS(maddubs_madd, _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones)))

#ifdef __AVX512VNNI__
QUADS(dpbusd, _mm256_dpbusd_epi32(sum, a, b))
QUADS(dpbusds, _mm256_dpbusds_epi32(sum, a, b))
#endif

/* Signed bytes widened to 16 bits, pairs of products in 32 bits: XNNPACK. */
void madd(const int8_t *x, const int8_t *w, const int32_t *start, int32_t *out, long rows,
          long channels, long taps) {
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < channels; c += COLUMNS) {
            __m256i sum = at(start + c);
            for (long k = 0; k < taps; k += 2) {
                const uint16_t first = (uint16_t)x[r * taps + k], second = (uint16_t)x[r * taps + k + 1];
                const __m256i a = _mm256_set1_epi32((int32_t)(first | (uint32_t)second << 16));
                const __m128i b = _mm_loadu_si128((const __m128i *)(w + c * taps + k * COLUMNS));
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, _mm256_cvtepi8_epi16(b)));
            }
            _mm256_storeu_si256((__m256i *)(out + r * channels + c), sum);
        }
}

/* Pairs of taps into 16-bit lanes, one per channel, spilled to 32 bits every `fold` taps. */
void maddubs_adds(const uint8_t *x, const int8_t *w, const int32_t *start, int32_t *out, long rows,
                  long channels, long taps, long fold) {
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < channels; c += 2 * COLUMNS) {
            __m256i low = at(start + c), high = at(start + c + COLUMNS);
            for (long k = 0; k < taps; k += fold) {
                const long end = k + fold < taps ? k + fold : taps;
                __m256i lane = _mm256_setzero_si256();
                for (long i = k; i < end; i += 2) {
                    int16_t two;
                    memcpy(&two, x + r * taps + i, 2);
                    const __m256i b = at(w + c * taps + i * 2 * COLUMNS);
                    lane = _mm256_adds_epi16(_mm256_maddubs_epi16(_mm256_set1_epi16(two), b), lane);
                }
                low = _mm256_add_epi32(low, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(lane)));
                high = _mm256_add_epi32(high, _mm256_cvtepi16_epi32(_mm256_extracti128_si256(lane, 1)));
            }
            _mm256_storeu_si256((__m256i *)(out + r * channels + c), low);
            _mm256_storeu_si256((__m256i *)(out + r * channels + c + COLUMNS), high);
        }
}

/* Codes of 0 to 2 against signed bytes, 32 taps at a time: 16 lanes of 16 bits that take `fold` taps, then
   32-bit sums; `w` (channels, taps) holds the codes, `x` the bytes. */
void maddubs_add(const int8_t *x, const uint8_t *w, const int32_t *start, int32_t *out, long rows,
                 long channels, long taps, long fold) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < channels; c++) {
            __m256i sum = _mm256_setzero_si256();
            for (long k = 0; k < taps; k += fold) {
                const long end = k + fold < taps ? k + fold : taps;
                __m256i lane = _mm256_setzero_si256();
                for (long i = k; i < end; i += 32)
                    lane = _mm256_add_epi16(
                        lane, _mm256_maddubs_epi16(at(w + c * taps + i), at(x + r * taps + i)));
                sum = _mm256_add_epi32(_mm256_madd_epi16(lane, ones), sum);
            }
            int32_t lanes[8];
            _mm256_storeu_si256((__m256i *)lanes, sum);
            uint32_t total = (uint32_t)start[c];
            for (int i = 0; i < 8; i++) total += (uint32_t)lanes[i];
            out[r * channels + c] = (int32_t)total;
        }
}

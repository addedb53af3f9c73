// Accumulators of the types that FPGA compilers have: each product is added to a variable of such a type, in index order, as
// it is or cast to that type first.

#include <ap_fixed.h>
#include <ap_int.h>
#include <cstdint>

template <typename Sum, bool cast>
static void run(const uint8_t *x, const int8_t *w, const int32_t *start, int32_t *out, long rows, long channels, long taps) {
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < channels; c++) {
            Sum sum = start[c];
            for (long k = 0; k < taps; k++) {
                const ap_uint<8> a = x[r * taps + k];
                const ap_int<8> b = w[c * taps + k];
                if (cast)
                    sum += Sum(a * b);
                else
                    sum += a * b;
            }
            out[r * channels + c] = sum.to_int();
        }
}

#define ACCUMULATE(NAME, CAST, ...)                                                                                       \
    extern "C" void NAME(const uint8_t *x, const int8_t *w, const int32_t *start, int32_t *out, long rows, long channels, \
                         long taps) {                                                                                     \
        run<__VA_ARGS__, CAST>(x, w, start, out, rows, channels, taps);                                                   \
    }

ACCUMULATE(ap_int_16, false, ap_int<16>)
ACCUMULATE(ap_fixed_16_sat, false, ap_fixed<16, 16, AP_TRN, AP_SAT>)
ACCUMULATE(ap_fixed_10_sat, false, ap_fixed<10, 10, AP_TRN, AP_SAT>)
ACCUMULATE(ap_fixed_10_sat_cast, true, ap_fixed<10, 10, AP_TRN, AP_SAT>)

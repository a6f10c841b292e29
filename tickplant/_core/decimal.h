/* Decimal text to float64, correctly rounded, and the number of decimals it was written with.
 *
 * Algorithm. Up to 19 digits are read as an integer. When that is below 2^53 and the power of ten at most 10^22, both are
 * exact float64s, so one division or multiplication rounds once, and correctly (W. D. Clinger, "How to read floating
 * point numbers accurately", PLDI 1990). Anything else is left to the caller's slow way. Accepted is what JSON accepts
 * for a number (RFC 8259, section 6), and leading zeros, which some venues send. */
#ifndef TP_DECIMAL_H
#define TP_DECIMAL_H
#include <stdint.h>

enum decimal_is { DECIMAL_FAST, DECIMAL_SLOW, DECIMAL_NONE };
enum { DECIMALS_UNKNOWN = 255 }; /* written with an exponent */

struct decimal {
    double value;
    const char *end; /* behind the number */
    enum decimal_is is;
    uint8_t decimals;
};

static const double TEN_TO[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* Read a number from [p, end). */
static inline struct decimal decimal_read(const char *p, const char *end) {
    struct decimal d = {0, p, DECIMAL_NONE, 0};
    uint64_t digits = 0;
    int n = 0, decimals = 0, seen = 0, negative = 0, exponent = 0;
    if (p < end && *p == '-') negative = 1, p++;
    for (; p < end && (uint8_t)(*p - '0') < 10; p++, seen++) {
        if (n < 19) digits = digits * 10 + (uint8_t)(*p - '0');
        n += digits != 0;
    }
    if (!seen) return d;
    if (p < end && *p == '.') {
        int whole = seen;
        for (p++; p < end && (uint8_t)(*p - '0') < 10; p++, seen++, decimals++) {
            if (n < 19) digits = digits * 10 + (uint8_t)(*p - '0');
            n += digits != 0;
        }
        if (seen == whole) return d;
    }
    d.decimals = decimals > 254 ? 254 : (uint8_t)decimals;
    if (p < end && (*p == 'e' || *p == 'E')) {
        int minus = 0, any = 0;
        d.decimals = DECIMALS_UNKNOWN;
        if (++p < end && (*p == '+' || *p == '-')) minus = *p++ == '-';
        for (; p < end && (uint8_t)(*p - '0') < 10; p++, any++)
            if (exponent < 10000) exponent = exponent * 10 + (*p - '0');
        if (!any) return d;
        if (minus) exponent = -exponent;
    }
    d.end = p;
    exponent -= decimals;
    if (n >= 19 || digits > (UINT64_C(1) << 53) || exponent < -22 || exponent > 22) {
        d.is = DECIMAL_SLOW;
        return d;
    }
    d.is = DECIMAL_FAST;
    d.value = exponent < 0 ? (double)digits / TEN_TO[-exponent] : (double)digits * TEN_TO[exponent];
    if (negative) d.value = -d.value;
    return d;
}
#endif

/* Decimal text to float64, correctly rounded, and the number of decimals it was written with; and back to that text.
 *
 * Algorithm. Up to 19 digits are read as an integer. When that is below 2^53 and the power of ten at most 10^22, both are
 * exact float64s, so one division or multiplication rounds once, and correctly (W. D. Clinger, "How to read floating
 * point numbers accurately", PLDI 1990). Anything else is left to the caller's slow way. Accepted is what JSON accepts
 * for a number (RFC 8259, section 6), and leading zeros, which some venues send. */
#ifndef TP_DECIMAL_H
#define TP_DECIMAL_H
#include <math.h>
#include <stdint.h>
#include <string.h>

enum decimal_is { DECIMAL_FAST, DECIMAL_SLOW, DECIMAL_NONE };
enum { DECIMALS_UNKNOWN = 255 }; /* written with an exponent */
enum { NUMBER_ROOM = 34 };       /* a sign, sixteen digits, a point, sixteen more that do not count */

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

/* A number that is not below 0 as an integer: as if written with so many decimals, but without the point. -1 if
 * it has more digits than a float64 is sure to keep: below 2^51 the two roundings, of the text and of the
 * product, add up to less than 1/2. */
static inline int64_t number_digits(double value, unsigned decimals) {
    if (decimals > 22) return -1;
    double scaled = value * TEN_TO[decimals];
    if (!(scaled < 0x1p51)) return -1;
    int64_t whole = (int64_t)scaled;
    return whole + (scaled - (double)whole >= 0.5);
}

/* The digits of a number below 10^8 as eight characters, the first in the lowest byte: four digits of it in each
 * half of the word, then two in each quarter, then one in each byte, by multiplying with 1/100 and 1/10. */
static inline uint64_t eight_digits(uint32_t v) {
    uint64_t x = v / 10000 | (uint64_t)(v % 10000) << 32;
    uint64_t above = (x * 10486 >> 20) & UINT64_C(0x0000007f0000007f);
    x = above | (x - above * 100) << 16;
    above = (x * 103 >> 10) & UINT64_C(0x000f000f000f000f);
    return (above | (x - above * 10) << 8) + UINT64_C(0x3030303030303030);
}

/* The last `n` digits (1 to 16) of the sixteen in `digits`, the first of them in the lowest byte. */
static inline unsigned __int128 last_digits(unsigned __int128 digits, int n) { return digits >> 8 * (16 - n); }

/* A number below 10^16 as sixteen digits, and how many of them it has without leading zeros; 1 for 0. */
static inline unsigned __int128 sixteen_digits(uint64_t v, int *count) {
    static const uint64_t TENS[] = {
        0, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000, 100000000000,
        1000000000000, 10000000000000, 100000000000000, 1000000000000000};
    int about = (64 - __builtin_clzll(v | 1)) * 1233 >> 12; /* its logarithm, for 2's is 1233 / 4096 */
    *count = about + (v >= TENS[about]);
    uint64_t front = eight_digits((uint32_t)(v / 100000000));
    uint64_t back = eight_digits((uint32_t)(v % 100000000));
    return (unsigned __int128)back << 64 | front;
}

/* Write an integer that `number_digits` gave into room for 16; how many characters it has. */
static inline int digits_write(char *text, int64_t v) {
    int n;
    unsigned __int128 digits = sixteen_digits((uint64_t)v, &n);
    digits = last_digits(digits, n);
    memcpy(text, &digits, 16);
    return n;
}

/* Write a number as it was written, with so many decimals, into room for NUMBER_ROOM; how many characters it has.
 * 0 if it has more digits than a float64 is sure to keep, or more than 15 decimals. (Printing a float64 exactly,
 * as snprintf does, takes far longer.) */
static inline int number_write(char *text, double value, unsigned decimals) {
    int64_t v = decimals > 15 ? -1 : number_digits(fabs(value), decimals);
    if (v < 0) return 0;
    int places = (int)decimals, whole, at = 0;
    unsigned __int128 digits = sixteen_digits((uint64_t)v, &whole);
    whole = whole > places ? whole - places : 1;
    if (signbit(value)) text[at++] = '-';
    unsigned __int128 first = last_digits(digits, whole + places);
    memcpy(text + at, &first, 16);
    if (!places) return at + whole;
    unsigned __int128 behind = last_digits(digits, places);
    text[at + whole] = '.';
    memcpy(text + at + whole + 1, &behind, 16);
    return at + whole + 1 + places;
}
#endif

/* Times as most venues write them, 2021-12-12T23:05:29.9692063Z, to nanoseconds since 1970.
 *
 * Only this form, in UTC, with none to nine decimals, and only from 1970 to 2261 (which fit into 63 bits):
 * anything else is left to the caller's slow way. */
#ifndef TP_ISOTIME_H
#define TP_ISOTIME_H
#include <stddef.h>
#include <stdint.h>

/* The two digits at `p`, or something above 99. */
static inline unsigned two_digits(const char *p) {
    unsigned tens = (uint8_t)(p[0] - '0'), ones = (uint8_t)(p[1] - '0');
    return tens > 9 || ones > 9 ? 1000 : 10 * tens + ones;
}

/* Days from 1970-01-01 to a date of the Gregorian calendar; -1 if there is no such date, or before. */
static inline int64_t days_since_1970(unsigned year, unsigned month, unsigned day) {
    static const uint16_t BEFORE[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
    if (year < 1970 || month < 1 || month > 12 || day < 1) return -1;
    unsigned leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (day > BEFORE[month] - BEFORE[month - 1] + (unsigned)(leap && month == 2)) return -1;
    unsigned past = year - 1, leaps = past / 4 - past / 100 + past / 400 - 477; /* 477 of them until 1969 */
    return (int64_t)(year - 1970) * 365 + leaps + BEFORE[month - 1] + (leap && month > 2) + day - 1;
}

/* Nanoseconds since 1970 of a text of `n` characters, or -1 if it is not of the form above. */
static inline int64_t iso_read(const char *p, size_t n) {
    static const uint32_t TO_NS[] = {0, 100000000, 10000000, 1000000, 100000, 10000, 1000, 100, 10, 1};
    if (n < 20 || n == 21 || n > 30 || p[n - 1] != 'Z') return -1;
    if (p[4] != '-' || p[7] != '-' || (p[10] != 'T' && p[10] != ' ')) return -1;
    if (p[13] != ':' || p[16] != ':') return -1;
    unsigned century = two_digits(p), of_it = two_digits(p + 2), year = 100 * century + of_it;
    unsigned hour = two_digits(p + 11), minute = two_digits(p + 14), second = two_digits(p + 17);
    if (century > 22 || of_it > 99 || year > 2261) return -1;
    int64_t days = days_since_1970(year, two_digits(p + 5), two_digits(p + 8));
    if (days < 0 || hour > 23 || minute > 59 || second > 59 || (n > 20 && p[19] != '.')) return -1;
    uint32_t fraction = 0;
    for (size_t i = 20; i + 1 < n; i++) {
        unsigned digit = (uint8_t)(p[i] - '0');
        if (digit > 9) return -1;
        fraction = fraction * 10 + digit;
    }
    int64_t seconds = days * 86400 + 3600 * (int64_t)hour + 60 * minute + second;
    return seconds * 1000000000 + (n > 20 ? (int64_t)fraction * TO_NS[n - 21] : 0);
}
#endif

"""Records of Databento DBN to rows: the Python face of dbn.h, which holds the layouts."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "dbn.h" nogil:
    ctypedef struct dbn_order_row:
        pass
    ctypedef struct dbn_trade_row:
        pass
    size_t dbn_walk(const uint8_t *data, size_t n, int64_t *starts, size_t room, size_t *count)
    int dbn_same(const uint8_t *data, size_t size, size_t count)
    size_t dbn_find(const uint8_t *data, size_t size, size_t count, const uint64_t *keys, const uint32_t *codes,
                    int bits, uint32_t *out)
    double dbn_price(int64_t price)
    void dbn_rows(const uint8_t *r, size_t size, size_t count, const uint32_t *codes, int by_order,
                  dbn_order_row *orders, dbn_trade_row *trades, size_t *n_orders, size_t *n_trades)

ORDER_SIZE, TRADE_SIZE = sizeof(dbn_order_row), sizeof(dbn_trade_row)


def walk(const uint8_t[::1] data, int64_t[::1] starts):
    cdef size_t count = 0, end = 0
    if len(data) and len(starts):
        with nogil:
            end = dbn_walk(&data[0], data.shape[0], &starts[0], starts.shape[0], &count)
    return count, end


def same(const uint8_t[::1] data, size_t size, size_t count):
    if count * size > <size_t>len(data) or size < 2:
        raise ValueError("fewer bytes than the records have")
    return count == 0 or bool(dbn_same(&data[0], size, count))


def find(const uint8_t[:, ::1] records, const uint64_t[::1] keys, const uint32_t[::1] codes, int bits,
         uint32_t[::1] out):
    cdef size_t missing
    if not (len(keys) == len(codes) == 1 << bits and 0 < bits < 32 and len(out) == len(records)):
        raise ValueError("a table of 2^bits slots, and room for a code of each record")
    if not len(records):
        return 0
    if records.shape[1] < 16:
        raise ValueError("records have 16 bytes at least")
    with nogil:
        missing = dbn_find(&records[0, 0], records.shape[1], records.shape[0], &keys[0], &codes[0], bits, &out[0])
    return missing


def price(int64_t value):
    return dbn_price(value)


def rows(const uint8_t[:, ::1] records, const uint32_t[::1] codes, bint by_order, uint8_t[::1] orders,
         uint8_t[::1] trades):
    cdef size_t n_orders = 0, n_trades = 0, count = len(records)
    if len(codes) != count or len(trades) < count * TRADE_SIZE or (by_order and len(orders) < count * ORDER_SIZE):
        raise ValueError("room for a row of each record")
    if not count:
        return 0, 0
    if records.shape[1] < (56 if by_order else 48):
        raise ValueError("records shorter than their fields")
    with nogil:
        dbn_rows(&records[0, 0], records.shape[1], count, &codes[0], by_order,
                 <dbn_order_row *>&orders[0] if by_order else NULL, <dbn_trade_row *>&trades[0], &n_orders, &n_trades)
    return n_orders, n_trades

# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""Frames (frame.h) and their checksum (crc32c.h): made, checked, and walked in journals and messages."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

import numpy as np

from tickplant._core.frame cimport (TP_CRC_AT, TP_HEADER, TP_MAGIC, TP_ROWS, TP_VERSION, tp_crc32c, tp_crc32c_start, tp_frame,
                                     tp_frame_next, tp_frame_read, tp_frame_scan, tp_frame_seal)

tp_crc32c_start(0)

HEADER, CRC_AT = TP_HEADER, TP_CRC_AT
CHECKS = ("good", "short", "not a frame", "bad crc", "broken chain")


def crc32c(const uint8_t[::1] data, uint32_t crc=0):
    return tp_crc32c(crc, &data[0], data.shape[0]) if data.shape[0] else crc


def crc_by_table(bint on):
    """Tests only: use the portable CRC code even where the machine has the instruction."""
    tp_crc32c_start(on)


def check(const uint8_t[::1] data):
    """Which of CHECKS holds for the frame at the start of data."""
    cdef tp_frame h
    return tp_frame_read(&data[0], data.shape[0], &h) if data.shape[0] else 1


def scan(const uint8_t[::1] data, uint32_t crc):
    """Walk the chained frames of data: (bytes walked, frames, crc of the last, index into CHECKS of why it ended)."""
    cdef int why = 0
    cdef uint64_t frames = 0
    cdef size_t at = 0
    if data.shape[0]:
        with nogil:
            at = tp_frame_scan(&data[0], data.shape[0], &crc, &frames, &why)
    return at, frames, crc, why


def index(const uint8_t[::1] data):
    """Offset, size (with header), kind, table, feed, row, count of each whole frame of data, their checksums not
    looked at: int64 of shape (n, 7)."""
    cdef size_t at = 0, n = data.shape[0]
    cdef tp_frame h
    cdef Py_ssize_t i = 0, count = 0
    while n and tp_frame_next(&data[0], n, &at, &h):
        count += 1
    out = np.empty((count, 7), np.int64)
    cdef int64_t[:, ::1] o = out
    at = 0
    for i in range(count):
        o[i, 0] = at
        tp_frame_next(&data[0], n, &at, &h)
        o[i, 1] = <int64_t>at - o[i, 0]
        o[i, 2] = h.kind
        o[i, 3] = h.table
        o[i, 4] = h.feed
        o[i, 5] = h.row
        o[i, 6] = h.count
    return out


def payloads(const uint8_t[::1] data, uint16_t table):
    """The rows of one table in the whole frames of data, end to end, as bytes."""
    cdef size_t at = 0, n = data.shape[0], total = 0
    cdef const uint8_t *rows
    cdef tp_frame h
    while n and tp_frame_next(&data[0], n, &at, &h):
        if h.kind == TP_ROWS and h.table == table:
            total += h.size
    out = PyBytes_FromStringAndSize(NULL, total)
    cdef uint8_t *to = <uint8_t *>PyBytes_AS_STRING(out)
    at = 0
    while total and (rows := tp_frame_next(&data[0], n, &at, &h)):
        if h.kind == TP_ROWS and h.table == table:
            memcpy(to, rows, h.size)
            to += h.size
    return out


def seal(const uint8_t[::1] payload, uint8_t kind, *, uint16_t table=0, uint16_t feed=0, uint32_t trading_date=0, uint64_t row=0,
         uint64_t session=0, uint64_t seq=0, uint64_t feed_row=0, uint64_t feed_sum=0, int64_t time_ns=0,
         uint32_t count=0, uint32_t schema=0, uint32_t prev_crc=0):
    """A frame with this payload, as bytes."""
    cdef tp_frame h
    cdef Py_ssize_t n = payload.shape[0]
    if n >> 32:
        raise ValueError(f"{n} bytes are too many for a frame")
    h.magic, h.table, h.size, h.prev_crc, h.kind, h.version = TP_MAGIC, table, n, prev_crc, kind, TP_VERSION
    h.feed, h.trading_date, h.row, h.session, h.seq = feed, trading_date, row, session, seq
    h.feed_row, h.feed_sum, h.time_ns, h.count, h.schema = feed_row, feed_sum, time_ns, count, schema
    out = PyBytes_FromStringAndSize(NULL, TP_HEADER + n)
    cdef uint8_t *p = <uint8_t *>PyBytes_AS_STRING(out)
    if n:
        memcpy(p + TP_HEADER, &payload[0], n)
    tp_frame_seal(p, &h)
    return out

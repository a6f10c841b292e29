"""drain.h for Cython."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from tickplant._core.intake cimport tp_intake

cdef extern from "drain.h" nogil:
    int TP_FAILED, TP_MESSAGE, TP_BELL
    ctypedef struct tp_drain:
        uint8_t message[64]
        int held, failure
        uint64_t messages_left, bytes_left
        void *(*data)(void *)
        size_t (*size)(const void *)
    int tp_drain_open(tp_drain *d, const char *library, void *socket)
    int tp_drain_wait(tp_drain *d, uint64_t messages, uint64_t bytes, int bell, long timeout_ms)
    int tp_drain_pour(tp_drain *d, tp_intake *into, int64_t now_ns)
    void tp_drain_drop(tp_drain *d)

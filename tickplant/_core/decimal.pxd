"""decimal.h for Cython."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t

cdef extern from "Python.h":
    double PyOS_string_to_double(const char *s, char **end, object overflow) except? -1.0

cdef extern from "decimal.h" nogil:
    enum: DECIMAL_FAST, DECIMAL_SLOW, DECIMAL_NONE, DECIMALS_UNKNOWN
    cdef struct decimal:
        double value
        const char *end
        int is_ "is"
        uint8_t decimals
    decimal decimal_read(const char *p, const char *end)


cdef inline int number_read(const char *p, const char *end, decimal *d) except -1:
    """A number at p; ValueError if there is none."""
    d[0] = decimal_read(p, end)
    if d.is_ == DECIMAL_FAST:
        return 0
    if d.is_ == DECIMAL_SLOW:
        text = PyBytes_FromStringAndSize(p, d.end - p)
        if len(text) > 400:
            raise ValueError(f"a number of {len(text)} characters")
        d.value = PyOS_string_to_double(PyBytes_AS_STRING(text), NULL, OverflowError)
        return 0
    shown = PyBytes_FromStringAndSize(p, min(<Py_ssize_t>20, end - p))
    raise ValueError(f"{shown!r} is not a number")

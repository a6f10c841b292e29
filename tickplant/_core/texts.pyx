# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""Numbers and times as venues write them (decimal.h, isotime.h)."""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t

from tickplant._core.decimal cimport decimal, number_read

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef extern from "isotime.h" nogil:
    int64_t iso_read(const char *p, size_t n)


def to_float(bytes text):
    """The float64 nearest to a decimal number, and its decimals (255: written with an exponent)."""
    cdef const char *p = PyBytes_AS_STRING(text)
    cdef decimal d
    number_read(p, p + len(text), &d)
    if d.end != p + len(text):
        raise ValueError(f"{text[:40]!r} is not a number")
    return d.value, d.decimals


def plain_iso_ns(str text not None):
    """Nanoseconds of a time like 2021-12-12T23:05:29.9692063Z, 1970 to 2261; -1 if it is written otherwise, or is none."""
    cdef Py_ssize_t n = 0
    cdef const char *p = PyUnicode_AsUTF8AndSize(text, &n)
    return iso_read(p, n)

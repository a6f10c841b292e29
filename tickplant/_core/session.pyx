# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""A feed's side of the wire: values to packed rows, and rows to the frames of one session (frame.h, rowsum.h)."""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_GetItem
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.number cimport PyNumber_Index
from libc.math cimport NAN, isinf
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

cdef extern from "Python.h":
    ctypedef struct PyObject
    ctypedef void *PyCFunction
    ctypedef struct PyMethodDef:
        const char *ml_name
        PyCFunction ml_meth
        int ml_flags
        const char *ml_doc
    int METH_FASTCALL, METH_KEYWORDS
    object PyCFunction_New(PyMethodDef *method, object self)
    bint PyFloat_CheckExact(PyObject *value)
    double PyFloat_AS_DOUBLE(PyObject *value)
    bint PyLong_CheckExact(PyObject *value)
    int64_t PyLong_AsLongLongAndOverflow(PyObject *value, int *overflow) except? -1
    bint PyBytes_CheckExact(PyObject *value)
    Py_ssize_t PyBytes_GET_SIZE(PyObject *value)
    char *AsString "PyBytes_AS_STRING"(PyObject *value)
    bint PyUnicode_CheckExact(PyObject *value)
    bint PyUnicode_IS_COMPACT_ASCII(PyObject *value)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *value)
    void *PyUnicode_DATA(PyObject *value)
    Py_ssize_t PyTuple_GET_SIZE(PyObject *names)
    PyObject *PyTuple_GET_ITEM(PyObject *names, Py_ssize_t at)

from tickplant._core.frame cimport TP_HEADER, TP_MAGIC, TP_ROWS, TP_VERSION, tp_crc32c_start, tp_frame, tp_frame_seal
from tickplant._core.rowsum cimport TP_KEY_SIZE, tp_hash, tp_row_sum

tp_crc32c_start(0)


cdef int64_t EXACT = 1 << 53
"""Whole numbers up to here are float64s too."""


cdef struct Cell:
    char kind  # of the type: i, u, f or S
    uint32_t size, offset
    int64_t least, most  # of an integer


cdef class Packer:
    """A buffer of packed rows of one table, filled one row at a time. As a buffer it is the rows that it has.

    A row is made beside the buffer and put into it at the end, in one step that no other thread of Python can come
    between: so `push` needs no lock, whatever a value does while it is converted.

    `push` gets its arguments where the caller has them, and no dict of them. The names of one place that calls are the
    same tuple each time: where their columns are is looked up when another place calls.
    """

    cdef Cell *cells
    cdef Cell **order
    cdef object clock, later, named
    cdef dict index
    cdef uint8_t *rows_
    cdef uint8_t *blank
    cdef uint32_t row_size, room
    cdef readonly uint32_t rows

    def __cinit__(self, list columns, uint32_t room, clock=None, later=None, dict defaults=None):
        """`columns`: (name, type, offset) of each, in order; the first two take the time of `add`. `clock` and
        `later` are for `push`; `defaults`: values of columns that are not given."""
        self.clock, self.later = clock, later
        cdef Py_ssize_t n = len(columns)
        self.cells = <Cell *>PyMem_Calloc(n, sizeof(Cell))
        self.order = <Cell **>PyMem_Calloc(n, sizeof(Cell *))
        if self.cells == NULL or self.order == NULL:
            raise MemoryError
        self.index, self.row_size = {}, 0
        for i, (name, kind, offset) in enumerate(columns):
            self.index[name] = i
            bits = 8 * int(kind[1:])
            self.cells[i] = Cell(ord(kind[0]), int(kind[1:]), offset, 0, 0)
            if kind[0] in "iu":
                self.cells[i].least = -(1 << (bits - 1)) if kind[0] == "i" else 0
                self.cells[i].most = (1 << (bits - 1 if kind[0] == "i" else bits)) - 1
            self.row_size = max(self.row_size, offset + int(kind[1:]))
        self.room, self.rows = room, 0
        self.blank = <uint8_t *>PyMem_Calloc(1, self.row_size)
        self.rows_ = <uint8_t *>PyMem_Calloc(room, self.row_size)
        if self.blank == NULL or self.rows_ == NULL:
            raise MemoryError
        for i in range(n):
            if self.cells[i].kind == b"f":
                self._float(&self.cells[i], self.blank, NAN)
        if defaults:
            self._fill(self.blank, defaults)

    def __dealloc__(self):
        PyMem_Free(self.cells)
        PyMem_Free(self.order)
        PyMem_Free(self.blank)
        PyMem_Free(self.rows_)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.rows_, <Py_ssize_t>self.rows * self.row_size, 1, flags)

    def __len__(self):
        return self.rows

    def add(self, int64_t now_ns, dict values):
        """Add a row: columns not given have their default, or are NaN, zero, or the time now.

        Raises KeyError for an unknown column; TypeError, ValueError or OverflowError for a value that does
        not fit; then nothing is added.
        """
        cdef uint8_t *row = <uint8_t *>PyMem_Malloc(self.row_size)
        if row == NULL:
            raise MemoryError
        try:
            memcpy(row, self.blank, self.row_size)
            memcpy(row, &now_ns, 8)
            memcpy(row + 8, &now_ns, 8)
            self._fill(row, values)
            if self.rows >= self.room:
                raise ValueError(f"there is no room for more than {self.room} rows")
            memcpy(self.rows_ + <size_t>self.rows * self.row_size, row, self.row_size)
            self.rows += 1
        finally:
            PyMem_Free(row)

    cdef int _fill(self, uint8_t *row, dict values) except -1:
        cdef Cell *cell
        for name, value in values.items():
            at = PyDict_GetItem(self.index, name)
            if at == NULL:
                raise KeyError(name)
            cell = &self.cells[<Py_ssize_t><object>at]
            if cell.kind == b"f":
                self._float(cell, row, value)
            elif cell.kind == b"S":
                self._bytes(cell, row, value)
            else:
                self._integer(cell, row, value)
        return 0

    @property
    def push(self):
        """push(column=value, ...): add a row at the time of `clock` if the buffer has some already, and room for more;
        else, and if it can't be added, call `later` with the values."""
        return PyCFunction_New(&PUSH, self)

    cdef _push(self, PyObject **values, PyObject *names):
        if names != NULL and self._has_room():
            now = self.clock()
            # No other thread comes between from here on: nothing of Python runs.
            if self._has_room() and self._order(names) and self._plain(now, values, PyTuple_GET_SIZE(names)):
                self.rows += 1
                return
        given = {}
        if names != NULL:
            for i in range(PyTuple_GET_SIZE(names)):
                given[<object>PyTuple_GET_ITEM(names, i)] = <object>values[i]
        if self._has_room():
            try:
                self.add(self.clock(), given)
                return
            except (KeyError, TypeError, ValueError, OverflowError):
                pass  # `later` says what is wrong with it
        self.later(**given)

    cdef bint _has_room(self) noexcept:
        return 0 < self.rows < self.room - 1

    cdef bint _order(self, PyObject *names) except -1:
        """Have the columns of these names in `order`; False if there is one that is none."""
        cdef Py_ssize_t i, n = PyTuple_GET_SIZE(names)
        if <PyObject *>self.named == names:
            return True
        if n > len(self.index):
            return False
        self.named = None
        for i in range(n):
            at = PyDict_GetItem(self.index, <object>PyTuple_GET_ITEM(names, i))
            if at == NULL:
                return False
            self.order[i] = &self.cells[<Py_ssize_t><object>at]
        self.named = <object>names
        return True

    cdef bint _plain(self, int64_t now_ns, PyObject **values, Py_ssize_t n) except -1:
        """Make the row after the last of values of Python's own types; False if one is not, or does not fit."""
        cdef uint8_t *row = self.rows_ + <size_t>self.rows * self.row_size
        cdef Py_ssize_t i, size
        cdef const void *text
        cdef int64_t number
        cdef double real
        cdef int over = 0
        cdef Cell *cell
        memcpy(row, self.blank, self.row_size)
        memcpy(row, &now_ns, 8)
        memcpy(row + 8, &now_ns, 8)
        for i in range(n):
            cell = self.order[i]
            if cell.kind == b"f":
                if cell.size != 8:
                    return False
                if PyFloat_CheckExact(values[i]):
                    real = PyFloat_AS_DOUBLE(values[i])
                elif PyLong_CheckExact(values[i]):
                    number = PyLong_AsLongLongAndOverflow(values[i], &over)
                    if over or not -EXACT <= number <= EXACT:
                        return False
                    real = <double>number
                else:
                    return False
                memcpy(row + cell.offset, &real, 8)
            elif cell.kind == b"S":
                if PyBytes_CheckExact(values[i]):
                    text, size = AsString(values[i]), PyBytes_GET_SIZE(values[i])
                elif PyUnicode_CheckExact(values[i]) and PyUnicode_IS_COMPACT_ASCII(values[i]):
                    text, size = PyUnicode_DATA(values[i]), PyUnicode_GET_LENGTH(values[i])
                else:
                    return False
                if size > cell.size:
                    return False
                memset(row + cell.offset, 0, cell.size)  # a default may stand there
                memcpy(row + cell.offset, text, size)
            elif not PyLong_CheckExact(values[i]):
                return False
            else:
                number = PyLong_AsLongLongAndOverflow(values[i], &over)
                if over or not cell.least <= number <= cell.most:
                    return False
                memcpy(row + cell.offset, &number, cell.size)
        return True

    cdef int _float(self, Cell *cell, uint8_t *row, double value) except -1:
        cdef float narrow
        if cell.size == 8:
            memcpy(row + cell.offset, &value, 8)
            return 0
        narrow = <float>value
        if isinf(narrow) and not isinf(value):
            raise OverflowError(f"{value!r} is too large for f4")
        memcpy(row + cell.offset, &narrow, 4)
        return 0

    cdef int _bytes(self, Cell *cell, uint8_t *row, value) except -1:
        if isinstance(value, str):
            value = value.encode()
        elif not isinstance(value, bytes):
            raise TypeError(f"{value!r} is not bytes or str")
        if len(value) > cell.size:
            raise ValueError(f"{value!r} is too long for S{cell.size}")
        memset(row + cell.offset, 0, cell.size)
        memcpy(row + cell.offset, PyBytes_AS_STRING(value), len(value))
        return 0

    cdef int _integer(self, Cell *cell, uint8_t *row, value) except -1:
        cdef int64_t number = PyNumber_Index(value)
        if not cell.least <= number <= cell.most:
            raise OverflowError(f"{value!r} is not from {cell.least} to {cell.most}")
        memcpy(row + cell.offset, &number, cell.size)  # little-endian, as the rows are
        return 0

    def clear(self):
        """Forget the rows."""
        self.rows = 0

    def drop(self, uint32_t count):
        """Forget the first `count` rows; those that came after them move up."""
        count = min(count, self.rows)
        self.rows -= count
        memmove(self.rows_, self.rows_ + <size_t>count * self.row_size, <size_t>self.rows * self.row_size)


cdef object _pushed(object packer, PyObject **values, Py_ssize_t n_positional, PyObject *names):
    """`Packer.push`, as Python calls it: the values in a row, with the names of the last of them."""
    if n_positional:
        raise TypeError("push() takes values by the names of their columns only")
    return (<Packer>packer)._push(values, names)


cdef PyMethodDef PUSH
PUSH.ml_name, PUSH.ml_meth, PUSH.ml_flags = b"push", <PyCFunction><void *>_pushed, METH_FASTCALL | METH_KEYWORDS
PUSH.ml_doc = b"push(column=value, ...): see Packer"


cdef struct Claim:
    uint32_t row_size, schema
    uint64_t rows, sum


cdef class Session:
    """What one session of a feed has published: the numbers and sums that its next frame carries."""

    cdef uint16_t feed
    cdef readonly uint64_t number
    cdef readonly uint64_t seq
    cdef Claim claims[256]  # by table number
    cdef uint64_t *names
    cdef size_t n_names

    def __cinit__(self, uint16_t feed, uint64_t number, list tables):
        """`number`: the session's; `tables`: (number, row_size, fingerprint) of each."""
        self.feed, self.number, self.seq, self.n_names = feed, number, 0, 0
        self.names = NULL
        memset(self.claims, 0, sizeof(self.claims))
        for table, row_size, schema in tables:
            if not 0 < table < 256 or row_size < TP_KEY_SIZE:
                raise ValueError(f"table {table} with rows of {row_size} bytes can't be")
            self.claims[<int>table].row_size, self.claims[<int>table].schema = row_size, schema

    def __dealloc__(self):
        PyMem_Free(self.names)

    def name(self, uint32_t code, bytes name):
        """The instrument that a code stands for, in the rows to come."""
        cdef size_t room = self.n_names
        cdef uint64_t *grown
        if code >= room:
            room = max(<size_t>1024, 2 * room, <size_t>code + 1)
            grown = <uint64_t *>PyMem_Realloc(self.names, room * sizeof(uint64_t))
            if grown == NULL:
                raise MemoryError
            memset(grown + self.n_names, 0, (room - self.n_names) * sizeof(uint64_t))
            self.names, self.n_names = grown, room
        self.names[code] = tp_hash(0, <const uint8_t *>PyBytes_AS_STRING(name), len(name))

    def frame(self, uint8_t table, const uint8_t[::1] rows, int64_t now_ns, uint32_t prev_crc):
        """The next frame: packed rows of a table, numbered and summed. It counts as published from here on."""
        cdef Claim *claim = &self.claims[table]
        cdef Py_ssize_t n = rows.shape[0]
        cdef tp_frame h
        if claim.row_size == 0 or n == 0 or n % claim.row_size or n >> 32:
            raise ValueError(f"{n} bytes are not whole rows of {claim.row_size} bytes")
        h.magic, h.table, h.size, h.prev_crc, h.kind, h.version = TP_MAGIC, table, n, prev_crc, TP_ROWS, TP_VERSION
        h.feed, h.trading_date, h.row, h.session, h.seq = self.feed, 0, 0, self.number, self.seq
        h.count, h.schema, h.time_ns, h.feed_row = n // claim.row_size, claim.schema, now_ns, claim.rows
        claim.sum += tp_row_sum(&rows[0], h.count, claim.row_size, self.names, self.n_names)
        claim.rows += h.count
        self.seq += h.count
        h.feed_sum = claim.sum
        out = PyBytes_FromStringAndSize(NULL, TP_HEADER + n)
        cdef uint8_t *p = <uint8_t *>PyBytes_AS_STRING(out)
        memcpy(p + TP_HEADER, &rows[0], n)
        tp_frame_seal(p, &h)
        return out

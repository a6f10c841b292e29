# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""Messages of a ZeroMQ socket into an intake (drain.h)."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint64_t, uintptr_t

from tickplant._core.frame cimport tp_crc32c_start
from tickplant._core.intake cimport Intake

tp_crc32c_start(0)

MESSAGE, BELL = TP_MESSAGE, TP_BELL


cdef class Drain:
    """Messages of a ZeroMQ socket into an intake (drain.h). For one thread, as the socket is."""

    cdef tp_drain d
    cdef Intake intake

    def __init__(self, Intake intake, str library, uintptr_t socket):
        """`library`: path of the libzmq that is loaded; `socket`: the address of its socket (Socket.underlying).

        Raises OSError if that library is not loaded, or is not libzmq.
        """
        self.intake = intake
        if tp_drain_open(&self.d, library.encode(), <void *>socket):
            raise OSError(f"{library} is not a libzmq that is loaded")

    def __dealloc__(self):
        tp_drain_drop(&self.d)

    def wait(self, uint64_t messages, uint64_t size, int bell, long timeout_ms):
        """Wait for a message of the socket, or for something to read at descriptor `bell`: MESSAGE, BELL, both or 0.

        `pour` then takes so many messages and bytes at most.
        """
        cdef int there
        with nogil:
            there = tp_drain_wait(&self.d, messages, size, bell, timeout_ms)
        if there < 0:
            raise OSError(self.d.failure, "the socket can't be received from")
        return there

    def pour(self, int64_t now_ns):
        """Take what is there; why a message is not taken, or TAKEN if all are. It is held until `message` gives it, or
        it is tried again."""
        cdef int verdict
        with nogil:
            verdict = tp_drain_pour(&self.d, &self.intake.i, now_ns)
        if verdict == TP_FAILED:
            raise OSError(self.d.failure, "the socket can't be received from")
        return verdict

    def message(self):
        """The message that was not taken; it counts as received."""
        if not self.d.held:
            raise ValueError("no message is held")
        cdef size_t n = self.d.size(self.d.message)
        out = PyBytes_FromStringAndSize(<char *>self.d.data(self.d.message), n)
        self.d.messages_left -= min(1, self.d.messages_left)
        self.d.bytes_left -= min(n, self.d.bytes_left)
        tp_drain_drop(&self.d)
        return out

    def close(self):
        """Let go what is held; before the socket is closed."""
        tp_drain_drop(&self.d)

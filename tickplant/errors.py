"""Every exception that tickplant raises on purpose.

    TickplantError
     ├─ ConfigError         the configuration is missing, wrong or contradicts itself
     ├─ SchemaError         rows, a declaration or a stored schema do not fit together
     │   └─ NoColumn        a table has no such column; a KeyError, too
     ├─ FrameError          bytes that should be a frame are not
     │   ├─ MessageDamaged  a message is not what was sent
     │   └─ MessageRefused  a message says what may not be said
     ├─ JournalError        a journal can't be written or read
     │   ├─ JournalDamaged  bytes of a journal that were promised durable are wrong
     │   └─ JournalFull     there is no room for more now; there may be later
     ├─ SegmentError        a shared-memory object can't be created or trusted
     │   └─ TableFull       no room for more rows (shared memory or reservation)
     ├─ NotRunning          what was asked for needs a process that is not there
     ├─ AlreadyRunning      a second writer of one plant
     ├─ CaptureError        a market-data capture can't be read
     ├─ HistoryError        PostgreSQL refused, is not there, or does not match
     ├─ RequestError        a peer asked for something that can't be had
     ├─ Fault               an exception that nobody thought of has ended a process
     ├─ SystemRefused       the system refused a file, a descriptor or memory
     ├─ RowsGone            a reader's rows are not where it reads them any more
     └─ TooSlow             a reader that is to die rather than be late is late

A message says fact, value, place, and where there is one the command to type next.
"""


class TickplantError(Exception):
    """Base of all; `exit_code` is what the command line exits with."""

    exit_code = 1


class ConfigError(TickplantError):
    """The configuration is missing, wrong or contradicts itself."""

    exit_code = 78


class SchemaError(TickplantError):
    """Rows, a declaration or a stored schema do not fit together."""


class NoColumn(SchemaError, KeyError):
    """A table has no such column; the message says which it has."""

    __str__ = Exception.__str__  # that of a KeyError is a repr


class FrameError(TickplantError):
    """Bytes that should be a frame are not."""


class MessageDamaged(FrameError):
    """A message is not what was sent, or never was one of ours."""


class MessageRefused(FrameError):
    """A message says what may not be said: an unknown kind, a field that is missing or not as declared."""


class JournalError(TickplantError):
    """A journal can't be written or read."""

    exit_code = 74


class JournalDamaged(JournalError):
    """Bytes of a journal that were promised durable are wrong."""


class JournalFull(JournalError):
    """There is no room for more now; nothing of it was written, and it may be tried again."""


class SegmentError(TickplantError):
    """A shared-memory object can't be created or trusted."""

    exit_code = 74


class TableFull(SegmentError):
    """A table has no room for more rows: /dev/shm or its reservation is used up."""


class NotRunning(TickplantError):
    """What was asked for needs a process that is not there."""

    exit_code = 69


class AlreadyRunning(TickplantError):
    """A second writer of one plant was started."""

    exit_code = 69


class Forked(TickplantError):
    """What belongs to one process was used in a child of it."""


class CaptureError(TickplantError):
    """A market-data capture can't be read."""

    exit_code = 65


class HistoryError(TickplantError):
    """PostgreSQL refused, is not there, or does not match."""

    exit_code = 69


class RequestError(TickplantError):
    """A peer asked for something that can't be had."""


class Fault(TickplantError):
    """An exception that nobody thought of has ended a process; the message says where."""

    exit_code = 70


class SystemRefused(TickplantError):
    """The system refused something: a file, a descriptor, memory; the message says where."""

    exit_code = 74


class RowsGone(TickplantError):
    """A reader's rows are not where it reads them any more; the message says where they are."""


class TooSlow(TickplantError):
    """A reader of policy `die` is further behind than it said it may be."""

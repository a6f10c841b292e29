"""Group commit: a thread that syncs the journal while the ticker plant goes on taking rows."""

import threading

from tickplant.clock import SECOND_NS
from tickplant.errors import JournalError
from tickplant.journal import JournalWriter


class Syncer(threading.Thread):
    """Syncs the journal at most every so often while there is something to sync (group commit)."""

    def __init__(self, interval_ns: int) -> None:
        super().__init__(name="syncer", daemon=True)
        self.interval_s = interval_ns / SECOND_NS
        self.failed: JournalError | None = None
        self._wanted = threading.Event()
        self._journal: JournalWriter | None = None

    def want(self, journal: JournalWriter) -> None:
        """There is something to sync."""
        self._journal = journal
        if not self._wanted.is_set():
            self._wanted.set()

    def run(self) -> None:
        pause = threading.Event()
        while True:
            self._wanted.wait()
            self._wanted.clear()
            journal = self._journal
            if journal is None:
                return
            try:
                journal.sync()
            except JournalError as e:
                self.failed = e
                return
            pause.wait(self.interval_s)

    def stop(self) -> None:
        """End the thread; the journal's own close syncs the rest."""
        self._journal = None
        self._wanted.set()

"""Whether PostgreSQL has the beginning of a journal: then the loader goes on behind it, else it begins anew.

A journal that was repaired, or replaced by `tickplant load`, has other bytes at the same positions.
"""

from pathlib import Path

from tickplant.hdb.store import Progress
from tickplant.journal import JournalReader, begins, segments


def continues(folder: Path, progress: Progress) -> bool:
    """Does the journal have a frame that ends at the position, with the checksum that was noted?

    Raises JournalDamaged if what lies before it in its segment is not sound.
    """
    if not progress.position:
        return True
    before = [path for path in segments(folder) if begins(path) < progress.position]
    if not before:
        return False
    reader = JournalReader(folder, begins(before[-1]), None)
    try:
        while reader.position != progress.position and reader.read(progress.position):
            pass
        return reader.position == progress.position and reader.last_crc == progress.last_crc
    finally:
        reader.close()


def which(folder: Path) -> tuple[int, int] | None:
    """What tells a journal's folder from another that takes its name later; None if there is none."""
    try:
        at = folder.stat()
    except OSError:
        return None
    return at.st_dev, at.st_ino

"""Huge pages of shared memory: how big they are, and whether the mount allows them.

tmpfs has them by its mount option `huge=`: `never` (the default), `always`, `within_size`, or `advise`, which
is madvise(MADV_HUGEPAGE) by the program. /sys/kernel/mm/transparent_hugepage/shmem_enabled overrides it with
`deny` and `force`. Source: Documentation/admin-guide/mm/transhuge.rst of Linux.
"""

from pathlib import Path

SYSTEM = Path("/sys/kernel/mm/transparent_hugepage")
MOUNTS = Path("/proc/self/mountinfo")
NEVER = "never"


def size() -> int:
    """Bytes of a huge page of this kernel; 0 if it has none."""
    try:
        return int((SYSTEM / "hpage_pmd_size").read_text())
    except (OSError, ValueError):
        return 0


def denied() -> bool:
    """Does the kernel refuse huge pages to every tmpfs, whatever its mount option?"""
    return _override() == "deny"


def _override() -> str:
    try:
        return (SYSTEM / "shmem_enabled").read_text().partition("[")[2].partition("]")[0]
    except OSError:
        return "deny"


def mode(folder: Path) -> str:
    """When files of the tmpfs mounted at a folder get huge pages: never, always, within_size, advise."""
    override = _override()
    if override == "deny" or not size():
        return NEVER
    return "always" if override == "force" else _mounted(folder)


def _mounted(folder: Path) -> str:
    """The option of the mount that is on top at a folder."""
    found = NEVER
    try:
        lines = MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        mount, _, about = line.partition(" - ")
        if mount.split()[4:5] == [str(folder)]:
            kind, _, options = about.partition(" ")
            given = [o[5:] for o in options.rpartition(" ")[2].split(",") if o.startswith("huge=")]
            found = given[-1] if given and kind == "tmpfs" else NEVER
    return found


def allowed(folder: Path) -> bool:
    """May files of the tmpfs mounted at a folder get huge pages?"""
    return mode(folder) != NEVER

"""docs/RELIABILITY.md: what the cases came to, where and when."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_HEAD = """\
# Reliability

Made by the fault bench (`{command}`) on {date}: {cores} cores, Linux {kernel},
Python {python}. Do not edit.

Each case is a plant of its own: two feeds (the plant reads the outbox of one, and hears the other over the
network), local and remote readers of two tables, PostgreSQL. Faults are chosen by the seed and injected one
after the other while rows flow; then the day is rolled and proven, and journal, PostgreSQL and each reader
are compared row by row with what the feeds generated. *Outage* is the longest time in which the journal did
not grow; *recovered* the median time from a fault until it grew again (a fault of a reader or of
PostgreSQL does not stop it).

"""
_COLUMNS = {
    "case": "case", "faults": "faults", "published": "rows published", "lost": "lost", "duplicated": "twice",
    "out_of_order": "out of order", "declared_gaps": "declared gaps", "outage_ms": "outage ms",
    "recovered_ms": "recovered ms", "verdict": "verdict",
}  # fmt: skip


def write(path: Path, command: str, cases: Sequence[dict[str, Any]]) -> None:
    """Write the report of these cases (as in the JSON line)."""
    text = _HEAD.format(
        command=command, date=f"{datetime.now(UTC):%Y-%m-%d}", cores=os.cpu_count(),
        kernel=platform.release().partition("-")[0], python=platform.python_version(),
    )  # fmt: skip
    text += "| " + " | ".join(_COLUMNS.values()) + " |\n|---" + "|---:" * (len(_COLUMNS) - 2) + "|---|\n"
    for case in cases:
        cells = [f"{v:,}" if isinstance(v := case[name], int) else str(v) for name in _COLUMNS]
        text += "| " + " | ".join(cells) + " |\n"
    measured = [f"- `{case['case']}`: {f}.\n" for case in cases for f in case.get("figures", ())]
    if measured:
        text += "\nMeasured besides:\n\n" + "".join(dict.fromkeys(measured))
    path.write_text(text + "\n" + (Path(__file__).parent / "beside.md").read_text())

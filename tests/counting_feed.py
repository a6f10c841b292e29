"""A feed handler for tests: trades that are numbered from 0 over all its lives, and how many there are."""

from pathlib import Path

from tests.fix_plant import trades
from tickplant import Feed

BATCH = 50


def published(path: Path) -> int:
    """How many trades feeds with this path have published."""
    return int(path.read_text()) if path.exists() else 0


def run(feed: Feed, path: str) -> None:
    """Publish until the feed is stopped, from where the feed before it ended."""
    note = Path(path)
    count, code = published(note), feed.instrument("XTST", "A")
    while not feed.wait(0.002):
        feed.append("trade", trades(feed.config.schema["trade"], count, BATCH, code))
        count += BATCH
        draft = note.with_suffix(".draft")
        draft.write_text(str(count))
        draft.replace(note)

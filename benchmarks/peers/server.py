"""A peer's server, as a process that ends with the benchmark whatever happens."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness

from tickplant.service import PARENT, die_with_parent


def programs() -> str:
    """The folder of programs that came with packages."""
    return str(Path(sys.executable).parent)


def until_up(reach: Callable[[], object], *refusals: type[Exception]) -> None:
    """Reach for a server that is starting, until it does not refuse."""
    end = time.monotonic() + harness.PATIENCE_S
    while True:
        try:
            reach()
            return
        except refusals:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


@contextlib.contextmanager
def running(site: harness.Site, *command: str) -> Iterator[None]:
    """A peer's server, in the site's folder; the kernel ends it should this process be killed."""
    log = site.folder / f"{os.path.basename(command[0])}.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=site.folder,
            env={**os.environ, PARENT: str(os.getpid())}, preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()

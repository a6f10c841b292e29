"""Processes killed, killed at a step of their work, stopped, and started twice."""

import os
import random
import signal
import subprocess
import sys

from faults.case import Case, Fault
from faults.failpoint import ROLES
from faults.site import ROOT, Site
from tickplant.config import ENVIRONMENT
from tickplant.errors import AlreadyRunning, TickplantError

HITS_MAX = {
    "mid-extent": 20, "new-journal-segment": 1, "after-registry": 2, "before-registry": 2,
    "before-load": 3, "after-load": 3, "before-checkpoint": 4, "after-checkpoint": 4,
}  # fmt: skip
_STEP_PATIENCE_S = 6.0


def killed(*names: str) -> Fault:
    """kill -9 of one of these processes."""

    def fault(site: Site, choice: random.Random) -> bool:
        site.kill(choice.choice(names), choice.uniform(0.0, 0.5))
        return True

    return fault


def killed_at_a_step(role: str, *names: str) -> Fault:
    """kill -9 of a process at a labelled step of its work."""

    def fault(site: Site, choice: random.Random) -> bool:
        point = choice.choice(ROLES[role])
        hit = choice.randint(1, HITS_MAX.get(point, 60))
        return site.kill_at(choice.choice(names), point, hit, _STEP_PATIENCE_S)

    return fault


def stopped(*names: str) -> Fault:
    """SIGSTOP for up to two seconds, then SIGCONT."""

    def fault(site: Site, choice: random.Random) -> bool:
        site.stop(choice.choice(names), choice.uniform(0.1, 2.0))
        return True

    return fault


def postgres_killed(site: Site, choice: random.Random) -> bool:
    """kill -9 of the PostgreSQL postmaster."""
    pid = site.postmaster()
    try:
        os.kill(pid or 0, signal.SIGKILL if pid else 0)
    except ProcessLookupError:  # its file outlived it: it has just been killed
        return False
    return pid is not None


def second_plant(site: Site, choice: random.Random) -> bool:
    """Another ticker plant of the same plant is started; it must refuse, and take nothing."""
    with (site.folder / "second.log").open("wb") as out:
        second = subprocess.Popen(
            [sys.executable, "-m", "tickplant", "run", "tickerplant"], cwd=ROOT, stdout=out, stderr=out,
            env={"PYTHONPATH": str(ROOT), ENVIRONMENT: str(site.path)},
        )  # fmt: skip
    site.until(lambda: second.poll() is not None, "a second ticker plant to be refused")
    if second.returncode != AlreadyRunning.exit_code:
        raise TickplantError(f"a second ticker plant ended with status {second.returncode}")
    return True


FEEDS = ("feed-one", "feed-two")
READERS = ("local-trade", "local-quote", "remote-trade", "remote-quote")

CASES = {
    "kill-tickerplant": Case([killed("tickerplant")]),
    "kill-feed": Case([killed(*FEEDS)]),
    "kill-publisher": Case([killed("publisher")]),
    "kill-hdb": Case([killed("hdb")]),
    "kill-reader": Case([killed(*READERS)]),
    "kill-postgres": Case([postgres_killed]),
    "kill-at-step-tickerplant": Case([killed_at_a_step("tickerplant", "tickerplant")]),
    "kill-at-step-feed": Case([killed_at_a_step("feed", *FEEDS)]),
    "kill-at-step-publisher": Case([killed_at_a_step("publisher", "publisher")]),
    "kill-at-step-hdb": Case([killed_at_a_step("hdb", "hdb")]),
    "stop-and-go": Case([stopped("tickerplant", "publisher", "hdb", *FEEDS, *READERS)]),
    "second-tickerplant": Case([second_plant]),
}

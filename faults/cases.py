"""All cases of the fault bench, by name."""

from faults import (
    clock,
    curve,
    damage,
    feeds,
    history,
    host,
    network,
    processes,
    readers,
    roll,
    room,
    strangers,
)
from faults.case import Case

CASES: dict[str, Case] = {
    **processes.CASES, **network.CASES, **curve.CASES, **history.CASES, **readers.CASES, **roll.CASES,
    **room.CASES, **clock.CASES, **feeds.CASES, **damage.CASES,
    **strangers.CASES, **host.CASES,
}  # fmt: skip
CASES["mixed"] = Case(
    [fault for case in CASES.values() if case.mixed for fault in case.faults], settings=clock.own_clock()
)

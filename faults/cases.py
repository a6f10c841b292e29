"""All cases of the fault bench, by name."""

from faults import curve, history, network, processes, readers
from faults.case import Case

CASES: dict[str, Case] = {**processes.CASES, **network.CASES, **curve.CASES, **history.CASES, **readers.CASES}
CASES["mixed"] = Case([fault for case in CASES.values() if case.mixed for fault in case.faults])

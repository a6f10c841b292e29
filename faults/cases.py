"""All cases of the fault bench, by name."""

from faults import processes, readers
from faults.case import Case

CASES: dict[str, Case] = {**processes.CASES, **readers.CASES}
CASES["mixed"] = Case([fault for case in CASES.values() if case.mixed for fault in case.faults])

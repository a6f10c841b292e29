"""How fast counters go up: over the last seconds, from what a process says of itself anyway."""

from collections import deque
from collections.abc import Mapping

from tickplant.clock import SECOND_NS

WINDOW_NS = 5 * SECOND_NS


class Rates:
    """Rates of counters over the last `window_ns`: samples of that time are kept, and one before them."""

    def __init__(self, window_ns: int = WINDOW_NS) -> None:
        self.window_ns = window_ns
        self._samples: deque[tuple[int, dict[str, int]]] = deque()

    def per_s(self, at_ns: int, counts: Mapping[str, int]) -> dict[str, float]:
        """Take the counts at a time (of a clock that never steps) and give each one's increase a second.

        A counter that is new has the rate 0.0. When one went down (a new trading date), all begin again.
        """
        now = dict(counts)
        if self._samples and any(now.get(k, 0) < n for k, n in self._samples[-1][1].items()):
            self._samples.clear()
        self._samples.append((at_ns, now))
        while len(self._samples) > 2 and at_ns - self._samples[1][0] >= self.window_ns:
            self._samples.popleft()
        since_ns, before = self._samples[0]
        passed_s = (at_ns - since_ns) / SECOND_NS
        if passed_s <= 0:
            return dict.fromkeys(now, 0.0)
        return {k: round((n - before.get(k, n)) / passed_s, 1) for k, n in now.items()}

"""What a venue may be asked for: how fast, how soon again, and when no more. Nothing waits here.

Pause      after failures: twice as long each time, with jitter
Pace       so many a second, or an hour: what the venue documents as its limit
Repeats    the same thing again and again: later each time, and after some times not at all
"""

import random

from tickplant.clock import SECOND_NS

PAUSE_MIN_S, PAUSE_MAX_S = 0.5, 60.0
TRIES_MAX = 8
"""The same thing is asked for so often in a row."""
AGAIN_S, AGAIN_MAX_S = 1.0, 60.0
"""Before the first repetition, and before any; in between it doubles."""
CALM_NS = 10 * SECOND_NS
"""What was not asked for during so long, and twice its last pause, was no repetition."""
GIVEN_UP_NS = 1800 * SECOND_NS
"""What was given up may be asked for once more after so long."""
KEPT_MAX = 4096


class Pause:
    """How long to wait after failures: twice as long each time, anything from half of that up to it."""

    def __init__(self, least_s: float = 0.0, most_s: float = PAUSE_MAX_S) -> None:
        self.least_s, self.most_s = least_s or PAUSE_MIN_S, most_s
        self._next_s = self.least_s

    def next(self) -> float:
        """Seconds to wait now."""
        most, self._next_s = self._next_s, min(2 * self._next_s, self.most_s)
        return random.uniform(most / 2, most)

    def reset(self) -> None:
        """It went well."""
        self._next_s = self.least_s


class Pace:
    """So many a second on average, at most `burst` at once."""

    def __init__(self, per_s: float, burst: float = 1.0) -> None:
        self.per_s, self.burst = per_s, burst
        self._left, self._at_ns = burst, 0

    def wait_s(self, now_ns: int) -> float:
        """Take one; seconds to wait before it is used."""
        if self._at_ns:
            since_s = max(0, now_ns - self._at_ns) / SECOND_NS
            self._left = min(self.burst, self._left + since_s * self.per_s)
        self._at_ns = now_ns
        self._left -= 1
        return max(0.0, -self._left / self.per_s)


class Repeats:
    """How often in a row each thing was asked for."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[int, int]] = {}
        """Times in a row, and when the last one is due."""
        self._given_up: dict[str, int] = {}
        """When it was."""

    def due_ns(self, what: str, now_ns: int) -> int | None:
        """It is asked for: when it may go out; None: not any more."""
        if now_ns - self._given_up.get(what, now_ns) > GIVEN_UP_NS:
            self.forget(what)
        if what in self._given_up:
            return None
        times, last_ns = self._asked.pop(what, (0, 0))
        pause_ns = int(min(AGAIN_S * 2 ** (times - 1), AGAIN_MAX_S) * SECOND_NS)
        if times and now_ns - last_ns >= max(CALM_NS, 2 * pause_ns):
            times = 0
        if times >= TRIES_MAX:
            self.give_up(what, now_ns)
            return None
        due_ns = max(now_ns, last_ns + pause_ns) if times else now_ns
        self._asked[what] = times + 1, due_ns
        if len(self._asked) > KEPT_MAX:
            del self._asked[next(iter(self._asked))]
        return due_ns

    def give_up(self, what: str, now_ns: int) -> None:
        """Not to be asked for any more, for now."""
        self._given_up[what] = now_ns
        if len(self._given_up) > KEPT_MAX:
            del self._given_up[next(iter(self._given_up))]

    def given_up(self, now_ns: int) -> list[str]:
        """What is not asked for any more."""
        return [what for what, at_ns in self._given_up.items() if now_ns - at_ns <= GIVEN_UP_NS]

    def forget(self, begins: str) -> None:
        """Whatever begins so may be asked for as if it never was."""
        for kept in (self._asked, self._given_up):
            for what in [w for w in kept if w.startswith(begins)]:
                del kept[what]

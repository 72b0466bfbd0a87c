"""Virtual time: what happens next, in order, without waiting for it."""

import heapq
from collections.abc import Callable
from itertools import count


class Agenda:
    """Calls at points of virtual time (POSIX seconds); equal times keep the order in which they were entered."""

    def __init__(self, start: float) -> None:
        self.now = start
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def after(self, delay_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._entries, (self.now + delay_s, next(self._order), call))

    @property
    def next_at(self) -> float:
        """Time of the next call; infinite when there is none."""
        return self._entries[0][0] if self._entries else float("inf")

    def run_until(self, time: float) -> None:
        """Make every call that is due by then, and let it be then."""
        while self._entries and self._entries[0][0] <= time:
            self.now, _, call = heapq.heappop(self._entries)
            call()
        self.now = max(self.now, time)

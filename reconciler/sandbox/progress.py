"""Progress of something that takes minutes: one line, rewritten on a terminal, repeated rarely elsewhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TextIO

REPEAT_S: Final = 30.0  # in a log


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One moment. `index` of `total` counts the subjects from 1; 0 where nothing is counted."""

    what: str
    subject: str
    elapsed_s: float
    index: int = 0
    total: int = 0

    def __str__(self) -> str:
        count = f"[{self.index}/{self.total}] " if self.total else ""
        minutes, seconds = divmod(int(self.elapsed_s), 60)
        return f"{count}{self.what} {self.subject} {minutes}:{seconds:02}"


Report = Callable[[Progress], None]


class Line:
    """A `Report` that writes to a stream."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._last = ("", "")
        self._due = 0.0

    def __call__(self, progress: Progress) -> None:
        now, key = self._clock(), (progress.what, progress.subject)
        changed, self._last = key != self._last, key
        if self._stream.isatty():
            end = "\n" if progress.what == "built" else ""
            self._stream.write(f"\r\x1b[K{progress}{end}")
        elif changed or now >= self._due:
            self._due = now + REPEAT_S
            self._stream.write(f"{progress}\n")
        self._stream.flush()

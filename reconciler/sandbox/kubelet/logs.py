"""Container logs: one file an instance, each line with its time, read back as `kubectl logs` asks for it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from schema.clock import parse_rfc3339

FOLLOW_LOOK_S = 0.5  # a follower looks at least so often whether the instance still runs
READ_BYTES = 1 << 16


class LogFile:
    """The log of one instance: `<time> <line>` a line, appended at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rest = b""
        self._grown = asyncio.Event()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def write(self, data: bytes) -> None:
        """Append output; a line is kept back until its end is there."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if not lines:
            return
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode()
        with self.path.open("ab") as file:
            file.write(b"".join(stamp + line + b"\n" for line in lines))
        self._grown.set()
        self._grown = asyncio.Event()

    def line(self, text: str) -> None:
        self.write(text.encode() + b"\n")

    def finish(self) -> None:
        """Write what is left without an end of line."""
        if self._rest:
            self.write(b"\n")

    async def growth(self) -> None:
        """Until there is more, or `FOLLOW_LOOK_S` seconds."""
        try:
            await asyncio.wait_for(self._grown.wait(), FOLLOW_LOOK_S)
        except TimeoutError:
            return


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """What `kubectl logs` asks for. `since` is POSIX seconds."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: float | None = None


async def read(
    path: Path, query: LogQuery, follow: LogFile | None, live: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """The bytes that answer `query`; with `follow` until `live()` is false."""
    budget = query.limit_bytes
    with path.open("rb") as file:
        lines = _tail(file.readlines(), query)
        while True:
            chunk = b"".join(_shown(line, timestamps=query.timestamps) for line in lines)
            if budget is not None:
                chunk, budget = chunk[:budget], budget - len(chunk)
            if chunk:
                yield chunk
            if budget is not None and budget <= 0:
                return
            # first whether it lives, then what it wrote: nothing written before its end is missed
            more = follow is not None and live()
            if lines := file.readlines():
                continue
            if not more or follow is None:
                return
            await follow.growth()
            lines = file.readlines()


def last_output(path: Path, *, size_bytes: int = 2048, lines: int = 80) -> str:
    """The end of a log, for terminationMessagePolicy FallbackToLogsOnError."""
    try:
        with path.open("rb") as file:
            kept = deque(file, maxlen=lines)
    except FileNotFoundError:
        return ""
    return b"".join(_shown(line, timestamps=False) for line in kept)[-size_bytes:].decode(errors="replace")


def _tail(lines: list[bytes], query: LogQuery) -> list[bytes]:
    if query.since is not None:
        lines = [line for line in lines if _time(line) >= query.since]
    if query.tail_lines is None:
        return lines
    return lines[-query.tail_lines :] if query.tail_lines > 0 else []


def _time(line: bytes) -> float:
    stamp = line.partition(b" ")[0].decode()
    return parse_rfc3339(stamp[:26] + "Z")  # nanoseconds are more than Python reads


def _shown(line: bytes, *, timestamps: bool) -> bytes:
    return line if timestamps else line.partition(b" ")[2]

"""The builder's `keep` inside our process: 20 keepers as Python processes of their own would cost a gigabyte.

It is the builder's own code on the fake host, pass by pass in a thread. Unlike a process it cannot be killed inside a
pass, which takes milliseconds.
"""

import asyncio
import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Final, TypeVar

from builder.context import Context
from builder.keep import INTERVAL_S, is_ready, keep_once
from reconciler.sandbox.kubelet.logs import LogFile
from reconciler.sandbox.kubelet.records import EXIT_KILLED
from reconciler.sandbox.kubelet.tasks import spawn

THREADS: Final = 4
END_BOUND_S: Final = 30.0
_FLAG: Final = "--interval-s"
Result = TypeVar("Result")


class Keeper:
    """A loop of the builder's passes."""

    def __init__(self, context: Context, log: LogFile, interval_s: float) -> None:
        self._context = context
        self._log = log
        self._interval_s = interval_s
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._stopped = asyncio.Event()
        self._task = spawn(self._loop(), f"keeper of {context.settings.node}")

    @classmethod
    def start(
        cls, arguments: Sequence[str], env: Mapping[str, str], log: LogFile, *, interval_s: float | None
    ) -> "Keeper":
        """Start it; `interval_s` wins over the arguments'."""
        loop = asyncio.get_running_loop()

        def say(line: str) -> None:  # in the keeper's thread
            loop.call_soon_threadsafe(log.line, line)

        return cls(Context.from_environment(env, log=say), log, interval_s or _interval_s(arguments))

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    def terminate(self) -> None:
        self._end(0)

    def kill(self) -> None:
        self._end(EXIT_KILLED)

    async def probe(self, command: Sequence[str]) -> bool:  # noqa: ARG002  a keeper has one probe: `ready`
        return await _in_thread(lambda: is_ready(self._context.host))

    async def abandon(self) -> None:
        self._end(EXIT_KILLED)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._task), END_BOUND_S)

    async def _loop(self) -> None:
        before = None
        while not self._stopped.is_set():
            try:
                verdict = await _in_thread(lambda: keep_once(self._context))
            except Exception:  # noqa: BLE001  in a process of its own it would end with this traceback and code
                self._log.line(traceback.format_exc().rstrip())
                self._end(1)
                return
            if verdict != before:
                self._log.line(verdict.to_line())
            before = verdict
            with suppress(TimeoutError):
                # spread a little, or the keepers of a hundred nodes pass at the same moment for ever
                await asyncio.wait_for(self._stopped.wait(), self._interval_s * random.uniform(0.9, 1.1))

    def _end(self, code: int) -> None:
        self._stopped.set()
        if not self._exit.done():
            self._exit.set_result(code)


def keeps(arguments: Sequence[str]) -> bool:
    """Is it the keeper's loop?"""
    return bool(arguments) and arguments[0] == "keep" and "--once" not in arguments


def _interval_s(arguments: Sequence[str]) -> float:
    for position, word in enumerate(arguments):
        if word == _FLAG:
            return float(arguments[position + 1])
        if word.startswith(f"{_FLAG}="):
            return float(word.partition("=")[2])
    return INTERVAL_S


async def _in_thread(work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(_threads(), work)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="keep")

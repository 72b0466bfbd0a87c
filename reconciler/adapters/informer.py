"""Keeps a `Store` equal to a collection of the server: list, watch from there, list again whenever in doubt.

A watch that ends as asked for continues; a watch that breaks, expires (410) or goes backwards leads to a new list. Every
wait is bounded: a list by the client's time-out, a watch by the server's, silence by the socket's.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Generic, TypeVar

from reconciler.adapters.kube import Kube, Response
from reconciler.adapters.store import Raw, Store

T = TypeVar("T")
log = logging.getLogger(__name__)

WATCH_S = 20.0  # shorter than the silence that kube.watch takes for a broken connection
HEALTHY_S = 5.0  # a list and watch that worked for longer was no failure
RESYNC_S = 600.0  # a full list at least this often, whatever the watch says
BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class WatchEndedError(Exception):
    """The stream cannot be continued: list again."""


def _nothing() -> None:
    return None


class Informer(Generic[T]):
    """One collection. `async with informer.running():` keeps it up to date.

    Attributes:
        store: what is known; complete once `synced` is set.
        synced: set by the first list.
        heard_at: `time.monotonic()` of the last sign of life from the server, 0.0 before the first.
    """

    def __init__(
        self,
        kube: Kube,
        path: str,
        project: Callable[[Raw], T],
        *,
        material: Callable[[T], object] | None = None,
        changed: Callable[[], None] = _nothing,
        **query: Any,
    ) -> None:
        self.path = path
        self.store: Store[T] = Store(project, material) if material else Store(project)
        self.synced = asyncio.Event()
        self.heard_at = 0.0
        self._kube = kube
        self._query = query
        self._changed = changed
        self._listing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Informer[T]"]:
        """Runs in a task of its own, which ends with the block."""
        task = asyncio.create_task(self.run(), name=f"informer {self.path}")
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            started = time.monotonic()
            response = await self.relist()
            reason = await self._follow() if response.ok else response.message
            failures = 0 if time.monotonic() - started > HEALTHY_S and response.ok else failures + 1
            pause_s = BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)] * random.uniform(0.5, 1.5)
            log.info("%s: list again in %.1f s: %s", self.path, pause_s, reason)
            await asyncio.sleep(pause_s)

    async def relist(self) -> Response:
        """A quorum list; on success it replaces the store."""
        async with self._listing:
            self.store.begin_list()
            response = await self._kube.list(self.path, **self._query)
            if response.ok:
                version = int(response.body["metadata"]["resourceVersion"])
                self.store.replace(response.body["items"], version)
                self._heard()
                self.synced.set()
                self._changed()
        return response

    def wrote(self, response: Response) -> None:
        """The answer to a write of ours to an object of this collection: reads see it from now on."""
        if response.ok and "resourceVersion" in response.body.get("metadata", {}):
            self.store.wrote(response.body)

    async def _follow(self) -> str:
        """Watch after watch; returns why no further one can follow."""
        started = time.monotonic()
        try:
            while time.monotonic() < started + RESYNC_S:
                await self._watch(self.store.epoch)
        except WatchEndedError as ended:
            return str(ended)
        return "resync"

    async def _watch(self, epoch: int) -> None:
        """One stream, until it ends or a list has replaced the store under it.

        Raises:
            WatchEndedError: it broke, or told of something that cannot be.
        """
        version = str(self.store.seen)
        events = self._kube.watch(self.path, resource_version=version, timeout_s=WATCH_S, **self._query)
        async with contextlib.aclosing(events):
            async for event in events:
                if self.store.epoch != epoch:
                    return
                self._heard()
                kind, item = event["type"], event["object"]
                if kind == "ERROR":
                    raise WatchEndedError(item.get("message") or f"code {item.get('code')}")
                if kind == "BOOKMARK" and int(item["metadata"]["resourceVersion"]) < self.store.seen:
                    raise WatchEndedError("the server has gone backwards")
                if self.store.event(kind, item):
                    self._changed()
        if self.store.epoch == epoch:
            self._heard()

    def _heard(self) -> None:
        self.heard_at = time.monotonic()


@contextlib.asynccontextmanager
async def all_running(informers: Iterable[Informer[Any]]) -> AsyncIterator[None]:
    """They run for as long as the block."""
    async with contextlib.AsyncExitStack() as stack:
        for informer in informers:
            await stack.enter_async_context(informer.running())
        yield


async def all_synced(informers: Iterable[Informer[Any]]) -> None:
    """Until every collection has been listed once."""
    await asyncio.gather(*(informer.synced.wait() for informer in informers))

"""The reconciler process: fetches by interval and by change, ticks whenever something moved, writes as the leader only."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchfiles import awatch

from reconciler.core.actions import Outcome, Verb
from reconciler.core.rollout.sequence import sequence
from reconciler.core.rollout.syncworld import (
    ApplyPolicy,
    DeletePolicy,
    Stall,
    SyncAction,
    SyncDecision,
    SyncView,
    WriteSync,
)
from reconciler.loop import first, tick
from reconciler.sync.leader import Leader
from reconciler.sync.repository import Fetched, Repository, open_repository
from reconciler.sync.server import NOT_TRIED, FleetServer
from schema.sync import SyncSpec

log = logging.getLogger("ttfleet.reconciler")

SPACING_S = 0.1  # between two ticks, however much changes
SETBACK_LIMIT_S = 10.0
RESYNC_S = 30.0  # a tick at least this often
PATH_POLL_S = (
    10.0  # a watched directory is also read this often: a watch goes blind when its root is re-created
)
WATCH_AGAIN_S = 2.0


@dataclass(kw_only=True)
class Driver:
    """Runs `sequence` over a server, for the FleetSync that counts.

    Attributes:
        cache: directory for git caches.
        leader: None where this is the only reconciler by construction.
    """

    server: FleetServer
    cache: Path
    leader: Leader | None = None
    _spec: SyncSpec | None = None
    _repository: Repository | Stall | None = None
    _due_at: float = 0.0
    _setbacks: int = 0
    _set_back: bool = False
    _watching: asyncio.Task[None] | None = None

    def heard(self, action: SyncAction, outcome: Outcome) -> None:
        """One line for each write; a failure that would only repeat slows the ticks down."""
        if outcome.verb in {Verb.REFUSED, Verb.UNKNOWN}:
            self._set_back = True
        suffix = "" if outcome.verb is Verb.DONE else f": {outcome.verb} {outcome.message}"
        log.log(_level(action, outcome), "%s%s", told(action), suffix)

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping`; a tick that has begun is finished."""
        async with self.server.running(), self._leading(stopping):
            await first(self.server.synced(), stopping.wait())
            while not stopping.is_set():
                self.server.changed.clear()
                wait_s = await self._turn() if self.leads else RESYNC_S
                await first(asyncio.sleep(SPACING_S), stopping.wait())
                await first(
                    asyncio.sleep(wait_s), self.server.changed.wait(), self._leadership(), stopping.wait()
                )
        await self._watch(None)

    @property
    def leads(self) -> bool:
        return self.leader is None or self.leader.leads

    @contextlib.asynccontextmanager
    async def _leading(self, stopping: asyncio.Event) -> AsyncIterator[None]:
        """The Lease is kept beside the ticks and given up after the last."""
        task = asyncio.create_task(self.leader.run(stopping)) if self.leader else None
        try:
            yield
        finally:
            if task is not None:
                stopping.set()
                await asyncio.wait_for(task, 10)

    async def _leadership(self) -> None:
        if self.leader is None:
            await asyncio.Event().wait()
            return
        await self.leader.changed.wait()
        self.leader.changed.clear()

    async def _turn(self) -> float:
        """Fetch if it is time, then decide and write for every FleetSync. Seconds until the next look."""
        views = self.server.sync_views()
        if not views:
            log.info("there is no FleetSync yet")
            return RESYNC_S
        await self._fetch(views[0])
        if not self.leads or _wanted(self.server.sync_views()) != _wanted(views):
            return 0.0  # a fetch may take minutes: what it brought is for a FleetSync as it was
        self._set_back = False
        before, wrote = self._said(views[0].name), False
        for view in views:
            self.server.chosen = view.name
            decision = await tick(self.server, sequence, time.time())
            wrote = wrote or any(not isinstance(action, WriteSync) for action in decision.actions)
            if view.name == views[0].name:
                self._tell(before, decision)
        self._setbacks = self._setbacks + 1 if self._set_back else 0
        if self._setbacks:
            await asyncio.sleep(min(SPACING_S * 2**self._setbacks, SETBACK_LIMIT_S))
        return 0.0 if wrote else max(0.0, min(RESYNC_S, self._due_at - time.monotonic()))

    async def _fetch(self, sync: SyncView) -> None:
        if sync.spec != self._spec:
            self._spec, self._due_at = sync.spec, 0.0
            self._repository = open_repository(sync.spec, self.cache)
            await self._watch(Path(sync.spec.path) if sync.spec.path else None)
        if time.monotonic() < self._due_at and self.server.fetched.last_applied == sync.last_applied:
            return
        interval_s = min(sync.spec.interval_s, PATH_POLL_S) if sync.spec.path else sync.spec.interval_s
        self._due_at = time.monotonic() + interval_s
        if isinstance(self._repository, Repository):
            self.server.fetched = await asyncio.to_thread(self._repository.fetch, sync.last_applied)
        else:
            self.server.fetched = Fetched(fault=self._repository)

    async def _watch(self, path: Path | None) -> None:
        """Watch this directory from now on, or none."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        self._watching = asyncio.create_task(self._follow(path)) if path else None

    async def _follow(self, path: Path) -> None:
        while True:
            try:
                async for _ in awatch(path, recursive=True, yield_on_timeout=False):
                    self._due_at = 0.0
                    self.server.changed.set()
            except (OSError, RuntimeError) as error:
                log.info("%s cannot be watched just now: %s", path, error)
            await asyncio.sleep(WATCH_AGAIN_S)

    def _said(self, name: str) -> str:
        view = next((view for view in self.server.sync_views() if view.name == name), None)
        return ready_message(view.status) if view else ""

    def _tell(self, before: str, decision: SyncDecision) -> None:
        """What the FleetSync says, whenever it says something new."""
        for action in decision.actions:
            if isinstance(action, WriteSync) and ready_message(action.status) != before:
                log.info("%s", ready_message(action.status))


def _wanted(views: Iterable[SyncView]) -> list[tuple[str, SyncSpec]]:
    return [(view.uid, view.spec) for view in views]


def _level(action: SyncAction, outcome: Outcome) -> int:
    """A conflict only costs a look, and what is not tried after it tells nothing new."""
    match outcome.verb:
        case Verb.DONE:
            return logging.DEBUG if isinstance(action, WriteSync) else logging.INFO
        case Verb.CONFLICT:
            return logging.INFO
        case _:
            return logging.DEBUG if outcome.cause == NOT_TRIED else logging.WARNING


def ready_message(status: Any) -> str:
    """The Ready condition in one line."""
    for condition in status.get("conditions", ()):
        if condition.get("type") == "Ready":
            return f"{condition.get('reason')}: {condition.get('message')}"
    return ""


def told(action: SyncAction) -> str:
    """An action for people."""
    match action:
        case ApplyPolicy():
            verb = "create" if action.resource_version is None else "configure"
            gate = "waiting" if action.manifest.spec.waiting else "open"
            return f"{verb} {action.manifest.name} ({action.why}; {gate}, {action.manifest.spec.version})"
        case DeletePolicy():
            return f"delete {action.name}"
        case WriteSync():
            return f"status of {action.name}"

"""Kubernetes Events, best effort: what `kubectl describe` shows beside the object. Never waited for, never needed."""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from reconciler.adapters.kube import Kube
from schema.clock import format_rfc3339
from schema.names import MANAGER_OPERATOR

log = logging.getLogger(__name__)

EVENTS = "/api/v1/namespaces/default/events"  # where Events about cluster-scoped objects live
QUEUE_LIMIT = 256
REPEAT_S = 60.0  # the same Event is counted up at most this often
FORGET_S = 1800.0  # after which it is a new one
FLUSH_S = 2.0  # for what is still queued when the operator stops


@dataclass(frozen=True, slots=True)
class Subject:
    """What an Event is about: a cluster-scoped object."""

    api_version: str
    kind: str
    name: str
    uid: str

    def to_json(self) -> dict[str, str]:
        return {"apiVersion": self.api_version, "kind": self.kind, "name": self.name, "uid": self.uid}


@dataclass(frozen=True, slots=True)
class Note:
    subject: Subject
    reason: str
    message: str
    warning: bool


@dataclass(slots=True)
class _Series:
    name: str
    first: float
    posted: float
    count: int


class Recorder:
    """Posts notes in the background, equal ones as one Event with a count."""

    def __init__(self, kube: Kube, instance: str, wall: Callable[[], float] = time.time) -> None:
        self._kube = kube
        self._instance = instance
        self._wall = wall
        self._queue: asyncio.Queue[Note] = asyncio.Queue(QUEUE_LIMIT)
        self._series: dict[Note, _Series] = {}

    def note(self, note: Note) -> None:
        """Queue it; dropped when too many wait already."""
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(note)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Recorder"]:
        task = asyncio.create_task(self._run(), name="events")
        try:
            yield self
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._queue.join(), FLUSH_S)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            note = await self._queue.get()
            await self._post(note)
            self._queue.task_done()

    async def _post(self, note: Note) -> None:
        now = self._wall()
        self._forget(now)
        series = self._series.get(note)
        if series is None:
            await self._create(note, now)
            return
        series.count += 1
        if now - series.posted < REPEAT_S:
            return
        series.posted = now
        patch = {"count": series.count, "lastTimestamp": format_rfc3339(now)}
        await self._kube.patch(f"{EVENTS}/{series.name}", patch, field_manager=MANAGER_OPERATOR)

    async def _create(self, note: Note, now: float) -> None:
        digest = hashlib.sha256(f"{note}{now}".encode()).hexdigest()[:16]
        name = f"{note.subject.name[:200]}.{digest}"
        self._series[note] = _Series(name=name, first=now, posted=now, count=1)
        response = await self._kube.create(
            EVENTS, self._body(note, name, now), field_manager=MANAGER_OPERATOR
        )
        if not response.ok:
            log.debug("Event %s about %s was not taken: %s", note.reason, note.subject.name, response.message)

    def _body(self, note: Note, name: str, now: float) -> dict[str, Any]:
        at = format_rfc3339(now)
        return {
            "metadata": {"name": name, "namespace": "default"},
            "involvedObject": note.subject.to_json(),
            "reason": note.reason,
            "message": note.message[:1000],
            "type": "Warning" if note.warning else "Normal",
            "source": {"component": MANAGER_OPERATOR},
            "reportingComponent": MANAGER_OPERATOR,
            "reportingInstance": self._instance,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        }

    def _forget(self, now: float) -> None:
        self._series = {note: s for note, s in self._series.items() if now - s.posted < FORGET_S}

"""Events, as a kubelet posts them: for people who type `kubectl describe`. A lost one is no fault."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from reconciler.sandbox.kubelet.machine import Machine
from reconciler.sandbox.kubelet.tasks import spawn
from schema.clock import format_rfc3339

WAITING_LIMIT = 50  # more are dropped: Events must never be what a node is busy with


class Recorder:
    """Posts Events of one node, one at a time."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(WAITING_LIMIT)
        self._number = 0

    def start(self) -> "asyncio.Task[None]":
        return spawn(self._post(), f"events of {self._machine.name}")

    def pod(self, pod: Mapping[str, Any], kind: str, reason: str, message: str) -> None:
        metadata = pod["metadata"]
        involved = {
            "kind": "Pod",
            "apiVersion": "v1",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        self._put(metadata["namespace"], involved, kind, reason, message)

    def node(self, kind: str, reason: str, message: str) -> None:
        name = self._machine.name
        self._put(
            "default", {"kind": "Node", "apiVersion": "v1", "name": name, "uid": name}, kind, reason, message
        )

    def _put(self, namespace: str, involved: Mapping[str, str], kind: str, reason: str, message: str) -> None:
        now = time.time()
        if self._queue.full():
            return
        self._number += 1
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{involved['name']}.{int(now * 1e6):x}{self._number:x}",
                "namespace": namespace,
            },
            "involvedObject": dict(involved),
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": "kubelet", "host": self._machine.name},
            "reportingComponent": "kubelet",
            "reportingInstance": self._machine.name,
            "firstTimestamp": format_rfc3339(now),
            "lastTimestamp": format_rfc3339(now),
            "count": 1,
        }
        self._queue.put_nowait((f"/api/v1/namespaces/{namespace}/events", event))

    async def _post(self) -> None:
        while True:
            path, event = await self._queue.get()
            await self._machine.connected.wait()
            await self._machine.kube.create(path, event)

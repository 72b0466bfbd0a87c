"""One hollow kubelet: registers its Node, beats, watches its pods, serves their logs; reboots and vanishes when told."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from reconciler.sandbox.kubelet import nodestatus
from reconciler.sandbox.kubelet.events import Recorder
from reconciler.sandbox.kubelet.machine import HOST_IP, Machine
from reconciler.sandbox.kubelet.nodestatus import LEASES, MachineReport
from reconciler.sandbox.kubelet.orphans import forget_orphans
from reconciler.sandbox.kubelet.pods import Pod
from reconciler.sandbox.kubelet.server import LogServer
from reconciler.sandbox.kubelet.tasks import log, spawn

WATCH_S: Final = 20.0  # shorter than the silence after which the client takes a watch for dead
RETRY_S: Final = 1.0
PODS: Final = "/api/v1/pods"
REGISTER_BOUND_S: Final = 60.0


class RegisterError(Exception):
    """The API server does not take the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """How a node is made; kept on disk, for the next start.

    Attributes:
        labels: that the kubelet sets at registration.
        cards: Tenstorrent cards in the machine.
        number: gives its pods their addresses.
    """

    name: str
    labels: Mapping[str, str]
    cards: int
    profile: str
    number: int


class HollowNode:
    """The kubelet of one node."""

    def __init__(
        self,
        machine: Machine,
        spec: NodeSpec,
        server: Callable[[Callable[[str, str], Pod | None]], LogServer],
    ) -> None:
        self.machine = machine
        self.spec = spec
        self.pods: dict[str, Pod] = {}  # by uid
        self._server = server(self.find)
        self._recorder = Recorder(machine)
        self._tasks: list[asyncio.Task[None]] = []
        self._uid = ""
        self._ready_since = 0.0

    @property
    def up(self) -> bool:
        """It beats and works."""
        return bool(self._tasks)

    @property
    def port(self) -> int:
        """Its daemonEndpoints port."""
        return self._server.port

    def find(self, namespace: str, name: str) -> Pod | None:
        """The pod of this name; of two (the older is ending, after a forced deletion) the newer one."""
        found = [pod for pod in self.pods.values() if pod.key == (namespace, name)]
        return found[-1] if found else None

    async def boot(self) -> None:
        """Start the kubelet: serve, register, then take up the pods.

        Raises:
            RegisterError: the API server refuses the node, or does not answer within `REGISTER_BOUND_S`.
        """
        self._ready_since = time.time()
        await self._server.start()
        await self._register()
        self.machine.connected.set()
        self._start_tasks()

    async def vanish(self) -> None:
        """The kubelet hangs: no heartbeat, no word about pods, no logs; containers run on and reach the server."""
        self.machine.connected.clear()
        await self._stop_tasks()
        await self._server.stop()

    async def come_back(self) -> None:
        """After `vanish` or `power_off`."""
        if not self.up:
            await self.boot()

    async def power_off(self) -> None:
        """The power is cut: everything in memory is lost, the module too. The next start is a new boot."""
        await self.stop()
        await asyncio.to_thread(self.machine.host.reboot)

    async def reboot(self, down_s: float = 1.0) -> None:
        await self.power_off()
        await asyncio.sleep(down_s)
        await self.boot()
        self._recorder.node(
            "Warning",
            "Rebooted",
            f"Node {self.spec.name} has been rebooted, boot id: {self.machine.host.boot_id}",
        )

    async def stop(self) -> None:
        """The kubelet's process ends, at once. Its files say what ran."""
        await self.vanish()
        await asyncio.gather(*(pod.abandon() for pod in self.pods.values()))
        self.pods.clear()

    def _start_tasks(self) -> None:
        name = self.spec.name
        self._tasks = [
            spawn(self._watch(), f"watch of {name}"),
            spawn(self._beat(), f"status of {name}"),
            spawn(self._renew(), f"lease of {name}"),
            self._recorder.start(),
        ]

    async def _stop_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _register(self) -> None:
        """Create the Node, or take up the one that is there; then its status and its Lease."""
        kube, name = self.machine.kube, self.spec.name
        deadline = time.monotonic() + REGISTER_BOUND_S
        body = nodestatus.node(name, self.spec.labels) | {"status": self._status()}
        while True:
            answer = await kube.create("/api/v1/nodes", body)
            if answer.code == 409:
                path = f"/api/v1/nodes/{name}"
                await kube.patch(
                    path, {"metadata": {"labels": nodestatus.node(name, {})["metadata"]["labels"]}}
                )
                answer = await kube.patch(f"{path}/status", {"status": self._status()}, kind="strategic")
            if answer.ok:
                self._uid = answer.body["metadata"]["uid"]
                return
            if time.monotonic() > deadline or 400 <= answer.code < 500:
                raise RegisterError(f"node {name}: {answer.code} {answer.message}")
            await asyncio.sleep(RETRY_S)

    def _status(self) -> dict[str, Any]:
        machine = self.machine
        report = MachineReport(
            name=self.spec.name,
            boot_id=machine.host.boot_id,
            kernel=machine.host.kernel,
            os_image=self.spec.profile,
            cards=self.spec.cards,
            address=HOST_IP,
            port=self._server.port,
            ready_since=self._ready_since,
        )
        return nodestatus.node_status(report, now=time.time())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.machine.settings.heartbeat_s)
            path = f"/api/v1/nodes/{self.spec.name}/status"
            await self.machine.kube.patch(path, {"status": self._status()}, kind="strategic")

    async def _renew(self) -> None:
        kube, settings = self.machine.kube, self.machine.settings
        while True:
            spec = {"spec": nodestatus.renewal(time.time())}
            answer = await kube.patch(f"{LEASES}/{self.spec.name}", spec)
            if answer.code == 404:
                now = time.time()
                body = nodestatus.lease(
                    self.spec.name, self._uid, duration_s=settings.lease_duration_s, now=now
                )
                answer = await kube.create(LEASES, body)
            await asyncio.sleep(settings.lease_s if answer.ok else RETRY_S)

    async def _watch(self) -> None:
        """List, then follow; list again where the server says that events were lost."""
        while True:
            listing = await self.machine.kube.list(PODS, **self._mine)
            if not listing.ok:
                log.warning("%s: list of pods: %s", self.spec.name, listing.message)
                await asyncio.sleep(RETRY_S)
                continue
            await self._listed(listing.body["items"])
            version = listing.body["metadata"]["resourceVersion"]
            while version:
                version = await self._follow(version)

    async def _follow(self, version: str) -> str:
        """One watch from `version` to its end; returns where the next one goes on, "" when it has to be a list."""
        events = self.machine.kube.watch(PODS, resource_version=version, timeout_s=WATCH_S, **self._mine)
        async with aclosing(events):
            async for event in events:
                item = event["object"]
                if event["type"] == "ERROR":
                    await asyncio.sleep(RETRY_S)
                    return version if item.get("code") == 0 else ""
                version = item["metadata"]["resourceVersion"]
                self._seen(event["type"], item)
        return version

    @property
    def _mine(self) -> dict[str, str]:
        return {"fieldSelector": f"spec.nodeName={self.spec.name}"}

    async def _listed(self, items: list[dict[str, Any]]) -> None:
        """A list is the truth, whatever its version: a restored etcd goes backward."""
        for item in items:
            if pod := self.pods.get(item["metadata"]["uid"]):
                pod.update(item, listed=True)
            else:
                self._add(item)
        present = {item["metadata"]["uid"] for item in items}
        for uid, pod in list(self.pods.items()):
            if uid not in present:
                pod.removed()
        await asyncio.to_thread(forget_orphans, self.machine, present | set(self.pods))

    def _seen(self, kind: str, item: dict[str, Any]) -> None:
        pod = self.pods.get(item["metadata"].get("uid", ""))  # a BOOKMARK has none
        match kind:
            case "ADDED" | "MODIFIED" if pod is None:
                self._add(item)
            case "ADDED" | "MODIFIED":
                assert pod is not None
                pod.update(item)
            case "DELETED" if pod is not None:
                pod.update(item)
                pod.removed()

    def _add(self, item: dict[str, Any]) -> None:
        pod = Pod(
            self.machine,
            item,
            pod_ip=(item.get("status") or {}).get("podIP") or self._address(),
            post=self._recorder.pod,
            forgotten=self._forget,
        )
        self.pods[pod.uid] = pod
        pod.start()

    def _address(self) -> str:
        """An address that no pod of this node has; a pod keeps the one that it has been given."""
        taken = {pod.scope.pod_ip for pod in self.pods.values()}
        network = f"10.{128 + (self.spec.number >> 8)}.{self.spec.number & 255}"
        return next(ip for host in range(2, 255) if (ip := f"{network}.{host}") not in taken)

    def _forget(self, pod: Pod) -> None:
        self.pods.pop(pod.uid, None)

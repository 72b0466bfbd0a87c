"""One pod on a hollow node: volumes, init containers, main containers, its end, and what the server is told of it."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from reconciler.sandbox.kubelet import backoff
from reconciler.sandbox.kubelet.containers import Container, PodScope, adopted
from reconciler.sandbox.kubelet.machine import HOST_IP, Machine
from reconciler.sandbox.kubelet.orphans import SAVED, clear
from reconciler.sandbox.kubelet.phases import TERMINAL, PodRecord, covers, pod_status
from reconciler.sandbox.kubelet.records import INITIALIZING, ContainerRecord
from reconciler.sandbox.kubelet.tasks import log, spawn
from reconciler.sandbox.kubelet.volumes import Mounter, MountFault, Volumes

RETRY_S = 0.5
MOUNT_RETRY_S = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0)


class Pod:
    """A pod and the tasks that run it. `update` and `removed` are told by the node's watch."""

    def __init__(
        self,
        machine: Machine,
        pod: Mapping[str, Any],
        *,
        pod_ip: str,
        post: Callable[[Mapping[str, Any], str, str, str], None],
        forgotten: Callable[["Pod"], None],
    ) -> None:
        self.machine = machine
        self.object = pod
        self.uid: str = pod["metadata"]["uid"]
        self.directory = machine.directory / "pods" / self.uid
        self._forgotten = forgotten
        self._gone = asyncio.Event()  # the server has it no more
        self._dirty = asyncio.Event()
        self._synced = asyncio.Event()
        self._grace_s: float | None = None
        self._stopped_at = 0.0
        self._hurry = asyncio.Event()
        self._final = False
        self._tasks: list[asyncio.Task[None]] = []
        self.scope = PodScope(
            machine=machine,
            pod=pod,
            directory=self.directory,
            pod_ip=pod_ip,
            stopping=asyncio.Event(),
            changed=self._changed,
            post=lambda kind, reason, message: post(self.object, kind, reason, message),
        )
        saved = _saved(self.directory)
        records = {
            name: ContainerRecord.from_json(data) for name, data in saved.get("containers", {}).items()
        }
        spec = pod["spec"]
        self.init = [self._container(c, records, init=True) for c in spec.get("initContainers") or ()]
        self.main = [self._container(c, records, init=False) for c in spec["containers"]]
        self._boot_id = machine.host.boot_id
        self._adopt(same_boot=saved.get("bootID") == self._boot_id)

    @property
    def key(self) -> tuple[str, str]:
        return self.object["metadata"]["namespace"], self.object["metadata"]["name"]

    @property
    def containers(self) -> list[Container]:
        return [*self.init, *self.main]

    @property
    def record(self) -> PodRecord:
        return PodRecord(
            init=tuple(container.record for container in self.init),
            main=tuple(container.record for container in self.main),
            sandbox=self.scope.volumes is not None,
            final=self._final,
            ended=self.scope.stopping.is_set(),
        )

    def start(self) -> None:
        name = "/".join(self.key)
        self._tasks = [spawn(self._run(), f"pod {name}"), spawn(self._sync(), f"status of {name}")]
        self._changed()
        self.update(self.object)

    def update(self, pod: Mapping[str, Any], *, listed: bool = False) -> None:
        """A newer object from the server; an older one counts only when a list has it."""
        if _version(pod) < _version(self.object) and not listed:
            return
        self.object = self.scope.pod = pod
        if "deletionTimestamp" in pod["metadata"]:
            self._stop()
        self._dirty.set()

    def removed(self) -> None:
        """The server has deleted the object, whether we agreed or not."""
        self._gone.set()
        self._stop()

    async def abandon(self) -> None:
        """The kubelet ends (or the machine's power is cut): nothing more is written, processes are killed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for container in self.containers:
            await container.abandon()

    def _container(
        self, spec: Mapping[str, Any], records: Mapping[str, ContainerRecord], *, init: bool
    ) -> Container:
        return Container(self.scope, spec, init=init, record=records.get(spec["name"]))

    def _adopt(self, *, same_boot: bool) -> None:
        """Go on from what our files say: in the same boot, or after a reboot in a new sandbox."""
        if (self.object.get("status") or {}).get("phase") in TERMINAL:
            self._final = True
        for container in self.containers:
            adopted(container, same_boot=same_boot)
        if not same_boot and any(container.wants_start for container in self.main):
            for container in self.init:
                container.again()

    async def _run(self) -> None:
        ender = asyncio.create_task(self._end())
        try:
            if not self._final:
                await self._live()
        finally:
            ender.cancel()
        self._final = True
        self._changed()
        await self.scope.stopping.wait()
        await self._leave()

    async def _live(self) -> None:
        """Until no container runs and none will."""
        if not await self._mount():
            return
        renewer = asyncio.create_task(self._renew())
        try:
            if not any(container.running for container in self.main):
                await self._initialize()
            if all(container.succeeded for container in self.init):
                await asyncio.gather(*(container.run() for container in self.main))
        finally:
            renewer.cancel()

    async def _initialize(self) -> None:
        if self.init:
            for container in self.main:
                if container.record.ended is None:
                    container.record = ContainerRecord(
                        name=container.record.name, image=container.record.image, state=INITIALIZING
                    )
        for container in self.init:
            await container.run()
            if not container.succeeded:
                return

    async def _mount(self) -> bool:
        """Set up volumes, for as long as it takes; False when the pod has to end first."""
        for attempt in range(1_000_000):
            if self.scope.stopping.is_set():
                return False
            try:
                self.scope.volumes = await self._mounted()
            except MountFault as fault:
                if attempt:  # the Node authorizer learns of a new pod a moment after us
                    self.scope.post("Warning", "FailedMount", f"MountVolume.SetUp failed: {fault}")
                await self.scope.pause(MOUNT_RETRY_S[min(attempt, len(MOUNT_RETRY_S) - 1)])
            else:
                self._changed()
                return True
        return False

    async def _mounted(self) -> Volumes:
        mounter = Mounter(kube=self.machine.kube, host_root=self.machine.host.root)
        return await mounter.mount(self.object, self.directory / "volumes")

    async def _renew(self) -> None:
        """Tokens are renewed in their files before they expire."""
        while (volumes := self.scope.volumes) and volumes.renew_at is not None:
            await asyncio.sleep(max(1.0, volumes.renew_at - time.time()))
            with suppress(MountFault):
                self.scope.volumes = await self._mounted()

    def _stop(self) -> None:
        """Told to end, or told again, with less time."""
        if self._stopped_at == 0.0:
            self._stopped_at = time.monotonic()
        self._grace_s = backoff.grace_s(self.object, self._grace_s)
        self._hurry.set()
        self.scope.stopping.set()

    async def _end(self) -> None:
        """SIGTERM, the grace period, SIGKILL."""
        await self.scope.stopping.wait()
        for container in self.containers:
            if container.running:
                self.scope.post("Normal", "Killing", f"Stopping container {container.record.name}")
            container.terminate()
        while True:
            self._hurry.clear()
            assert self._grace_s is not None
            left_s = self._stopped_at + self._grace_s - time.monotonic()
            if left_s <= 0:
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), left_s)
        for container in self.containers:
            container.kill()

    async def _leave(self) -> None:
        """The final status reaches the server before the object goes; then all that is here."""
        while not self._gone.is_set():
            await self._connected()
            if not await self._told():
                continue
            answer = await self.machine.kube.delete(self._path(), uid=self.uid, grace_s=0)
            if answer.ok or answer.code in {404, 409}:
                break
            await asyncio.sleep(RETRY_S)
        self._tasks[1].cancel()
        await asyncio.to_thread(clear, self.machine, self.directory)
        self._forgotten(self)

    async def _told(self) -> bool:
        """Whether the server has our last word; waits a while for it."""
        if self._dirty.is_set() or not self._synced.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._synced.wait(), RETRY_S)
        return self._synced.is_set() or self._gone.is_set()

    def _changed(self) -> None:
        """Disk first, then the server."""
        self._save()
        self._synced.clear()
        self._dirty.set()

    async def _sync(self) -> None:
        """Bring the server's status to ours whenever they differ, whoever changed it."""
        while True:
            await self._dirty.wait()
            await self._connected()
            self._dirty.clear()
            served, status = self.object.get("status") or {}, self._status()
            if served.get("phase") in TERMINAL or covers(served, status):
                self._synced.set()
                continue
            body = {"metadata": {"uid": self.uid}, "status": status}
            answer = await self.machine.kube.patch(f"{self._path()}/status", body, kind="strategic")
            if answer.ok:
                self._keep(answer.body)
            elif answer.code in {404, 409}:  # the watch will tell
                self._synced.set()
                continue
            else:
                log.warning("status of %s: %s %s", "/".join(self.key), answer.code, answer.message)
                await asyncio.sleep(RETRY_S)
            self._dirty.set()

    def _keep(self, body: Mapping[str, Any]) -> None:
        if _version(body) >= _version(self.object):
            self.update(body)

    def _status(self) -> dict[str, Any]:
        return pod_status(
            self.object, self.record, host_ip=HOST_IP, pod_ip=self.scope.pod_ip, now=time.time()
        )

    def _path(self) -> str:
        namespace, name = self.key
        return f"/api/v1/namespaces/{namespace}/pods/{name}"

    async def _connected(self) -> None:
        await self.machine.connected.wait()

    def _save(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        namespace, name = self.key
        data = {
            "namespace": namespace,
            "name": name,
            "bootID": self._boot_id,
            "containers": {c.record.name: c.record.to_json() for c in self.containers},
        }
        temporary = self.directory / f".{SAVED}.new"
        temporary.write_text(json.dumps(data), encoding="utf-8")
        temporary.replace(self.directory / SAVED)


def _saved(directory: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads((directory / SAVED).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return data


def _version(pod: Mapping[str, Any]) -> int:
    return int(pod["metadata"].get("resourceVersion", "0"))

"""All hollow nodes of a plane: made, found again after a restart, and told what to do."""

import asyncio
import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from reconciler.adapters.kube import Kube
from reconciler.sandbox.errors import SandboxError
from reconciler.sandbox.hosts.machine import FakeHost
from reconciler.sandbox.kubelet import nodestatus
from reconciler.sandbox.kubelet.control import ROOT, SPEC
from reconciler.sandbox.kubelet.machine import Machine, Settings
from reconciler.sandbox.kubelet.node import HollowNode, NodeSpec, RegisterError
from reconciler.sandbox.kubelet.pods import Pod
from reconciler.sandbox.kubelet.server import LogServer, tls
from reconciler.sandbox.kubelet.strays import end_strays
from reconciler.sandbox.plane import Plane
from schema.names import LABEL_PRESENT

CLOSING_S: Final = 0.05  # TLS connections of requests that were cut say farewell
LOCK: Final = "hollow.lock"
LOCK_BOUND_S: Final = 5.0  # a predecessor that was killed may still be going
NFD: Final = "system:serviceaccount:node-feature-discovery:nfd-master"


class HollowNodes:
    """The nodes of one plane, in one process. Each keeps its fake host and its kubelet's files in `hosts/NAME/`.

    async with HollowNodes(plane, hosts) as nodes:
        await nodes.add("node-1", labels={"acme.io/pool": "train"})
    """

    def __init__(self, plane: Plane, hosts_directory: Path, settings: Settings | None = None) -> None:
        self.plane = plane
        self.directory = hosts_directory.absolute()
        self.settings = settings or Settings()
        self.nodes: dict[str, HollowNode] = {}
        self._feature_discovery: Kube | None = None
        self._lock: int | None = None

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = await _lock(self.directory)
        await asyncio.to_thread(end_strays, self.directory)
        user = self.plane.kubeconfig_for_user(NFD, ("system:masters",))
        self._feature_discovery = await Kube.connect(user, user_agent="nfd-master")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all kubelets at once, as SIGKILL would: pods stay with the server, their record on disk."""
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))
        await asyncio.gather(*(node.machine.kube.close() for node in self.nodes.values()))
        self.nodes.clear()
        if self._feature_discovery:
            await self._feature_discovery.close()
        await asyncio.sleep(CLOSING_S)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def resume(self) -> list[HollowNode]:
        """Start the nodes that are on disk."""
        found = sorted(self.directory.glob(f"*/{SPEC}"))
        specs = [NodeSpec(**json.loads(path.read_bytes())) for path in found]
        return list(await asyncio.gather(*(self._boot(s) for s in specs if s.name not in self.nodes)))

    async def add(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        cards: int = 2,
        profile: str = "debian13",
        kernel: str | None = None,
        prepare: Callable[[FakeHost], object] | None = None,
    ) -> HollowNode:
        """A new node, Ready when this returns (its `not-ready` taint goes a moment later), or the one on disk.

        Args:
            name: of the node.
            labels: those that NodeRestriction forbids a kubelet are set by a client that plays NFD, as is
                LABEL_PRESENT where there are cards.
            cards: Tenstorrent cards in it.
            profile: distribution of the fake host, see `FakeHost.create`.
            kernel: release that it runs; None: the profile's.
            prepare: called with a newly made host before the node registers, e.g. to install a module.

        Raises:
            RegisterError: the API server refuses it.
        """
        if name in self.nodes:
            return self.nodes[name]
        wanted = dict(labels or {})
        root = self.directory / name / ROOT
        host = FakeHost(root.resolve())
        if not root.exists():
            host = await asyncio.to_thread(FakeHost.create, root, profile=profile, kernel=kernel, cards=cards)
            if prepare:
                await asyncio.to_thread(prepare, host)
        spec = NodeSpec(
            name=name,
            labels={key: value for key, value in wanted.items() if nodestatus.for_kubelet(key)},
            cards=cards,
            profile=profile,
            number=self._number(name),
        )
        (self.directory / name / SPEC).write_text(json.dumps(asdict(spec)), encoding="utf-8")
        node = await self._boot(spec)
        await self._discover(name, wanted, cards)
        return node

    def node(self, name: str) -> HollowNode:
        """Raises SandboxError when there is no such node here."""
        if name not in self.nodes:
            raise SandboxError(
                f"no hollow node {name} here; there are: {', '.join(sorted(self.nodes)) or 'none'}"
            )
        return self.nodes[name]

    def _number(self, name: str) -> int:
        """That of the node on disk, else the next one."""
        place = self.directory / name / SPEC
        if place.exists():
            return int(json.loads(place.read_bytes())["number"])
        return len(list(self.directory.glob(f"*/{SPEC}")))

    async def _boot(self, spec: NodeSpec) -> HollowNode:
        kubeconfig = await asyncio.to_thread(self.plane.kubeconfig_for_node, spec.name)
        where = urlsplit(self.plane.url)
        assert where.hostname is not None
        assert where.port is not None
        machine = Machine(
            name=spec.name,
            kube=await Kube.connect(kubeconfig, user_agent="hollow-kubelet"),
            host=FakeHost((self.directory / spec.name / ROOT).resolve()),
            directory=self.directory / spec.name,
            settings=self.settings,
            api=(where.hostname, where.port),
        )
        context = tls(self.plane.node_certificate(spec.name), self.plane.ca)

        def server(find: Callable[[str, str], Pod | None]) -> LogServer:
            return LogServer(find, context)

        node = HollowNode(machine, spec, server)
        self.nodes[spec.name] = node
        await node.boot()
        return node

    async def _discover(self, name: str, labels: Mapping[str, str], cards: int) -> None:
        """What node feature discovery does: labels that are not the kubelet's to set."""
        assert self._feature_discovery is not None
        found = {key: value for key, value in labels.items() if not nodestatus.for_kubelet(key)}
        found |= {LABEL_PRESENT: "true"} if cards else {}
        if not found:
            return
        body = {"metadata": {"labels": found}}
        answer = await self._feature_discovery.patch(
            f"/api/v1/nodes/{name}", body, field_manager="nfd-master"
        )
        if not answer.ok:
            raise RegisterError(f"labels of node {name}: {answer.code} {answer.message}")


async def _lock(directory: Path) -> int:
    """One process plays the nodes of a directory; the kernel drops the lock with the process.

    Raises:
        SandboxError: another one does.
    """
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_BOUND_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise SandboxError(f"hollow nodes run in {directory} already") from None
            await asyncio.sleep(0.1)
        else:
            return descriptor

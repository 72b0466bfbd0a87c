"""Who plays: control plane, git server, hollow nodes, and ttfleet's two processes as in production."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from reconciler.adapters.kube import Kube
from reconciler.sandbox import gitserver, processes
from reconciler.sandbox.binaries import Binaries
from reconciler.sandbox.demo import board, workloads
from reconciler.sandbox.demo.repository import BRANCH, FleetRepository
from reconciler.sandbox.errors import SandboxError
from reconciler.sandbox.hosts import FakeHost
from reconciler.sandbox.hosts.source import create_source_repository
from reconciler.sandbox.install import install
from reconciler.sandbox.plane import Plane
from reconciler.sandbox.processes import Child
from reconciler.sandbox.shipped import shipped
from schema.names import (
    FLEET_API_VERSION,
    NAMESPACE_DEFAULT,
    SERVICE_ACCOUNT_OPERATOR,
    SERVICE_ACCOUNT_RECONCILER,
    SYNC_KIND,
)

SYNC: Final = "fleet"
CLUSTER: Final = "demo"
IMAGE: Final = "ttfleet-builder:demo"
SOURCE_NAME: Final = "tt-kmd.git"
FLEET_NAME: Final = "fleet.git"
INTERVAL: Final = "1s"
POOL_LABEL: Final = "acme.io/pool"  # what the example fleet selects by
NODES_BOUND_S: Final = 60.0
OPERATOR: Final = "operator"
RECONCILER: Final = "reconciler"
HOLLOW: Final = "hollow"


@dataclass(kw_only=True)
class Cast:
    """Everything that runs during a demo.

    Attributes:
        commands: argv of hollow nodes, operator and reconciler, so that each can be started again after it was killed.
        running: the same processes as they run.
    """

    directory: Path
    plane: Plane
    kube: Kube
    repository: FleetRepository
    git: Child
    commands: dict[str, list[str | Path]] = field(default_factory=dict)
    running: dict[str, Child] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start one of the processes (again)."""
        child = processes.start(name, self.commands[name], self.directory / "logs" / f"{name}.log")
        self.running[name] = child

    def kill(self, name: str) -> None:
        """End one of them as an OOM killer would, in whatever it is doing."""
        child = self.running.pop(name)
        child.process.kill()
        child.process.wait()

    @property
    def hosts(self) -> dict[str, FakeHost]:
        """Node -> its machine."""
        return {place.parent.name: FakeHost(place) for place in sorted(self.hosts_directory.glob("*/root"))}

    @property
    def hosts_directory(self) -> Path:
        return self.directory / "hosts"

    def check(self) -> None:
        """Nothing, while everybody lives.

        Raises:
            SandboxError: a process has ended; with the end of its log.
        """
        self.plane.check()
        for child in (self.git, *self.running.values()):
            child.check()


@asynccontextmanager
async def cast(directory: Path, binaries: Binaries, *, nodes: int | None = None) -> AsyncIterator[Cast]:
    """Start everything but ttfleet itself: plane, installation, git server, nodes, workloads.

    Args:
        directory: where everything goes; empty.
        binaries: of the control plane.
        nodes: how many; None: as many as the example fleet's inventory has.

    Raises:
        SandboxError: something did not start; with the end of its log.
    """
    async with AsyncExitStack() as stack:
        served = directory / "git"
        served.mkdir(parents=True)
        commits = create_source_repository(served / SOURCE_NAME)
        git = stack.enter_context(gitserver.serve(served, directory / "logs" / "git.log"))
        plane = stack.enter_context(Plane.start(directory / "plane", binaries=binaries))
        kube = await stack.enter_async_context(await Kube.connect(str(plane.kubeconfig), qps=200))
        await install(kube, namespace=NAMESPACE_DEFAULT)
        repository = FleetRepository.create(
            directory, served=served, name=FLEET_NAME, source_url=git.url(SOURCE_NAME)
        )
        found = Cast(directory=directory, plane=plane, kube=kube, repository=repository, git=git.child)
        stack.callback(lambda: processes.stop(found.running.values()))
        inventory = _inventory()
        count = nodes or len(inventory)
        found.commands[HOLLOW] = _hollow(found, inventory, count, commits)
        found.start(HOLLOW)
        await _nodes_ready(found.running[HOLLOW], count)
        await _create(kube, workloads.manifests())
        await _prepare(found, git.url(FLEET_NAME))
        yield found


def _inventory() -> list[dict[str, Any]]:
    """The nodes that the example fleet was written for: names, labels, what they run."""
    [place] = sorted(shipped("fleet").rglob("inventory.json"))
    nodes: list[dict[str, Any]] = json.loads(place.read_text(encoding="utf-8"))["spec"]["nodes"]
    return nodes


def _hollow(
    found: Cast, inventory: list[dict[str, Any]], count: int, commits: dict[str, str]
) -> list[str | Path]:
    """One process that plays them all; every host runs the inventory's version already."""
    [version] = {node["version"] for node in inventory}
    [pool] = {node["labels"][POOL_LABEL] for node in inventory}
    prefix = inventory[0]["name"].rstrip("0123456789")
    argv = _ttfleet("hollow", "--plane", found.plane.directory, "--hosts", found.hosts_directory)
    argv += ["--nodes", str(count), "--prefix", prefix, "--label", f"{POOL_LABEL}={pool}"]
    return [*argv, "--installed", f"{version}@{commits[version]}"]


async def _nodes_ready(hollow: Child, count: int) -> None:
    def ready() -> bool:
        return f"{count} hollow nodes Ready" in processes.tail(hollow.log)

    await asyncio.to_thread(
        processes.wait_until, ready, f"{count} hollow nodes", timeout_s=NODES_BOUND_S, children=[hollow]
    )


async def _create(kube: Kube, objects: list[tuple[str, dict[str, Any]]]) -> None:
    for path, body in objects:
        answer = await kube.create(path, body)
        if not answer.ok:
            raise SandboxError(f"{body['kind']} {body['metadata']['name']}: {answer.code} {answer.message}")


async def _prepare(found: Cast, fleet_url: str) -> None:
    """The accounts of ttfleet's two processes, with the permissions of the chart, and the FleetSync."""
    spec = {"url": fleet_url, "ref": BRANCH, "cluster": CLUSTER, "interval": INTERVAL, "mode": "Enforce"}
    sync = {"apiVersion": FLEET_API_VERSION, "kind": SYNC_KIND, "metadata": {"name": SYNC}, "spec": spec}
    await _create(found.kube, [(board.SYNCS, sync)])
    account = found.plane.kubeconfig_for_service_account
    operator = await account(NAMESPACE_DEFAULT, SERVICE_ACCOUNT_OPERATOR)
    reconciler = await account(NAMESPACE_DEFAULT, SERVICE_ACCOUNT_RECONCILER)
    found.commands[OPERATOR] = _ttfleet(
        "operator", "run", "--kubeconfig", operator, "--image", IMAGE, "--metrics-port", "0"
    )
    cache = found.directory / "cache"
    found.commands[RECONCILER] = _ttfleet("run", "--kubeconfig", reconciler, "--cache", cache)


def _ttfleet(*arguments: str | Path) -> list[str | Path]:
    """This very installation, whatever is on PATH."""
    return [sys.executable, "-c", "from reconciler.commands import main; main()", *arguments]

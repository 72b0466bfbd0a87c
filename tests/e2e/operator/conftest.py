"""Hollow nodes, a driver source, and `ttfleet operator run` as real processes with the chart's permissions."""

import asyncio
import json
import signal
import sys
from contextlib import asynccontextmanager

import pytest

from reconciler.adapters.kube import Kube
from reconciler.operator.server import NODES, POLICIES
from reconciler.sandbox.hosts.source import create_source_repository
from reconciler.sandbox.kubelet.machine import Settings
from reconciler.sandbox.kubelet.nodes import HollowNodes
from schema.names import (
    DRIVER_API_VERSION,
    LEASE_OPERATOR,
    NAMESPACE_DEFAULT,
    POLICY_KIND,
    SERVICE_ACCOUNT_OPERATOR,
)

BOUND_S = 120
IMAGE = "registry.example/ttfleet-builder:test"
LEASE_S = 3
POD_PATH = f"/api/v1/namespaces/{NAMESPACE_DEFAULT}/pods"
KEEPER_PATH = f"/apis/apps/v1/namespaces/{NAMESPACE_DEFAULT}/daemonsets/ttdrv-keep"
LEASE_PATH = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE_DEFAULT}/leases/{LEASE_OPERATOR}"


class Field:
    """Nodes at 2.7.0, the versions that can be had, and operators that can be started and killed."""

    def __init__(self, plane, kube, hollow, directory):
        self.plane, self.kube, self.hollow, self.directory = plane, kube, hollow, directory
        self.repository = directory / "kmd"
        self.commits = create_source_repository(self.repository)
        self.operators = []
        self.starts = 0

    async def nodes(self, *names):
        def prepare(host):
            host.install_container("2.7.0", self.commits["2.7.0"])

        await asyncio.gather(*(self.hollow.add(name, prepare=prepare) for name in names))

    async def start_operator(self, *more, account=None):
        account = account or await self.plane.kubeconfig_for_service_account(
            NAMESPACE_DEFAULT, SERVICE_ACCOUNT_OPERATOR
        )
        self.starts += 1
        log = (self.directory / f"operator-{self.starts}.log").open("wb")
        arguments = ["operator", "run", "--kubeconfig", account, "--image", IMAGE, "--metrics-port", "0"]
        arguments += ["--lease-seconds", str(LEASE_S), "--log-format", "json", "--verbose"]
        arguments += ["--bind-address", "127.0.0.1", *more]
        code = "from reconciler.commands import main; main()"
        operator = await asyncio.create_subprocess_exec(sys.executable, "-c", code, *arguments, stderr=log)
        log.close()
        self.operators.append(operator)
        return operator

    async def policy(self, name, version, nodes, **more):
        spec = {
            "version": version,
            "mode": "container",
            "nodeAffinity": {
                "matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": list(nodes)}
                ]
            },
            "source": {"repository": f"file://{self.repository}", "commit": self.commits[version]},
            **more,
        }
        metadata = {"name": name}
        body = {"apiVersion": DRIVER_API_VERSION, "kind": POLICY_KIND, "metadata": metadata, "spec": spec}
        answer = await self.kube.apply(f"{POLICIES}/{name}", body, field_manager="kubectl", force=True)
        assert answer.ok, answer.message

    async def until(self, path, holds, bound_s=BOUND_S):
        """The object once `holds(object)`."""
        found = {}
        try:
            async with asyncio.timeout(bound_s):
                while True:
                    found = (await self.kube.get(path)).body
                    if found.get("metadata") and holds(found):
                        return found
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{path}: {json.dumps(found)[:3000]}\n{self.logs()}") from None

    async def done(self, name, count):
        return await self.until(
            f"{POLICIES}/{name}", lambda ttdp: ttdp.get("status", {}).get("ready") == f"{count}/{count}"
            and ttdp["status"]["observedGeneration"] == ttdp["metadata"]["generation"]
        )  # fmt: skip

    def logs(self):
        texts = (path.read_text(errors="replace") for path in sorted(self.directory.glob("operator-*.log")))
        return "\n---\n".join(text[-3000:] for text in texts)

    async def end(self):
        for operator in self.operators:
            if operator.returncode is None:
                operator.send_signal(signal.SIGTERM)
        await asyncio.gather(*(asyncio.wait_for(operator.wait(), BOUND_S) for operator in self.operators))
        for path in (KEEPER_PATH, LEASE_PATH):
            await self.kube.delete(path)
        for policy in (await self.kube.list(POLICIES)).body["items"]:
            await self.kube.delete(f"{POLICIES}/{policy['metadata']['name']}")
        for name in self.hollow.nodes:
            await self.kube.delete(f"{NODES}/{name}")
        for pod in (await self.kube.list(POD_PATH)).body["items"]:
            await self.kube.delete(f"{POD_PATH}/{pod['metadata']['name']}", grace_s=0)


@pytest.fixture
def field(plane, tmp_path):
    """`async with field() as it:`; everything it made is gone afterwards."""

    @asynccontextmanager
    async def prepared():
        settings = Settings(heartbeat_s=2.0, lease_s=2.0, keep_s=2.0, backoff_base_s=1.0)
        async with (
            await Kube.connect(plane.kubeconfig, qps=200) as kube,
            HollowNodes(plane, tmp_path / "hosts", settings) as hollow,
        ):
            it = Field(plane, kube, hollow, tmp_path)
            try:
                yield it
            finally:
                await it.end()

    return prepared

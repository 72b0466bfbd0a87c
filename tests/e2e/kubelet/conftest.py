"""Hollow nodes for the tests of the hollow kubelet: made for one test, their Node objects removed after it."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from reconciler.sandbox.kubelet.machine import Settings
from reconciler.sandbox.kubelet.nodes import HollowNodes

BOUND_S = 60


@pytest.fixture
def hollow(plane, connect, tmp_path):
    """`async with hollow("a", "b") as (nodes, kube):`."""

    @asynccontextmanager
    async def playing(*names, settings=None, **how):
        settings = settings or Settings(heartbeat_s=1.0, lease_s=2.0, backoff_base_s=1.0)
        async with connect() as kube, HollowNodes(plane, tmp_path / "hosts", settings) as nodes:
            try:
                await nodes.resume()
                await asyncio.gather(*(nodes.add(name, **how) for name in names))
                yield nodes, kube
            finally:
                for name in nodes.nodes:
                    await kube.delete(f"/api/v1/nodes/{name}")

    return playing


class Pods:
    """Pods of one namespace, for one test."""

    def __init__(self, kube, namespace):
        self.kube = kube
        self.path = f"/api/v1/namespaces/{namespace}/pods"

    async def create(self, name, node, *, containers=None, annotations=None, labels=None, **spec):
        body = {
            "metadata": {"name": name, "annotations": annotations or {}, "labels": labels or {}},
            "spec": {
                "nodeName": node,
                "containers": containers or [{"name": "main", "image": "sleeper"}],
                "tolerations": [{"operator": "Exists"}],
                **spec,
            },
        }
        answer = await self.kube.create(self.path, body)
        assert answer.ok, answer
        return answer.body

    async def get(self, name):
        answer = await self.kube.get(f"{self.path}/{name}")
        return answer.body if answer.ok else None

    async def until(self, name, holds, bound_s=BOUND_S):
        """The pod once `holds(pod)`; None is a pod that is gone."""
        pod = None
        with suppress(TimeoutError):
            async with asyncio.timeout(bound_s):
                while not holds(pod := await self.get(name)):  # noqa: ASYNC110  bounded
                    await asyncio.sleep(0.1)
                return pod
        raise AssertionError(f"{name}: {pod}")

    async def phase(self, name, phase):
        return await self.until(name, lambda pod: pod and pod["status"].get("phase") == phase)

    async def ready(self, name):
        return await self.until(name, lambda pod: pod and condition(pod, "Ready") == "True")

    async def gone(self, name):
        await self.until(name, lambda pod: pod is None)


def condition(thing, kind):
    found = [c["status"] for c in thing["status"].get("conditions") or () if c["type"] == kind]
    return found[0] if found else None


@pytest.fixture
def pods(namespace):
    """`pods(kube)`: Pods of the test's namespace."""
    return lambda kube: Pods(kube, namespace)

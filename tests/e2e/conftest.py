"""One real control plane for all e2e tests, started by the code that `ttfleet cluster up` uses."""

import asyncio
import re
from contextlib import asynccontextmanager

import pytest

from reconciler.adapters.kube import Kube
from reconciler.sandbox.plane import Plane
from schema.names import NAMESPACE_DEFAULT


@pytest.fixture(scope="session")
def plane(tmp_path_factory):
    """Running, with ttfleet installed in its default namespace; missing binaries are built first (minutes)."""
    with Plane.start(tmp_path_factory.mktemp("plane")) as running:

        async def install():
            async with await Kube.connect(running.kubeconfig) as kube:
                await running.install(kube)

        asyncio.run(install())
        yield running
        running.check()


@pytest.fixture(scope="session")
def connect(plane):
    """`async with connect(kubeconfig) as kube:`; an administrator without an argument."""

    @asynccontextmanager
    async def connection(kubeconfig=None):
        async with await Kube.connect(kubeconfig or plane.kubeconfig, qps=500) as kube:
            yield kube

    return connection


@pytest.fixture
def namespace(plane, connect, request):
    """A namespace of the test's own; its objects are left to the plane's end."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")

    async def create():
        async with connect() as kube:
            answer = await kube.create("/api/v1/namespaces", {"metadata": {"name": name}})
            assert answer.ok or answer.code == 409, answer
            path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            async with asyncio.timeout(30):
                while not (await kube.get(path)).ok:  # noqa: ASYNC110  bounded, and nobody tells us
                    await asyncio.sleep(0.05)

    asyncio.run(create())
    return name


@pytest.fixture(scope="session")
def system_namespace():
    """Where ttfleet is installed."""
    return NAMESPACE_DEFAULT

"""The real builder on hollow nodes: keeper, stage and swap pods as the operator makes them, and a reboot after it."""

import asyncio
import json

import pytest

from reconciler.adapters.manifests import keeper, worker_pod
from reconciler.core.actions import CreatePod
from reconciler.core.world import PodRole
from reconciler.sandbox.hosts.source import create_source_repository
from reconciler.sandbox.kubelet.machine import Settings
from schema.facts import HostFacts
from schema.names import (
    ANNOTATION_CLAIM,
    ANNOTATION_HOST_FACTS,
    ANNOTATION_TXN,
    LABEL_INSTALL_MODE,
    LABEL_KMD_VERSION,
    LABEL_POD_ROLE,
    MANAGER_OPERATOR,
)
from schema.target import Mode, Target
from schema.transaction import Phase, Record
from schema.verdict import Verdict

pytestmark = pytest.mark.e2e
BOUND_S = 90
IMAGE = "registry.example/ttfleet-builder:test"
FAST = Settings(heartbeat_s=2.0, keep_s=2.0, backoff_base_s=1.0)


class Fleet:
    """A node with the builder's pods, driven as the operator drives it."""

    def __init__(self, kube, namespace, node, repository, commits):
        self.kube, self.namespace, self.node = kube, namespace, node
        self.repository, self.commits = repository, commits
        self.pods = f"/api/v1/namespaces/{namespace}/pods"

    def target(self, version):
        return Target(
            mode=Mode.CONTAINER, version=version, repository=self.repository, commit=self.commits[version]
        )

    async def keep(self):
        manifest = keeper(IMAGE, "hash", namespace=self.namespace, environment={})
        path = f"/apis/apps/v1/namespaces/{self.namespace}/daemonsets"
        assert (await self.kube.create(path, manifest)).ok

    async def keeper_ready(self):
        """The keeper's pod on this node; others' nodes may come and go."""
        bound = {"fieldSelector": f"spec.nodeName={self.node}", "labelSelector": f"{LABEL_POD_ROLE}=keep"}
        async with asyncio.timeout(BOUND_S):
            while not any(map(ready, (await self.kube.list(self.pods, **bound)).body["items"])):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def run(self, role, name, version, **more):
        action = CreatePod(
            role=role, name=name, node=self.node, cr="any", target=self.target(version), **more
        )
        body = worker_pod(action, namespace=self.namespace, default_image=IMAGE, environment={})
        answer = await self.kube.create(self.pods, body)
        assert answer.ok, answer

    async def verdict(self, name):
        path = f"{self.pods}/{name}"
        async with asyncio.timeout(BOUND_S):
            while (pod := (await self.kube.get(path)).body)["status"]["phase"] not in {"Succeeded", "Failed"}:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        return Verdict.from_json(json.loads(ended["message"])), ended["exitCode"]

    async def until(self, holds):
        async with asyncio.timeout(BOUND_S):
            while not holds(node := (await self.kube.get(f"/api/v1/nodes/{self.node}")).body):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return node

    async def permit(self, identity, version, boot_id):
        """Rows 2 to 5 in one write, as the operator."""
        now = "2026-11-24T10:00:00Z"
        record = Record(
            id=identity,
            cr="any",
            plan="any/1-abcdef",
            from_=None,
            to=self.target(version),
            phase=Phase.PERMITTED,
            since=now,
            reserved=now,
            boot_id=boot_id,
        )
        body = {
            "metadata": {"annotations": {ANNOTATION_TXN: json.dumps(record.to_json())}},
            "spec": {"unschedulable": True},
        }
        path = f"/api/v1/nodes/{self.node}"
        assert (await self.kube.patch(path, body, field_manager=MANAGER_OPERATOR)).ok


def ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or ())


def facts(node):
    text = (node["metadata"].get("annotations") or {}).get(ANNOTATION_HOST_FACTS)
    return HostFacts.from_json(json.loads(text)) if text else None


def test_keep_stage_swap_and_a_reboot(hollow, connect, system_namespace, tmp_path):
    repository = tmp_path / "kmd"
    commits = create_source_repository(repository)

    def prepare(host):
        host.install_container("2.7.0", commits["2.7.0"])

    async def scenario():
        async with (
            hollow("build-1", settings=FAST, prepare=prepare) as (nodes, kube),
        ):
            fleet = Fleet(kube, system_namespace, "build-1", f"file://{repository}", commits)
            host = nodes.node("build-1").machine.host
            await fleet.keep()
            node = await fleet.until(lambda it: LABEL_KMD_VERSION in it["metadata"]["labels"])
            assert node["metadata"]["labels"][LABEL_KMD_VERSION] == "2.7.0"
            assert node["metadata"]["labels"][LABEL_INSTALL_MODE] == "container"
            await fleet.keeper_ready()

            await fleet.run(PodRole.STAGE, "ttstage-1", "2.8.0")
            verdict, code = await fleet.verdict("ttstage-1")
            assert (str(verdict.result), code) == ("ok", 0), verdict
            node = await fleet.until(lambda it: "2.8.0" in {s.version for s in facts(it).staged})

            # without a permit nothing happens
            await fleet.run(PodRole.SWAP, "ttswap-none-1", "2.8.0", txn_id="f" * 16, boot_id=host.boot_id)
            verdict, code = await fleet.verdict("ttswap-none-1")
            assert (str(verdict.result), verdict.reason, code) == ("refused", "PermitVoid", 1)
            assert host.loaded_version == "2.7.0"

            await fleet.permit("a" * 16, "2.8.0", host.boot_id)
            await fleet.run(PodRole.SWAP, "ttswap-a-1", "2.8.0", txn_id="a" * 16, boot_id=host.boot_id)
            verdict, code = await fleet.verdict("ttswap-a-1")
            assert (str(verdict.result), code, verdict.version) == ("ok", 0, "2.8.0"), verdict
            assert host.loaded_version == "2.8.0"
            node = await fleet.until(lambda it: it["metadata"]["labels"][LABEL_KMD_VERSION] == "2.8.0")
            claim = json.loads(node["metadata"]["annotations"][ANNOTATION_CLAIM])
            assert (claim["id"], claim["state"], claim["result"]) == ("a" * 16, "done", "ok")

            await nodes.node("build-1").reboot(down_s=0.2)
            await fleet.until(lambda it: facts(it).boot_id == host.boot_id and facts(it).loaded is not None)
            assert host.loaded_version == "2.8.0"
            await fleet.keeper_ready()
            # the worker pods ended before the reboot and stay as they ended
            assert (await fleet.verdict("ttswap-a-1"))[1] == 0

            for name in ("ttstage-1", "ttswap-none-1", "ttswap-a-1"):
                await kube.delete(f"{fleet.pods}/{name}")
            await kube.delete(f"/apis/apps/v1/namespaces/{system_namespace}/daemonsets/ttdrv-keep")

    asyncio.run(scenario())

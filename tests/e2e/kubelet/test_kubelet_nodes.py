"""Hollow nodes as nodes: registration under NodeRestriction, heartbeats, reboot, vanishing, a new process."""

import asyncio

import pytest

from reconciler.sandbox.kubelet.behaviour import PREFIX
from reconciler.sandbox.kubelet.machine import Settings
from schema.names import LABEL_PRESENT

pytestmark = pytest.mark.e2e
BOUND_S = 60


async def node_until(kube, name, holds, bound_s=BOUND_S):
    async with asyncio.timeout(bound_s):
        while not holds(node := (await kube.get(f"/api/v1/nodes/{name}")).body):  # noqa: ASYNC110  bounded
            await asyncio.sleep(0.1)
        return node


def ready(node):
    return next(c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready")


def test_a_node_registers_becomes_schedulable_and_beats(hollow):
    async def scenario():
        async with hollow("reg-1", labels={"acme.io/pool": "train"}, cards=2) as (nodes, kube):
            node = await node_until(kube, "reg-1", lambda it: not it["spec"].get("taints"))
            assert ready(node) == "True"
            labels = node["metadata"]["labels"]
            assert labels["kubernetes.io/hostname"] == "reg-1"
            assert labels["acme.io/pool"] == "train"
            assert labels[LABEL_PRESENT] == "true"
            status = node["status"]
            assert status["capacity"]["tenstorrent.com/n150"] == "2"
            assert status["nodeInfo"]["bootID"] == nodes.node("reg-1").machine.host.boot_id
            await node_until(kube, "reg-1", lambda it: beat(it) != beat(node))
            path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/reg-1"
            first = (await kube.get(path)).body["spec"]["renewTime"]
            async with asyncio.timeout(BOUND_S):
                while (await kube.get(path)).body["spec"]["renewTime"] == first:  # noqa: ASYNC110  bounded
                    await asyncio.sleep(0.2)

    def beat(node):
        return next(c["lastHeartbeatTime"] for c in node["status"]["conditions"] if c["type"] == "Ready")

    asyncio.run(scenario())


def test_a_kubelet_is_only_itself(hollow):
    """NodeRestriction and the Node authorizer apply to hollow nodes."""

    async def scenario():
        async with hollow("own-1", "own-2") as (nodes, _):
            kube = nodes.node("own-1").machine.kube
            label = {"metadata": {"labels": {"node-restriction.kubernetes.io/pool": "mine"}}}
            assert (await kube.patch("/api/v1/nodes/own-1", label)).code == 403
            assert (await kube.patch("/api/v1/nodes/own-2", {"metadata": {"labels": {"a": "b"}}})).code == 403
            assert (await kube.list("/api/v1/pods")).code == 403
            assert (await kube.list("/api/v1/pods", fieldSelector="spec.nodeName=own-2")).code == 403
            assert (await kube.get("/api/v1/namespaces/default/secrets/any")).code == 403

    asyncio.run(scenario())


def test_a_daemonset_becomes_ready_on_all_nodes(hollow, namespace):
    async def scenario():
        names = [f"ds-{number}" for number in range(6)]
        async with hollow(*names, labels={"acme.io/test": "ds"}) as (_, kube):
            path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets"
            template = {
                "metadata": {"labels": {"app": "d"}},
                "spec": {
                    "nodeSelector": {"acme.io/test": "ds"},
                    "containers": [{"name": "c", "image": "sleeper"}],
                },
            }
            spec = {"selector": {"matchLabels": {"app": "d"}}, "template": template}
            assert (await kube.create(path, {"metadata": {"name": "d"}, "spec": spec})).ok
            async with asyncio.timeout(BOUND_S):
                while not await all_ready(f"{path}/d", kube, len(names)):  # noqa: ASYNC110  bounded
                    await asyncio.sleep(0.1)

    async def all_ready(path, kube, wanted):
        return (await kube.get(path)).body["status"].get("numberReady") == wanted

    asyncio.run(scenario())


def test_a_reboot_ends_everything_in_memory_and_pods_go_on_as_their_policies_say(hollow, pods):
    async def scenario():
        async with hollow("boot-1") as (nodes, kube):
            mine = pods(kube)
            annotations = {PREFIX + "exit-after-s.prepare": "0.1"}
            init = [{"name": "prepare", "image": "sleeper"}]
            await mine.create("always", "boot-1", annotations=annotations, initContainers=init)
            await mine.create("never", "boot-1", restartPolicy="Never")
            await asyncio.gather(mine.ready("always"), mine.ready("never"))
            before = nodes.node("boot-1").machine.host.boot_id

            await nodes.node("boot-1").reboot(down_s=0.2)

            node = await node_until(kube, "boot-1", lambda it: it["status"]["nodeInfo"]["bootID"] != before)
            assert node["status"]["nodeInfo"]["bootID"] == nodes.node("boot-1").machine.host.boot_id
            failed = await mine.phase("never", "Failed")
            ended = failed["status"]["containerStatuses"][0]["state"]["terminated"]
            assert (ended["exitCode"], ended["reason"]) == (255, "Unknown")
            again = await mine.until("always", lambda pod: restarts(pod) == 1 and is_ready(pod))
            assert again["status"]["phase"] == "Running"
            assert again["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 255
            assert again["status"]["initContainerStatuses"][0]["restartCount"] == 1

    def restarts(pod):
        return pod["status"]["containerStatuses"][0]["restartCount"]

    def is_ready(pod):
        return pod["status"]["containerStatuses"][0]["ready"]

    asyncio.run(scenario())


def test_the_controller_manager_notices_a_node_that_vanished_and_its_return(hollow, pods):
    """Takes the 40 to 50 s that the controller-manager waits."""

    async def scenario():
        async with hollow("lost-1") as (nodes, kube):
            mine = pods(kube)
            await mine.create("stays", "lost-1")
            await mine.ready("stays")
            started = (await mine.get("stays"))["status"]["containerStatuses"][0]["containerID"]

            await nodes.node("lost-1").vanish()
            await node_until(kube, "lost-1", lambda it: ready(it) == "Unknown", bound_s=90)
            unreachable = "node.kubernetes.io/unreachable"
            await node_until(
                kube, "lost-1", lambda it: unreachable in {t["key"] for t in it["spec"].get("taints", ())}
            )
            await mine.until("stays", lambda pod: pod["status"]["conditions"] and not is_ready(pod))

            await nodes.node("lost-1").come_back()
            await node_until(kube, "lost-1", lambda it: ready(it) == "True")
            again = await mine.ready("stays")
            assert again["status"]["containerStatuses"][0]["containerID"] == started

    def is_ready(pod):
        return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])

    asyncio.run(scenario())


def test_a_new_hollow_process_takes_up_its_pods(hollow, pods):
    """Sleepers go on as the same containers; pods deleted meanwhile end, new ones start."""

    async def scenario():
        async with hollow("new-1") as (nodes, kube):
            mine = pods(kube)
            await mine.create("stays", "new-1")
            await mine.create("leaves", "new-1")
            before = await mine.ready("stays")
            await mine.ready("leaves")
            await nodes.close()  # leaves everything to the files, as SIGKILL does

            assert (await kube.delete(f"{mine.path}/leaves")).ok
            await mine.create("comes", "new-1")

            async with hollow() as (again, _):
                assert set(again.nodes) == {"new-1"}
                await asyncio.gather(mine.gone("leaves"), mine.ready("comes"))
                after = await mine.ready("stays")
                assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]

    asyncio.run(scenario())


def test_settings_default_to_those_of_a_kubelet():
    settings = Settings()
    assert (settings.heartbeat_s, settings.lease_s, settings.lease_duration_s) == (10.0, 10.0, 40)
    assert settings.builds("registry.example/x/ttfleet-builder:1.0")
    assert not settings.builds("ttfleet-builder/other:1")

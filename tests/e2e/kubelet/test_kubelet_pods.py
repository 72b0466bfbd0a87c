"""Pods on hollow nodes: completion, restarts, endings, eviction, images, volumes, tokens, the device."""

import asyncio
import base64
import json
from contextlib import aclosing

import pytest

from reconciler.sandbox.kubelet.behaviour import PREFIX

pytestmark = pytest.mark.e2e


def status(pod, container=0):
    return pod["status"]["containerStatuses"][container]


def test_a_bare_pod_runs_to_completion_with_exit_code_and_termination_message(hollow, pods):
    async def scenario():
        async with hollow("run-1") as (_, kube):
            mine = pods(kube)
            annotations = {
                PREFIX + "exit-after-s": "0.2",
                PREFIX + "exit-code": "7",
                PREFIX + "message": "x" * 5000,
            }
            await mine.create("fails", "run-1", annotations=annotations, restartPolicy="Never")
            pod = await mine.phase("fails", "Failed")
            ended = status(pod)["state"]["terminated"]
            assert (ended["exitCode"], ended["reason"], len(ended["message"])) == (7, "Error", 4096)

            good = {PREFIX + "exit-after-s": "0.2", PREFIX + "message": "all good"}
            await mine.create("works", "run-1", annotations=good, restartPolicy="Never")
            pod = await mine.phase("works", "Succeeded")
            assert status(pod)["state"]["terminated"]["message"] == "all good"
            # a finished pod is deleted at once
            assert (await kube.delete(f"{mine.path}/works")).ok
            await mine.gone("works")

    asyncio.run(scenario())


def test_init_containers_run_in_order_before_the_main_ones(hollow, pods):
    async def scenario():
        async with hollow("init-1") as (_, kube):
            mine = pods(kube)
            annotations = {PREFIX + "exit-after-s.one": "0.3", PREFIX + "exit-after-s.two": "0.3"}
            init = [{"name": name, "image": "sleeper"} for name in ("one", "two")]
            await mine.create("p", "init-1", annotations=annotations, initContainers=init)
            pod = await mine.until("p", lambda pod: running(pod, "two"))
            assert pod["status"]["phase"] == "Pending"
            assert status(pod)["state"]["waiting"]["reason"] == "PodInitializing"
            assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
            pod = await mine.ready("p")
            assert pod["status"]["phase"] == "Running"

            bad = {PREFIX + "exit-after-s.one": "0.1", PREFIX + "exit-code.one": "3"}
            await mine.create("q", "init-1", annotations=bad, initContainers=init, restartPolicy="Never")
            pod = await mine.phase("q", "Failed")
            assert "waiting" in status(pod)["state"]

    def running(pod, name):
        found = [c for c in pod["status"].get("initContainerStatuses") or () if c["name"] == name]
        return found and "running" in found[0]["state"]

    asyncio.run(scenario())


def test_a_crashing_container_backs_off(hollow, pods):
    async def scenario():
        async with hollow("crash-1") as (_, kube):
            mine = pods(kube)
            annotations = {PREFIX + "exit-after-s": "0.05", PREFIX + "exit-code": "1"}
            await mine.create("p", "crash-1", annotations=annotations)
            pod = await mine.until("p", crash_loops)
            assert pod["status"]["phase"] == "Running"
            assert status(pod)["lastState"]["terminated"]["exitCode"] == 1
            assert status(pod)["restartCount"] >= 1
            assert "back-off" in status(pod)["state"]["waiting"]["message"]
            count = status(pod)["restartCount"]
            await mine.until("p", lambda pod: status(pod)["restartCount"] > count)

    def crash_loops(pod):
        return pod["status"].get("containerStatuses") and (
            status(pod)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
        )

    asyncio.run(scenario())


def test_an_ending_pod_gets_sigterm_then_its_grace_period_then_sigkill(hollow, pods):
    async def scenario():
        async with hollow("end-1") as (_, kube):
            mine = pods(kube)
            slow = {PREFIX + "term-delay-s": "0.5"}
            deaf = {PREFIX + "term": "ignore"}
            await mine.create("slow", "end-1", annotations=slow, terminationGracePeriodSeconds=600)
            await mine.create("deaf", "end-1", annotations=deaf, terminationGracePeriodSeconds=2)
            await mine.create("long", "end-1", annotations=deaf, terminationGracePeriodSeconds=600)
            await asyncio.gather(*(mine.ready(name) for name in ("slow", "deaf", "long")))
            for name in ("slow", "deaf", "long"):
                answer = await kube.delete(f"{mine.path}/{name}")
                assert answer.ok
                assert answer.body["metadata"]["deletionTimestamp"]  # it is not gone yet
            await asyncio.gather(mine.gone("slow"), mine.gone("deaf"))
            assert await mine.get("long")  # SIGTERM is ignored, and ten minutes are not over
            assert (await kube.delete(f"{mine.path}/long", grace_s=1)).ok
            await mine.gone("long")

    asyncio.run(scenario())


def test_the_last_status_is_written_before_the_object_goes(hollow, pods):
    async def scenario():
        async with hollow("last-1") as (_, kube):
            mine = pods(kube)
            await mine.create("p", "last-1", annotations={PREFIX + "term-exit-code": "143"})
            pod = await mine.ready("p")
            version = pod["metadata"]["resourceVersion"]
            assert (await kube.delete(f"{mine.path}/p")).ok
            seen = []
            async with asyncio.timeout(30):
                bound = {"fieldSelector": "metadata.name=p"}
                events = kube.watch(mine.path, resource_version=version, timeout_s=30, **bound)
                async with aclosing(events):
                    async for event in events:
                        seen.append(event)
                        if event["type"] == "DELETED":
                            break
            final = seen[-1]["object"]
            assert final["status"]["phase"] == "Failed"
            assert status(final)["state"]["terminated"]["exitCode"] == 143
            assert [event["type"] for event in seen].count("DELETED") == 1

    asyncio.run(scenario())


def test_an_eviction_goes_through_the_budget_and_honours_the_grace_period(hollow, pods, namespace):
    async def scenario():
        async with hollow("evict-1") as (_, kube):
            mine = pods(kube)
            labels = {"app": "guarded"}
            for name in ("a", "b"):
                await mine.create(
                    name, "evict-1", labels=labels, annotations={PREFIX + "term-delay-s": "0.5"}
                )
            await asyncio.gather(mine.ready("a"), mine.ready("b"))
            budget = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
            spec = {"minAvailable": 1, "selector": {"matchLabels": labels}}
            assert (await kube.create(budget, {"metadata": {"name": "one"}, "spec": spec})).ok
            async with asyncio.timeout(30):
                while not await allowed(kube, f"{budget}/one"):  # noqa: ASYNC110  bounded
                    await asyncio.sleep(0.1)

            assert (await evict(kube, mine, "a")).code == 201
            pod = await mine.get("a")
            assert pod["metadata"]["deletionTimestamp"]
            assert (await evict(kube, mine, "b")).code == 429
            await mine.gone("a")
            assert (await evict(kube, mine, "b")).code == 429
            assert "deletionTimestamp" not in (await mine.get("b"))["metadata"]

    async def allowed(kube, path):
        return (await kube.get(path)).body["status"].get("disruptionsAllowed") == 1

    async def evict(kube, mine, name):
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        return await kube.create(f"{mine.path}/{name}/eviction", body)

    asyncio.run(scenario())


def test_an_image_that_cannot_be_pulled_until_it_can(hollow, pods):
    async def scenario():
        async with hollow("pull-1") as (_, kube):
            mine = pods(kube)
            await mine.create("p", "pull-1", annotations={PREFIX + "pull": "fail"})
            await mine.until("p", lambda pod: waits(pod) == "ErrImagePull")
            pod = await mine.until("p", lambda pod: waits(pod) == "ImagePullBackOff")
            assert pod["status"]["phase"] == "Pending"
            await kube.patch(f"{mine.path}/p", {"metadata": {"annotations": {PREFIX + "pull": None}}})
            await mine.ready("p")

    def waits(pod):
        statuses = pod["status"].get("containerStatuses")
        return statuses and statuses[0]["state"].get("waiting", {}).get("reason")

    asyncio.run(scenario())


def test_readiness_follows_the_probe(hollow, pods):
    async def scenario():
        async with hollow("probe-1") as (_, kube):
            mine = pods(kube)
            probe = {"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 1}
            containers = [{"name": "main", "image": "sleeper", "readinessProbe": probe}]
            await mine.create("no", "probe-1", containers=containers, annotations={PREFIX + "ready": "false"})
            await mine.create("yes", "probe-1", containers=containers)
            await mine.ready("yes")
            pod = await mine.phase("no", "Running")
            ready = next(c for c in pod["status"]["conditions"] if c["type"] == "Ready")
            assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")

    asyncio.run(scenario())


def test_the_token_in_a_pod_is_bound_to_pod_and_node(hollow, pods, namespace):
    async def scenario():
        async with hollow("token-1") as (nodes, kube):
            mine = pods(kube)
            pod = await mine.create("p", "token-1")
            await mine.ready("p")
            uid = pod["metadata"]["uid"]
            [token] = nodes.directory.glob(f"token-1/pods/{uid}/volumes/*/token")
            account = token.parent
            assert (account / "namespace").read_text() == namespace
            assert (account / "ca.crt").read_bytes().strip() == nodes.plane.ca.read_bytes().strip()
            claims = decode(token.read_text())["kubernetes.io"]
            assert claims["pod"] == {"name": "p", "uid": uid}
            assert claims["node"]["name"] == "token-1"
            body = {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": token.read_text()},
            }
            review = (await kube.create("/apis/authentication.k8s.io/v1/tokenreviews", body)).body["status"]
            assert review["authenticated"]
            extra = review["user"]["extra"]
            assert extra["authentication.kubernetes.io/node-name"] == ["token-1"]
            assert extra["authentication.kubernetes.io/pod-name"] == ["p"]

    def decode(token):
        payload = token.split(".")[1]
        return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))

    asyncio.run(scenario())


def test_a_workload_holds_the_device_while_it_runs(hollow, pods):
    volume = {"name": "dev", "hostPath": {"path": "/dev/tenstorrent"}}
    containers = [
        {
            "name": "main",
            "image": "sleeper",
            "volumeMounts": [{"name": "dev", "mountPath": "/dev/tenstorrent"}],
        }
    ]

    def refcnt(host):
        return (host.root / "sys/module/tenstorrent/refcnt").read_text().strip()

    async def scenario():
        async with hollow("dev-1", prepare=lambda it: it.install_container("2.7.0", "a" * 40)) as (
            nodes,
            kube,
        ):
            mine, host = pods(kube), nodes.node("dev-1").machine.host
            assert refcnt(host) == "0"
            await mine.create("user", "dev-1", containers=containers, volumes=[volume])
            await mine.ready("user")
            assert refcnt(host) == "1"
            await nodes.close()
            async with hollow() as (_, kube_again):
                assert refcnt(host) == "1"  # it held on while nobody looked
                assert (await kube_again.delete(f"{mine.path}/user")).ok
                await mine.gone("user")
            assert refcnt(host) == "0"

    async def without_a_module():
        async with hollow("dev-2") as (nodes, kube):
            mine = pods(kube)
            await mine.create(
                "fails", "dev-2", containers=containers, volumes=[volume], restartPolicy="Never"
            )
            pod = await mine.phase("fails", "Failed")
            assert status(pod)["state"]["terminated"]["exitCode"] == 1
            strict = {"name": "dev", "hostPath": {"path": "/dev/tenstorrent/0", "type": "CharDevice"}}
            await mine.create("waits", "dev-2", containers=containers, volumes=[strict])
            pod = await mine.until("waits", lambda pod: pod["status"].get("containerStatuses"))
            assert status(pod)["state"]["waiting"]["reason"] == "ContainerCreating"
            await asyncio.to_thread(nodes.node("dev-2").machine.host.install_container, "2.7.0", "a" * 40)
            await mine.ready("waits")

    asyncio.run(scenario())
    asyncio.run(without_a_module())

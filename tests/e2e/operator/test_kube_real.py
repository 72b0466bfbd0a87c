"""The client, the informer and the operator's cluster against a real API server."""

import asyncio
import os
import signal
import subprocess
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from reconciler.adapters.informer import Informer
from reconciler.adapters.kube import Kube
from reconciler.adapters.views import node_view
from reconciler.core.actions import (
    ApplyKeeper,
    CreatePod,
    DeletePod,
    EvictPod,
    RenewLease,
    ScanNodes,
    Step,
    TakeLease,
    Verb,
    WriteNode,
    WriteStatus,
)
from reconciler.core.world import CordonOwner, PodRole, Settings, Term
from reconciler.operator.server import POLICIES, Server
from reconciler.sandbox.plane import Plane
from schema.names import DRIVER_API_VERSION, MANAGER_OPERATOR, POLICY_KIND
from schema.target import Mode, Target
from schema.transaction import Phase, Record

pytestmark = pytest.mark.e2e

BOUND_S = 60
TARGET = Target(
    mode=Mode.CONTAINER, version="2.8.0", repository="https://example.com/kmd.git", commit="a" * 40
)


def record(identity="0001aaaaaaaaaaaa", phase=Phase.RESERVED):
    return Record(
        id=identity, cr="c", plan="", from_=None, to=TARGET, phase=phase, since="2026-01-01T00:00:00Z", reserved="2026-01-01T00:00:00Z"
    )  # fmt: skip


async def until(condition, bound_s=BOUND_S):
    async with asyncio.timeout(bound_s):
        while not condition():  # noqa: ASYNC110  bounded
            await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(kube, namespace, identity="me"):
    """The operator's cluster, in sync; outcomes are kept in `heard`."""
    settings = Settings(namespace=namespace, image="builder:1", gates=("gate",))
    heard = []
    server = Server(
        kube, settings, Term(identity=identity), changed=lambda: None, heard=lambda a, o: heard.append(o)
    )
    async with server.running():
        async with asyncio.timeout(BOUND_S):
            await server.synced()
        yield server


async def settled(kube, path):
    """Until the controllers have had their first say (taints, ttl)."""
    seen = []
    async with asyncio.timeout(BOUND_S):
        while len(seen) < 8 or len(set(seen[-8:])) > 1:
            seen.append((await kube.get(path)).resource_version)
            await asyncio.sleep(0.1)


@asynccontextmanager
async def a_node(kube, name):
    """With a label: an object that was created without any field is never tracked in managedFields."""
    body = {"metadata": {"name": name, "labels": {"made-by": "test"}}}
    made = await kube.create("/api/v1/nodes", body, field_manager="kubelet")
    assert made.ok, made.message
    try:
        await settled(kube, f"/api/v1/nodes/{name}")
        yield made.body
    finally:
        await kube.delete(f"/api/v1/nodes/{name}")


def run(test):
    asyncio.run(test())


def test_every_kind_of_answer_is_a_value(connect, namespace):
    async def test():
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        async with connect() as kube:
            made = await kube.create(
                path, {"metadata": {"name": "a"}, "data": {"x": "1"}}, field_manager="first"
            )
            assert (made.code, bool(made.resource_version)) == (201, True)
            assert (await kube.create(path, {"metadata": {"name": "a"}})).code == 409
            assert (await kube.get(f"{path}/nowhere")).code == 404
            stale = {"metadata": {"resourceVersion": "1"}, "data": {"x": "2"}}
            assert (await kube.patch(f"{path}/a", stale)).code == 409
            assert (await kube.create(path, {"metadata": {"name": "A B"}})).code == 422
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "3"}}
            conflict = await kube.apply(f"{path}/a", body, field_manager="second")
            assert (conflict.code, "first" in conflict.message) == (409, True)
            assert (await kube.apply(f"{path}/a", body, field_manager="second", force=True, dry_run=True)).ok
            assert (await kube.get(f"{path}/a")).body["data"] == {"x": "1"}
            assert (await kube.delete(f"{path}/a", uid="another")).code == 409
            assert (await kube.delete(f"{path}/a", uid=made.body["metadata"]["uid"])).ok

    run(test)


def test_a_server_that_is_not_there_or_does_not_answer_is_code_0(plane):
    async def test():
        async with await Kube.connect(plane.kubeconfig) as kube:
            kube.configuration.host = "https://127.0.0.1:1"
            assert (await kube.create("/api/v1/namespaces", {})).code == 0
        async with await Kube.connect(plane.kubeconfig, timeout_s=0.001) as kube:
            response = await kube.create("/api/v1/namespaces?dryRun=All", {"metadata": {"name": "never"}})
            assert response.code == 0

    run(test)


def test_a_thousand_objects_come_in_pages_as_one_list(connect, namespace):
    async def test():
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        async with connect() as kube:
            kube._pace._interval_s = 0.0005
            bodies = ({"metadata": {"name": f"c{i}"}} for i in range(1000))
            answers = await asyncio.gather(*(kube.create(path, body) for body in bodies))
            assert {answer.code for answer in answers} == {201}
            listed = await kube.list(path, limit=100)
            assert (
                len({item["metadata"]["name"] for item in listed.body["items"]} - {"kube-root-ca.crt"})
                == 1000
            )

    run(test)


def test_the_store_has_our_write_before_the_watch_tells_it(connect):
    async def test():
        async with connect() as kube, a_node(kube, "ryw") as node:
            informer = Informer(kube, "/api/v1/nodes", node_view)
            async with informer.running():
                await asyncio.wait_for(informer.synced.wait(), BOUND_S)
                for number in range(20):
                    version = informer.store.get("ryw").resource_version
                    patch = {"metadata": {"resourceVersion": version, "labels": {"n": str(number)}}}
                    response = await kube.patch("/api/v1/nodes/ryw", patch)
                    informer.wrote(response)
                    assert informer.store.get("ryw").labels["n"] == str(number)
            assert node["metadata"]["uid"]

    run(test)


def test_a_write_from_a_stale_look_conflicts_and_the_next_look_is_fresh(connect, namespace):
    async def test():
        async with connect() as kube, a_node(kube, "stale"), serving(kube, namespace) as server:
            old = (await server.snapshot()).nodes["stale"]
            assert (await kube.patch("/api/v1/nodes/stale", {"metadata": {"labels": {"x": "1"}}})).ok
            write = WriteNode(
                node="stale",
                resource_version=old.resource_version,
                step=Step.RESERVE,
                cr="c",
                record=record(),
            )
            assert (await server.act(write)).verb is Verb.CONFLICT
            new = (await server.snapshot()).nodes["stale"]
            assert (new.record, new.labels["x"]) == (None, "1")
            again = WriteNode(
                node="stale",
                resource_version=new.resource_version,
                step=Step.RESERVE,
                cr="c",
                record=record(),
            )
            outcome = await server.act(again)
            written = (await server.snapshot()).nodes["stale"]
            assert (outcome.verb, written.record) == (Verb.DONE, record())
            assert outcome.resource_version == written.resource_version

    run(test)


def test_whose_cordon_it_is(connect, namespace):
    """Ours; a human's; a human's that a GitOps tool confirms; ours that a GitOps tool co-owns by server-side apply."""

    async def test():
        async with connect() as kube, a_node(kube, "cordon"), serving(kube, namespace) as server:
            path = "/api/v1/nodes/cordon"

            async def now():
                await server.nodes.relist()
                return (await server.snapshot()).nodes["cordon"]

            async def ours(unschedulable):
                for _attempt in range(5):  # the controller-manager taints a moment after each change
                    version = (await now()).resource_version
                    write = WriteNode(
                        node="cordon",
                        resource_version=version,
                        step=Step.CORDON,
                        cr="c",
                        unschedulable=unschedulable,
                    )
                    if (await server.act(write)).verb is not Verb.CONFLICT:
                        return

            assert (await now()).cordon is CordonOwner.NOBODY
            await ours(True)
            assert (await now()).cordon is CordonOwner.OURS
            await kube.patch(path, {"spec": {"unschedulable": True}}, field_manager="kubectl-cordon")
            assert (
                await now()
            ).cordon is CordonOwner.OURS  # it wrote nothing: keep-cordoned is how a human says so
            body = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": "cordon"},
                "spec": {"unschedulable": True},
            }
            assert (await kube.apply(path, body, field_manager="gitops")).ok
            assert (await now()).cordon is CordonOwner.FOREIGN
            await kube.patch(path, {"spec": {"unschedulable": None}}, field_manager="kubectl-cordon")
            assert (await now()).cordon is CordonOwner.NOBODY
            await kube.patch(path, {"spec": {"unschedulable": True}}, field_manager="kubectl-cordon")
            assert (await now()).cordon is CordonOwner.FOREIGN
            await kube.patch(path, {"spec": {"unschedulable": None}}, field_manager="kubectl-cordon")
            await ours(True)
            await ours(False)
            assert (await now()).cordon is CordonOwner.NOBODY

    run(test)


def test_the_lease_is_taken_once_and_renewed_by_its_holder_only(connect, namespace):
    async def test():
        async with connect() as kube, serving(kube, namespace, "a") as a, serving(kube, namespace, "b") as b:
            taken = await a.act(TakeLease(resource_version=None, holder="a"))
            assert taken.verb is Verb.DONE
            assert (await b.act(TakeLease(resource_version=None, holder="b"))).verb is Verb.CONFLICT
            assert (await a.snapshot()).lease.holder == "a"
            renewed = await a.act(RenewLease(resource_version=taken.resource_version, holder="a"))
            assert renewed.verb is Verb.DONE
            await until(lambda: b.leases.store.get(f"{namespace}/ttfleet-operator") is not None)
            stolen = await b.act(TakeLease(resource_version=renewed.resource_version, holder="b"))
            assert stolen.verb is Verb.DONE
            assert (
                await a.act(RenewLease(resource_version=renewed.resource_version, holder="a"))
            ).verb is Verb.CONFLICT

    run(test)


def test_a_scan_names_reservations_of_others(connect, namespace):
    async def test():
        async with connect() as kube, a_node(kube, "scan"), serving(kube, namespace) as server:
            node = (await server.snapshot()).nodes["scan"]
            write = WriteNode(
                node="scan",
                resource_version=node.resource_version,
                step=Step.RESERVE,
                cr="c",
                record=record(),
            )
            assert (await server.act(write)).verb is Verb.DONE
            outcome = await server.act(ScanNodes())
            assert (outcome.verb, outcome.foreign_reserved) == (Verb.DONE, ("scan",))

    run(test)


def test_pods_are_made_once_and_deleted_by_uid(connect, system_namespace):
    async def test():
        async with connect() as kube, a_node(kube, "worker"), serving(kube, system_namespace) as server:
            create = CreatePod(
                role=PodRole.SWAP,
                name="ttswap-x-1",
                node="worker",
                cr="c",
                target=TARGET,
                txn_id="x",
                boot_id="b",
            )
            assert (await server.act(create)).verb is Verb.DONE
            (pod,) = [pod for pod in (await server.snapshot()).pods["worker"] if pod.role is PodRole.SWAP]
            assert (pod.txn_id, pod.target_digest, pod.attempt) == ("x", TARGET.digest, 1)
            assert (await server.act(create)).verb is Verb.DONE
            delete = DeletePod(
                namespace=system_namespace, name=pod.name, uid=pod.uid, node="worker", reason=""
            )
            assert (await server.act(delete)).verb is Verb.DONE
            (pod,) = [pod for pod in (await server.snapshot()).pods["worker"] if pod.role is PodRole.SWAP]
            assert pod.terminating
            other = DeletePod(
                namespace=system_namespace, name=pod.name, uid="another", node="worker", reason=""
            )
            assert (await server.act(other)).verb is Verb.DONE
            await kube.delete(f"/api/v1/namespaces/{system_namespace}/pods/{pod.name}", grace_s=0)
            await until(lambda: server.pods.store.get(f"{system_namespace}/{pod.name}") is None)

    run(test)


def test_evictions(connect, namespace):
    """A real block, two budgets, a wrong uid, one that goes; a dry run says the same and takes nothing."""

    async def test():
        async with connect() as kube, a_node(kube, "evict"), serving(kube, namespace) as server:
            pods, budgets = (
                f"/api/v1/namespaces/{namespace}/pods",
                f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
            )

            async def pod(name, **labels):
                body = {
                    "metadata": {"name": name, "labels": labels},
                    "spec": {"nodeName": "evict", "containers": [{"name": "c", "image": "i"}]},
                }
                made = await kube.create(pods, body)
                assert made.ok, made.message
                ready = [{"type": "Ready", "status": "True"}]
                status = {"status": {"phase": "Running", "conditions": ready}}
                assert (await kube.patch(f"{pods}/{name}/status", status)).ok
                return partial(
                    EvictPod, namespace=namespace, name=name, uid=made.body["metadata"]["uid"], node="evict", cr="c", drain_pass=1
                )  # fmt: skip

            async def budget(name, **labels):
                body = {
                    "metadata": {"name": name},
                    "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
                }
                assert (await kube.create(budgets, body)).ok
                await settled(kube, f"{budgets}/{name}")

            blocked, doubly, free = (
                await pod("blocked", app="a"),
                await pod("doubly", app="b"),
                await pod("free"),
            )
            await budget("one", app="a")
            await budget("two", app="b")
            await budget("three", app="b")
            for dry_run in (True, False):
                refused = await server.act(blocked(dry_run=dry_run))
                assert (refused.verb, refused.cause) == (Verb.REFUSED, "DisruptionBudget")
                assert "one" in refused.message
                broken = await server.act(doubly(dry_run=dry_run))
                assert (broken.verb, broken.cause) == (Verb.REFUSED, "Misconfigured")
            assert (await server.act(free(dry_run=True))).verb is Verb.DONE
            assert "deletionTimestamp" not in (await kube.get(f"{pods}/free")).body["metadata"]
            assert (await server.act(free(uid="another"))).verb is Verb.GONE
            assert (await server.act(free())).verb is Verb.DONE
            assert "deletionTimestamp" in (await kube.get(f"{pods}/free")).body["metadata"]
            nowhere = free(name="nowhere")
            assert (await server.act(nowhere)).verb is Verb.GONE

    run(test)


def test_the_keeper_is_applied_once_and_nobody_elses_edit_stays(connect, system_namespace):
    async def test():
        async with connect() as kube, serving(kube, system_namespace) as server:
            path = f"/apis/apps/v1/namespaces/{system_namespace}/daemonsets/ttdrv-keep"
            assert (await server.snapshot()).keeper == ""
            try:
                apply = ApplyKeeper(image="builder:1", template_hash="h1")
                first = await server.act(apply)
                assert (first.verb, (await server.snapshot()).keeper) == (Verb.DONE, "h1")
                generation = (await kube.get(path)).body["metadata"]["generation"]
                assert (await server.act(apply)).verb is Verb.DONE
                assert (await kube.get(path)).body["metadata"]["generation"] == generation
                edit = {"spec": {"template": {"spec": {"hostPID": False}}}}
                assert (await kube.patch(path, edit, field_manager="kubectl-edit")).ok
                assert (await server.act(apply)).verb is Verb.DONE
                assert (await kube.get(path)).body["spec"]["template"]["spec"]["hostPID"] is True
            finally:
                await kube.delete(path)

    run(test)


def test_a_status_is_written_whole_and_touches_nothing_else(connect, namespace):
    async def test():
        spec = {"version": "2.8.0", "nodeAffinity": {}}
        body = {
            "apiVersion": DRIVER_API_VERSION,
            "kind": POLICY_KIND,
            "metadata": {"name": "status"},
            "spec": spec,
        }
        async with connect() as kube:
            assert (await kube.apply(f"{POLICIES}/status", body, field_manager="ttfleet-reconciler")).ok
            try:
                async with serving(kube, namespace) as server:
                    for status in (
                        {"ready": "1/2", "summary": {"matched": 2, "failed": 1}},
                        {"summary": {"matched": 3}},
                    ):
                        policy = (await server.snapshot()).policies["status"]
                        write = WriteStatus(
                            policy="status", resource_version=policy.resource_version, status=status
                        )
                        assert (await server.act(write)).verb is Verb.DONE
                        assert (await server.snapshot()).policies["status"].status == status
                    assert (await server.act(write)).verb is Verb.CONFLICT
                served = (await kube.get(f"{POLICIES}/status")).body
                assert served["spec"] == spec
                owners = {
                    (e["manager"], e.get("subresource", "")) for e in served["metadata"]["managedFields"]
                }
                assert owners == {("ttfleet-reconciler", ""), (MANAGER_OPERATOR, "status")}
            finally:
                await kube.delete(f"{POLICIES}/status")

    run(test)


def restart_of(pid, log):
    """`again()` starts the same command line once more."""
    argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]

    def again():
        with log.open("wb") as output:
            return subprocess.Popen(argv, stdout=output, stderr=output)

    return again


def test_the_informer_outlives_a_killed_api_server(tmp_path):
    """SIGKILL to kube-apiserver, back 1 s later on the same port: the store follows, without a restart of ours."""

    async def test():
        with Plane.start(tmp_path / "plane", audit=False) as plane:
            old = plane.identities["kube-apiserver"].pid
            again = restart_of(old, tmp_path / "again.log")
            async with await Kube.connect(plane.kubeconfig) as kube:
                informer = Informer(kube, "/api/v1/namespaces", dict)
                async with informer.running():
                    await asyncio.wait_for(informer.synced.wait(), BOUND_S)
                    epoch = informer.store.epoch
                    os.kill(old, signal.SIGKILL)
                    await asyncio.sleep(1)
                    server = again()
                    try:
                        await until(lambda: informer.store.epoch > epoch)
                        made = await kube.create("/api/v1/namespaces", {"metadata": {"name": "after"}})
                        assert made.ok, made.message
                        await until(lambda: informer.store.get("after") is not None)
                    finally:
                        server.kill()  # a graceful end waits for the watches of the others
                        server.wait(BOUND_S)

    run(test)

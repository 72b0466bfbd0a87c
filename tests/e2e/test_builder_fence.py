"""What root on a node can do with a builder's token: patch two labels and two annotations of that node. Nothing else.

Each attempt runs with the builder's own role and again with cluster-admin under it: RBAC alone stops almost nothing on
nodes, the fence alone must stop every write.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from schema.names import (
    ANNOTATION_CLAIM,
    ANNOTATION_HOST_FACTS,
    ANNOTATION_TXN,
    LABEL_INSTALL_MODE,
    LABEL_KMD_VERSION,
    LABEL_SKIP,
    MANAGER_BUILDER,
    SERVICE_ACCOUNT_BUILDER,
)

pytestmark = pytest.mark.e2e

NODE, OTHER = "fence-node", "fence-other"
OWN = f"/api/v1/nodes/{NODE}"
PODS = "/api/v1/namespaces/{ns}/pods"


def metadata(**fields):
    return {"metadata": fields}


@dataclass(frozen=True)
class Attempt:
    """One write. `{ns}` in a path is ttfleet's namespace."""

    method: str
    path: str
    body: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def patch(body, path=OWN, manager=MANAGER_BUILDER, kind="merge"):
    return Attempt("patch", path, body, {"field_manager": manager, "kind": kind})


ALLOWED = {
    "install mode": patch(metadata(labels={LABEL_INSTALL_MODE: "container"})),
    "version": patch(metadata(labels={LABEL_KMD_VERSION: "2.8.0"})),
    "both labels gone": patch(metadata(labels={LABEL_INSTALL_MODE: None, LABEL_KMD_VERSION: None})),
    "facts": patch(metadata(annotations={ANNOTATION_HOST_FACTS: "{}"})),
    "claim": patch(metadata(annotations={ANNOTATION_CLAIM: "{}"})),
    "claim gone": patch(metadata(annotations={ANNOTATION_CLAIM: None})),
    "all at once": patch(
        metadata(
            labels={LABEL_INSTALL_MODE: "container", LABEL_KMD_VERSION: "2.8.0"},
            annotations={ANNOTATION_HOST_FACTS: "{}", ANNOTATION_CLAIM: "{}"},
        )
    ),
    "facts by strategic merge": patch(metadata(annotations={ANNOTATION_HOST_FACTS: "x"}), kind="strategic"),
    "nothing": patch({}),
}

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "intruder"},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
MANAGED = {"manager": "them", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1"}

FORBIDDEN = {
    # its own node, other fields
    "cordon taken over": patch({"spec": {"unschedulable": False}}),
    "uncordon": patch({"spec": {"unschedulable": None}}),
    "taint": patch({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}),
    "provider": patch({"spec": {"providerID": "x://y"}}),
    "pod range": patch({"spec": {"podCIDR": "10.0.0.0/24"}}),
    "skip label": patch(metadata(labels={LABEL_SKIP: "true"})),
    "foreign label changed": patch(metadata(labels={"pool": "b"})),
    "foreign label removed": patch(metadata(labels={"pool": None})),
    "all labels removed": patch(metadata(labels=None)),
    "own label hides another": patch(metadata(labels={LABEL_KMD_VERSION: "2.8.0", "pool": "b"})),
    "record": patch(metadata(annotations={ANNOTATION_TXN: "{}"})),
    "foreign annotation removed": patch(metadata(annotations={"note": None})),
    "all annotations removed": patch(metadata(annotations=None)),
    "finalizer": patch(metadata(finalizers=["example.com/stuck"])),
    "owner": patch(metadata(ownerReferences=[{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "u"}])),
    "ownership wiped": patch(metadata(managedFields=[{}])),
    "ownership emptied": patch(metadata(managedFields=[])),
    "ownership forged": patch(metadata(managedFields=[MANAGED | {"fieldsV1": {"f:spec": {}}}])),
    # its own node, other ways
    "no field manager": patch(metadata(labels={LABEL_KMD_VERSION: "2.8.0"}), manager=""),
    "another manager": patch(metadata(labels={LABEL_KMD_VERSION: "2.8.0"}), manager="ttfleet-operator"),
    "manager in capitals": patch(metadata(labels={LABEL_KMD_VERSION: "2.8.0"}), manager="TTFLEET-BUILDER"),
    "JSON patch of a taint": Attempt("json", OWN),
    "apply a taint": Attempt("apply", OWN, {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
    "replace": Attempt("replace", OWN, {"spec": {"taints": []}}),
    "status": patch({"status": {"capacity": {"tenstorrent.com/n150": "8"}}}, OWN + "/status"),
    "status of labels": patch(metadata(labels={LABEL_KMD_VERSION: "2.8.0"}), OWN + "/status"),
    "delete own node": Attempt("delete", OWN),
    "proxy": Attempt("create", OWN + "/proxy/run/x"),
    # other nodes
    "label of another node": patch(metadata(labels={LABEL_KMD_VERSION: "2.8.0"}), f"/api/v1/nodes/{OTHER}"),
    "claim of another node": patch(metadata(annotations={ANNOTATION_CLAIM: "{}"}), f"/api/v1/nodes/{OTHER}"),
    "cordon another node": patch({"spec": {"unschedulable": True}}, f"/api/v1/nodes/{OTHER}"),
    "delete another node": Attempt("delete", f"/api/v1/nodes/{OTHER}"),
    "delete all nodes": Attempt("delete", "/api/v1/nodes"),
    "create a node": Attempt("create", "/api/v1/nodes", {"metadata": {"name": "fence-new"}}),
    "apply a new node": Attempt("apply", "/api/v1/nodes/fence-new"),
    # everything else
    "pod": Attempt("create", PODS, POD),
    "pod elsewhere": Attempt("create", "/api/v1/namespaces/default/pods", POD),
    "delete own pod": Attempt("delete", PODS + f"/{NODE}"),
    "label own pod": patch(metadata(labels={"a": "b"}), PODS + f"/{NODE}"),
    "status of own pod": patch({"status": {"phase": "Failed"}}, PODS + f"/{NODE}/status"),
    "evict own pod": Attempt(
        "create",
        PODS + f"/{NODE}/eviction",
        {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": NODE}},
    ),
    "ephemeral container": patch(
        {"spec": {"ephemeralContainers": []}}, PODS + f"/{NODE}/ephemeralcontainers"
    ),
    "bind": Attempt(
        "create", PODS + f"/{NODE}/binding", metadata(name=NODE) | {"target": {"kind": "Node", "name": OTHER}}
    ),
    "token": Attempt(
        "create", f"/api/v1/namespaces/{{ns}}/serviceaccounts/{SERVICE_ACCOUNT_BUILDER}/token", {"spec": {}}
    ),
    "token of the operator": Attempt(
        "create", "/api/v1/namespaces/{ns}/serviceaccounts/ttfleet-operator/token", {"spec": {}}
    ),
    "event": Attempt(
        "create",
        "/api/v1/namespaces/{ns}/events",
        {"metadata": {"name": "e", "namespace": "{ns}"}, "involvedObject": {"namespace": "{ns}"}},
    ),
    "lease": Attempt("create", "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases", metadata(name="l")),
    "node lease": Attempt(
        "create", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", metadata(name=NODE)
    ),
    "secret": Attempt("create", "/api/v1/namespaces/{ns}/secrets", metadata(name="s")),
    "config map": Attempt("create", "/api/v1/namespaces/{ns}/configmaps", metadata(name="m")),
    "namespace": Attempt("create", "/api/v1/namespaces", metadata(name="fence-ns")),
    "policy of drivers": Attempt(
        "create",
        "/apis/driver.tenstorrent.com/v1alpha1/tenstorrentdriverpolicies",
        {
            "apiVersion": "driver.tenstorrent.com/v1alpha1",
            "kind": "TenstorrentDriverPolicy",
            "metadata": {"name": "p"},
            "spec": {"version": "2.8.0", "nodeAffinity": {}},
        },
    ),
    "role": Attempt(
        "create",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        metadata(name="fence-role") | {"rules": []},
    ),
}


async def send(kube, attempt, namespace):
    path = attempt.path.replace("{ns}", namespace)
    body = {
        key: ({k: v.replace("{ns}", namespace) if isinstance(v, str) else v for k, v in value.items()})
        if isinstance(value, dict)
        else value
        for key, value in attempt.body.items()
    }
    match attempt.method:
        case "patch":
            return await kube.patch(path, body, **attempt.options)
        case "json":
            operations = [
                {"op": "add", "path": "/spec/taints", "value": [{"key": "a", "effect": "NoSchedule"}]}
            ]
            return await kube.patch(path, operations, field_manager=MANAGER_BUILDER, kind="json")
        case "apply":
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": path.rpartition("/")[2]}} | body
            return await kube.apply(path, node, field_manager=MANAGER_BUILDER, force=True)
        case "replace":
            current = (await kube.get(path)).body
            return await kube.replace(path, current | body, field_manager=MANAGER_BUILDER)
        case "create":
            return await kube.create(path, body, field_manager=MANAGER_BUILDER if "proxy" not in path else "")
        case "delete":
            return await kube.delete(path)
    raise AssertionError(attempt.method)


@pytest.fixture(scope="module")
def token(plane, system_namespace):
    """Kubeconfig with a token of the builder that is bound to a pod on NODE; and both nodes exist, with foreign marks."""
    from reconciler.adapters.kube import Kube

    account = f"/api/v1/namespaces/{system_namespace}/serviceaccounts/{SERVICE_ACCOUNT_BUILDER}"

    async def prepare():
        async with await Kube.connect(plane.kubeconfig) as kube:
            for name in (NODE, OTHER):
                node = {"metadata": {"name": name, "labels": {"pool": "a"}, "annotations": {"note": "x"}}}
                assert (await kube.create("/api/v1/nodes", node)).ok
                owned = {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {"name": name, "labels": {"owned": "by-apply"}},
                }
                assert (await kube.apply(f"/api/v1/nodes/{name}", owned, field_manager="them")).ok
                assert (await kube.patch(f"/api/v1/nodes/{name}", {"spec": {"unschedulable": True}})).ok
            pod = POD | {"metadata": {"name": NODE}}
            pod["spec"] = pod["spec"] | {"nodeName": NODE, "serviceAccountName": SERVICE_ACCOUNT_BUILDER}
            created = await kube.create(f"/api/v1/namespaces/{system_namespace}/pods", pod)
            assert created.ok, created
            bound = {"apiVersion": "v1", "kind": "Pod", "name": NODE, "uid": created.body["metadata"]["uid"]}
            answer = await kube.create(account + "/token", {"spec": {"boundObjectRef": bound}})
            assert answer.ok, answer
            return plane.kubeconfig_for_token("fence", answer.body["status"]["token"])

    async def clean():
        async with await Kube.connect(plane.kubeconfig) as kube:
            await kube.delete(f"/api/v1/namespaces/{system_namespace}/pods/{NODE}", grace_s=0)
            for name in (NODE, OTHER):
                await kube.delete(f"/api/v1/nodes/{name}")

    yield asyncio.run(prepare())
    asyncio.run(clean())


@pytest.fixture(params=["own role", "cluster-admin"], scope="class")
def role(request, plane, token, system_namespace):
    """The builder with its own role, and with everything."""
    if request.param == "own role":
        yield request.param
        return
    from reconciler.adapters.kube import Kube

    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    binding = {
        "metadata": {"name": "fence-almighty"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [
            {"kind": "ServiceAccount", "name": SERVICE_ACCOUNT_BUILDER, "namespace": system_namespace}
        ],
    }

    async def bind():
        async with await Kube.connect(plane.kubeconfig) as kube:
            assert (await kube.create(bindings, binding)).ok
        async with await Kube.connect(token) as builder, asyncio.timeout(30):
            while not (await builder.get("/api/v1/secrets", limit=1)).ok:  # noqa: ASYNC110  until RBAC knows
                await asyncio.sleep(0.05)

    async def unbind():
        async with await Kube.connect(plane.kubeconfig) as kube:
            await kube.delete(f"{bindings}/fence-almighty")

    asyncio.run(bind())
    yield request.param
    asyncio.run(unbind())


async def _state(kube):
    names = await kube.list("/api/v1/nodes")
    return {
        item["metadata"]["name"]: (
            {k: v for k, v in item["metadata"].items() if k in {"labels", "annotations", "finalizers"}},
            {k: v for k, v in item["spec"].items() if k != "taints"},  # the controller-manager's
            sorted(f["manager"] for f in item["metadata"]["managedFields"] if f["operation"] == "Apply"),
        )
        for item in names.body["items"]
        if item["metadata"]["name"].startswith("fence-")
    }


class TestWrites:
    @pytest.mark.parametrize("what", ALLOWED)
    def test_the_builders_own_writes_pass(self, connect, token, role, system_namespace, what):
        async def main():
            async with connect(token) as builder:
                answer = await send(builder, ALLOWED[what], system_namespace)
                assert answer.code == 200, answer.message

        asyncio.run(main())

    @pytest.mark.parametrize("what", FORBIDDEN)
    def test_everything_else_is_forbidden_and_changes_nothing(
        self, connect, token, role, system_namespace, what
    ):
        async def main():
            async with connect() as kube, connect(token) as builder:
                before = await _state(kube)
                answer = await send(builder, FORBIDDEN[what], system_namespace)
                assert answer.code == 403, (answer.code, answer.message)
                assert await _state(kube) == before

        asyncio.run(main())

    @pytest.mark.parametrize("what", ["uncordon", "pod", "label of another node", "token"])
    def test_the_fence_itself_says_so_even_to_an_administrator(
        self, connect, token, role, system_namespace, what
    ):
        if role == "own role":
            return  # there RBAC may have answered first

        async def main():
            async with connect(token) as builder:
                answer = await send(builder, FORBIDDEN[what], system_namespace)
                assert "ValidatingAdmissionPolicy 'ttfleet-builder'" in answer.message, answer

        asyncio.run(main())

    def test_it_cannot_cordon_either(self, connect, token, role):
        async def main():
            async with connect() as kube, connect(token) as builder:
                cordon = {"spec": {"unschedulable": True}}
                assert (await kube.patch(OWN, {"spec": {"unschedulable": None}})).ok
                answer = await builder.patch(OWN, cordon, field_manager=MANAGER_BUILDER)
                assert (await kube.patch(OWN, cordon)).ok
                assert answer.code == 403, answer.message

        asyncio.run(main())


def test_a_token_that_is_not_bound_to_the_nodes_pod_patches_nothing(plane, connect, token, system_namespace):
    async def main():
        loose = await plane.kubeconfig_for_service_account(system_namespace, SERVICE_ACCOUNT_BUILDER)
        async with connect(loose) as builder:
            answer = await send(builder, ALLOWED["version"], system_namespace)
            assert answer.code == 403, answer.message
            assert (await builder.get(OWN)).ok

    asyncio.run(main())


def test_the_builder_reads_nodes_and_nothing_else(connect, token, system_namespace):
    async def main():
        async with connect(token) as builder:
            assert (await builder.get(OWN)).ok
            for path in ("/api/v1/nodes", "/api/v1/secrets", "/api/v1/pods", OWN + "/proxy/pods"):
                assert (await builder.get(path)).code == 403, path
            assert (await builder.get(f"/api/v1/namespaces/{system_namespace}/configmaps")).code == 403

    asyncio.run(main())

"""A cluster at rest as an API server serves it: nodes with facts and history, pods, policies; and an operator that knows it."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

from reconciler.adapters import manifests
from reconciler.adapters.kube import Kube
from reconciler.core.actions import WriteStatus
from reconciler.core.node.operate import keeper_hash, operate
from reconciler.core.world import Settings, Term, World
from reconciler.operator.server import Server
from schema.names import (
    ANNOTATION_HISTORY,
    ANNOTATION_HOST_FACTS,
    DEVICE_DIRECTORY,
    LABEL_HOSTNAME,
    LABEL_INSTALL_MODE,
    LABEL_KMD_VERSION,
    LABEL_PRESENT,
)
from schema.policy import Budget, PolicySpec, Requirement, Selector, Source
from schema.target import Mode, Target
from schema.transaction import Attempt, History, Result

NOW = 1_790_000_000.0  # POSIX seconds
AT = "2026-09-21T13:33:20Z"
VERSION, COMMIT = "2.7.0", "7" * 40
REPOSITORY = "https://example.com/tt-kmd.git"
SHARD_NODES = 200
PODS_EACH = 5
Raw = dict[str, Any]


def name_of(number: int) -> str:
    return f"node-{number:05}"


def uid_of(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def raw_node(number: int, *, resource_version: int = 1000, serial: int = 1, **labels: str) -> Raw:
    """A node that runs VERSION, with what a kubelet and two managers leave on it; `serial` counts its transactions."""
    name = name_of(number)
    facts = {
        "bootID": uid_of(f"boot {name}"),
        "kernel": "6.12.0-1-amd64",
        "buildID": "b" * 40,
        "mode": "container",
        "loaded": {"version": VERSION, "srcversion": "5" * 24},
        "active": _staged(),
        "staged": [_staged()],
        "dkms": {"versions": [], "package": None},
        "vacated": False,
        "open": None,
        "last": {"id": f"{serial:016x}", "at": AT},
        "problems": [],
    }
    target = Target(mode=Mode.CONTAINER, version=VERSION, repository=REPOSITORY, commit=COMMIT)
    done = Attempt(at=AT, plan="train/1-0", from_=None, to=target, result=Result.OK)
    return {
        "metadata": {
            "name": name,
            "uid": uid_of(name),
            "resourceVersion": str(resource_version),
            "labels": {
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": f"zone-{number % 3}",
                LABEL_HOSTNAME: name,
                LABEL_PRESENT: "true",
                LABEL_INSTALL_MODE: "container",
                LABEL_KMD_VERSION: VERSION,
                **labels,
            },
            "annotations": {
                ANNOTATION_HOST_FACTS: json.dumps(facts),
                ANNOTATION_HISTORY: json.dumps(History(reached=(done,), serial=serial).to_json()),
            },
            "managedFields": [_managed("kubelet"), _managed("ttfleet-builder"), _managed("ttfleet-operator")],
        },
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {
            "conditions": [
                {
                    "type": kind,
                    "status": str(kind == "Ready"),
                    "lastTransitionTime": AT,
                    "lastHeartbeatTime": AT,
                }
                for kind in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
            ],
            "images": [{"names": [f"example.com/image-{i}:1"], "sizeBytes": 10**8} for i in range(20)],
            "nodeInfo": {"bootID": facts["bootID"], "kernelVersion": facts["kernel"]},
        },
    }


def _staged() -> Raw:
    return {
        "version": VERSION,
        "kernel": "6.12.0-1-amd64",
        "buildID": "b" * 40,
        "srcversion": "5" * 24,
        "sha256": "a" * 64,
        "commit": COMMIT,
    }


def _managed(manager: str) -> Raw:
    fields = {
        "f:metadata": {"f:labels": {f"f:label-{i}": {} for i in range(10)}},
        "f:status": {"f:conditions": {}},
    }
    return {"manager": manager, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields}


def raw_pod(node: int, number: int, *, resource_version: int = 1000) -> Raw:
    """A running workload; every fifth holds a device."""
    name = f"work-{node:05}-{number}"
    volumes = [{"name": "tt", "hostPath": {"path": DEVICE_DIRECTORY}}] if number % 5 == 0 else []
    return {
        "metadata": {
            "namespace": "default",
            "name": name,
            "uid": uid_of(name),
            "resourceVersion": str(resource_version),
            "labels": {"app": "work"},
            "ownerReferences": [{"kind": "ReplicaSet", "uid": uid_of("work"), "controller": True}],
        },
        "spec": {
            "nodeName": name_of(node),
            "containers": [
                {"name": "main", "image": "example.com/work:1", "resources": {"limits": {"cpu": "1"}}}
            ],
            "volumes": [{"name": "scratch", "emptyDir": {}}, *volumes],
        },
        "status": {
            "phase": "Running",
            "startTime": AT,
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "main", "state": {"running": {"startedAt": AT}}}],
        },
    }


def raw_policies(nodes: int, version: str = VERSION) -> Iterator[Raw]:
    """Policies of at most 200 nodes each, as the reconciler renders them."""
    for shard, start in enumerate(range(0, nodes, SHARD_NODES), start=1):
        names = tuple(name_of(number) for number in range(start, min(start + SHARD_NODES, nodes)))
        spec = PolicySpec(
            version=version,
            node_affinity=Selector(
                match_expressions=(Requirement(key=LABEL_HOSTNAME, operator="In", values=names),)
            ),
            mode=Mode.CONTAINER,
            source=Source(repository=REPOSITORY, commit=COMMIT),
            budgets=(Budget(group="cluster", max_unavailable=10),),
        )
        name = f"train-rest-{shard}"
        metadata = {"name": name, "uid": uid_of(name), "resourceVersion": "1000", "generation": 1}
        yield {"metadata": metadata, "spec": spec.to_json()}


def server_at_rest(nodes: int) -> Server:
    """An operator's server whose informers know the cluster, and whose policies' statuses are written: nothing is due."""
    settings = Settings(namespace="ttfleet-system", image="example.com/builder:1")
    term = Term(identity="bench", lease_version="1", renewed_at=NOW, clean=True)
    kube: Any = object.__new__(Kube)  # no request is made
    server = Server(
        kube, settings, term, changed=lambda: None, heard=lambda _action, _outcome: None, environment={}
    )
    raw_pods = [raw_pod(node, number) for node in range(nodes) for number in range(PODS_EACH)]
    policies = {policy["metadata"]["name"]: policy for policy in raw_policies(nodes)}
    server.nodes.store.replace([raw_node(number) for number in range(nodes)], 1000)
    server.pods.store.replace(raw_pods, 1000)
    server.policies.store.replace(list(policies.values()), 1000)
    sync = {"metadata": {"name": "fleet", "resourceVersion": "1"}, "spec": {"mode": "Enforce"}}
    server.syncs.store.replace([sync], 1000)
    keeper = manifests.keeper(
        settings.image, keeper_hash(settings), namespace=settings.namespace, environment={}
    )
    keeper["metadata"]["resourceVersion"] = "1"
    server.keepers.store.replace([keeper], 1000)
    for action in operate(look(server), NOW).actions:
        assert isinstance(action, WriteStatus), action
        policies[action.policy]["status"] = json.loads(json.dumps(action.status))
    server.policies.store.replace(list(policies.values()), 1001)
    decision = operate(look(server), NOW)
    assert not decision.actions, decision.actions[:1]
    assert len(decision.reports) == nodes
    return server


def look(server: Server) -> World:
    """A snapshot, without a loop: it waits for nothing."""
    try:
        server.snapshot().send(None)
    except StopIteration as done:
        world: World = done.value
        return world
    raise RuntimeError("a snapshot that waits")

"""What runs on the demo's nodes: two Deployments that hold devices, each under a PodDisruptionBudget."""

from typing import Any, Final

from schema.names import DEVICE_DIRECTORY, LABEL_PRESENT, LABEL_USES_DEVICE

NAMESPACE: Final = "ml"
#: name -> (replicas, how many of them may be away at once)
DEPLOYMENTS: Final = {"train": (6, 2), "serve": (6, 2)}
GRACE_S: Final = 1


def manifests() -> list[tuple[str, dict[str, Any]]]:
    """(path of the collection, object), in order of creation."""
    objects: list[tuple[str, dict[str, Any]]] = [
        ("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    ]
    for name, (replicas, away) in DEPLOYMENTS.items():
        objects.append((f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets", _budget(name, away)))
        objects.append((f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", _deployment(name, replicas)))
    return objects


def _budget(name: str, away: int) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"maxUnavailable": away, "selector": {"matchLabels": {"app": name}}},
    }


def _deployment(name: str, replicas: int) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name, LABEL_USES_DEVICE: "true"}},
                "spec": _pod(name),
            },
        },
    }


def _pod(name: str) -> dict[str, Any]:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {LABEL_USES_DEVICE: "true"}},
    }
    return {
        "terminationGracePeriodSeconds": GRACE_S,
        "nodeSelector": {LABEL_PRESENT: "true"},
        "topologySpreadConstraints": [spread],
        "containers": [
            {
                "name": name,
                "image": "example.com/workload:1",
                "volumeMounts": [{"name": "device", "mountPath": DEVICE_DIRECTORY}],
            }
        ],
        "volumes": [{"name": "device", "hostPath": {"path": DEVICE_DIRECTORY}}],
    }

"""What a kubelet says of its machine: Node, its status, its Lease. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from schema.clock import format_rfc3339
from schema.names import DEVICE_RESOURCE_PREFIX, LABEL_HOSTNAME

KUBELET_VERSION: Final = "v1.35.4-hollow"
DEVICE_RESOURCE: Final = f"{DEVICE_RESOURCE_PREFIX}n150"
LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_PRESSURES: Final = ("MemoryPressure", "DiskPressure", "PIDPressure")
#: domains in which NodeRestriction watches what a kubelet sets
_RESERVED: Final = ("kubernetes.io", "k8s.io")
_OWN: Final = frozenset(
    {LABEL_HOSTNAME, "kubernetes.io/os", "kubernetes.io/arch", "node.kubernetes.io/instance-type"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineReport:
    """What changes in a node's status: boot and port, cards and kernel."""

    name: str
    boot_id: str
    kernel: str
    os_image: str
    cards: int
    address: str
    port: int
    ready_since: float  # POSIX seconds


def node(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The Node as a kubelet registers it, without its status."""
    own = {LABEL_HOSTNAME: name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {**labels, **own}}}


def node_status(report: MachineReport, *, now: float) -> dict[str, Any]:
    """The status, as a strategic merge patch takes it."""
    resources = {"cpu": "64", "memory": "512Gi", "ephemeral-storage": "1Ti", "pods": "110"}
    if report.cards:
        resources[DEVICE_RESOURCE] = str(report.cards)
    return {
        "capacity": resources,
        "allocatable": resources,
        "addresses": [
            {"type": "InternalIP", "address": report.address},
            {"type": "Hostname", "address": report.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": report.port}},
        "nodeInfo": {
            "machineID": report.name,
            "systemUUID": report.name,
            "bootID": report.boot_id,
            "kernelVersion": report.kernel,
            "osImage": report.os_image,
            "containerRuntimeVersion": "hollow://1",
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": "amd64",
        },
        "conditions": [*_conditions(report, now)],
    }


def lease(name: str, uid: str, *, duration_s: int, now: float) -> dict[str, Any]:
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": duration_s, **renewal(now)},
    }


def renewal(now: float) -> dict[str, str]:
    """The one field of a Lease that a heartbeat writes: MicroTime."""
    return {"renewTime": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")}


def for_kubelet(label: str) -> bool:
    """Whether a kubelet sets this label itself: not those of *.kubernetes.io that are for NFD, people and clouds."""
    domain, slash, _ = label.rpartition("/")
    reserved = slash and any(domain == name or domain.endswith(f".{name}") for name in _RESERVED)
    return label in _OWN or not reserved


def _conditions(report: MachineReport, now: float) -> list[dict[str, str]]:
    times = {
        "lastHeartbeatTime": format_rfc3339(now),
        "lastTransitionTime": format_rfc3339(report.ready_since),
    }
    calm = [
        {"type": kind, "status": "False", "reason": "KubeletHasSufficientResources", "message": "", **times}
        for kind in _PRESSURES
    ]
    return [
        *calm,
        {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "hollow kubelet is posting ready status",
            **times,
        },
    ]

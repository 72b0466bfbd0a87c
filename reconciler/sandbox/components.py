"""The command lines of a control plane: what each component is told, and its audit policy. Pure.

Why each unusual flag: docs/sandbox.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from schema.names import DRIVER_GROUP, FLEET_GROUP

COMPONENTS: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
LOOPBACK: Final = "127.0.0.1"
SERVICE_RANGE: Final = "10.96.0.0/16"
SERVICE_HOSTS: Final = (
    LOOPBACK,
    "localhost",
    "10.96.0.1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
#: the default of 20 requests a second throttles the controller-manager's own start and every large test
CLIENT_RATE: Final = ("--kube-api-qps=1000", "--kube-api-burst=2000")
AUDIT_FILE_LIMIT_MB: Final = 100_000  # never rotated: a rotated log is no evidence


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on 127.0.0.1."""

    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int
    scheduler: int

    def of(self, component: str) -> int:
        return {
            "etcd": self.etcd,
            "kube-apiserver": self.apiserver,
            "kube-controller-manager": self.controller_manager,
            "kube-scheduler": self.scheduler,
        }[component]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a plane keeps what, below its directory."""

    directory: Path

    @property
    def pki(self) -> Path:
        return self.directory / "pki"

    @property
    def state(self) -> Path:
        return self.directory / "plane.json"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def users(self) -> Path:
        return self.directory / "users"

    @property
    def audit_log(self) -> Path:
        return self.directory / "audit.log"

    @property
    def audit_policy(self) -> Path:
        return self.directory / "audit-policy.json"

    def log(self, component: str) -> Path:
        return self.directory / "logs" / f"{component}.log"

    def certificate(self, name: str) -> Path:
        return self.pki / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.pki / f"{name}.key"

    def user(self, name: str) -> Path:
        return self.users / f"{name}.kubeconfig"


def arguments(component: str, layout: Layout, ports: Ports, *, audit: bool) -> list[str]:
    """Everything after the binary's name.

    Raises:
        ValueError: `component` is none of `COMPONENTS`.
    """
    match component:
        case "etcd":
            return _etcd(layout, ports)
        case "kube-apiserver":
            return _apiserver(layout, ports) + (_audit(layout) if audit else [])
        case "kube-controller-manager":
            return _controller_manager(layout, ports)
        case "kube-scheduler":
            return _client(layout, "kube-scheduler", ports.scheduler)
    raise ValueError(f"unknown component {component!r}")


def audit_policy() -> dict[str, Any]:
    """Bodies of every write that is evidence (nodes, pods, evictions, DaemonSets, our CRs); never a token, no reads."""
    bodies = [
        {"group": "", "resources": ["nodes", "nodes/status", "pods", "pods/status", "pods/eviction"]},
        {"group": "apps", "resources": ["daemonsets"]},
        {"group": DRIVER_GROUP, "resources": ["*"]},
        {"group": FLEET_GROUP, "resources": ["*"]},
    ]
    heartbeats = {"group": "coordination.k8s.io", "resources": ["leases"]}
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": True,
        "rules": [
            {"level": "None", "verbs": ["get", "list", "watch"]},
            {"level": "None", "namespaces": ["kube-node-lease"], "resources": [heartbeats]},
            {"level": "None", "resources": [{"group": "", "resources": ["events"]}]},
            {"level": "RequestResponse", "resources": bodies},
            {"level": "Metadata"},
        ],
    }


def _etcd(layout: Layout, ports: Ports) -> list[str]:
    client, peer = f"https://{LOOPBACK}:{ports.etcd}", f"https://{LOOPBACK}:{ports.etcd_peer}"
    certificate, key = layout.certificate("etcd"), layout.key("etcd")
    authority = layout.certificate("etcd-ca")
    return [
        "--name=sandbox",
        f"--data-dir={layout.directory / 'etcd'}",
        "--unsafe-no-fsync",  # a sandbox survives the crash of a process, it need not survive the machine's
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=sandbox={peer}",
        f"--cert-file={certificate}",
        f"--key-file={key}",
        f"--trusted-ca-file={authority}",
        "--client-cert-auth",
        f"--peer-cert-file={certificate}",
        f"--peer-key-file={key}",
        f"--peer-trusted-ca-file={authority}",
        "--peer-client-cert-auth",
        "--log-level=warn",
    ]


def _apiserver(layout: Layout, ports: Ports) -> list[str]:
    return [
        f"--etcd-servers=https://{LOOPBACK}:{ports.etcd}",
        f"--etcd-cafile={layout.certificate('etcd-ca')}",
        f"--etcd-certfile={layout.certificate('etcd')}",
        f"--etcd-keyfile={layout.key('etcd')}",
        f"--bind-address={LOOPBACK}",
        f"--advertise-address={LOOPBACK}",
        "--endpoint-reconciler-type=none",  # Endpoints refuse loopback addresses
        f"--secure-port={ports.apiserver}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--tls-cert-file={layout.certificate('kube-apiserver')}",
        f"--tls-private-key-file={layout.key('kube-apiserver')}",
        f"--client-ca-file={layout.certificate('ca')}",
        f"--kubelet-certificate-authority={layout.certificate('ca')}",
        f"--kubelet-client-certificate={layout.certificate('kubelet-client')}",
        f"--kubelet-client-key={layout.key('kubelet-client')}",
        "--kubelet-preferred-address-types=InternalIP,Hostname",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={layout.key('service-accounts')}",
        f"--service-account-signing-key-file={layout.key('service-accounts')}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        "--profiling=false",
    ]


def _audit(layout: Layout) -> list[str]:
    return [
        f"--audit-policy-file={layout.audit_policy}",
        f"--audit-log-path={layout.audit_log}",
        "--audit-log-mode=blocking",  # a write that was answered is in the log
        f"--audit-log-maxsize={AUDIT_FILE_LIMIT_MB}",
    ]


def _controller_manager(layout: Layout, ports: Ports) -> list[str]:
    return [
        *_client(layout, "kube-controller-manager", ports.controller_manager),
        "--use-service-account-credentials",
        f"--service-account-private-key-file={layout.key('service-accounts')}",
        f"--root-ca-file={layout.certificate('ca')}",
    ]


def _client(layout: Layout, component: str, port: int) -> list[str]:
    """What the two components that are clients of the API server have in common."""
    kubeconfig = layout.user(component)
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        f"--tls-cert-file={layout.certificate(component)}",
        f"--tls-private-key-file={layout.key(component)}",
        "--leader-elect=false",
        "--profiling=false",
        *CLIENT_RATE,
    ]

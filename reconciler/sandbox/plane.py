"""A real control plane on loopback: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.

`with Plane.start(directory) as plane:` starts one in seconds and ends it; `Plane.open(directory)` is the same handle
in another process, for kubeconfigs and certificates.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from reconciler.sandbox import processes
from reconciler.sandbox.binaries import Binaries, find_or_build
from reconciler.sandbox.certificates import Authority, Pair, signing_key, write_private
from reconciler.sandbox.components import (
    COMPONENTS,
    LOOPBACK,
    SERVICE_HOSTS,
    Layout,
    Ports,
    arguments,
    audit_policy,
)
from reconciler.sandbox.errors import SandboxError
from reconciler.sandbox.kubeconfigs import certificate_user, write_kubeconfig
from reconciler.sandbox.processes import Child, Identity
from reconciler.sandbox.readiness import Probe
from schema.names import NAMESPACE_DEFAULT, SERVICE_ACCOUNT_BUILDER

if TYPE_CHECKING:
    from reconciler.adapters.kube import Kube

START_BOUND_S: Final = 120.0  # it takes 4 s; on a machine that is busy with builds much longer
TOKEN_LIFETIME_S: Final = 24 * 3600
ADMINISTRATORS: Final = "system:masters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """A control plane, running or at least once started in `directory`.

    Attributes:
        directory: everything of it: certificates, etcd's data, logs, kubeconfigs, audit log.
        url: of the API server.
        ports: of all components.
        owner: the process that started it, and with which it ends.
        identities: component -> process.
        children: the same as children; empty unless this process is the owner.
    """

    directory: Path
    url: str
    ports: Ports
    owner: Identity
    identities: Mapping[str, Identity]
    children: tuple[Child, ...] = ()

    @classmethod
    def start(cls, directory: Path, *, audit: bool = True, binaries: Binaries | None = None) -> Self:
        """Start a control plane and wait until it is usable (ServiceAccount `default` exists). Blocks for seconds.

        The directory of a plane that has ended is taken up again with its data; the ports are new.

        Raises:
            SandboxError: a plane runs there, a binary is missing, or a process ended; the message quotes its log.
            SandboxTimeoutError: not usable within `START_BOUND_S`.
        """
        binaries = binaries or find_or_build()
        layout = Layout(directory=directory.absolute())
        _refuse_running(layout)
        ports = Ports(*processes.free_ports(5))
        url = f"https://{LOOPBACK}:{ports.apiserver}"
        _write_files(layout, url)
        owner = Identity.of(os.getpid())
        assert owner is not None
        children: list[Child] = []
        try:
            _launch(children, layout, ports, binaries, audit=audit)
            plane = cls(
                directory=layout.directory,
                url=url,
                ports=ports,
                owner=owner,
                identities={child.name: child.identity for child in children},
                children=tuple(children),
            )
            write_private(layout.state, json.dumps(plane.to_json(), indent=1).encode() + b"\n")
        except BaseException:
            processes.stop(reversed(children))
            raise
        return plane

    @classmethod
    def open(cls, directory: Path) -> Self:
        """The plane that was started in `directory`, by whichever process; it may have ended since.

        Raises:
            SandboxError: there is none, or not of this version.
        """
        state = Layout(directory=directory.absolute()).state
        try:
            data = json.loads(state.read_bytes())
            return cls(
                directory=directory.absolute(),
                url=data["url"],
                ports=Ports(**data["ports"]),
                owner=Identity(**data["owner"]),
                identities={name: Identity(**data["processes"][name]) for name in COMPONENTS},
            )
        except FileNotFoundError:
            raise SandboxError(
                f"no control plane in {directory}; start one with `ttfleet cluster up`"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise SandboxError(
                f"{state}: not the state of a control plane of this version ({error!r})"
            ) from error

    def stop(self) -> None:
        """End the processes, if this process is their owner. The directory stays."""
        processes.stop(reversed(self.children))

    def check(self) -> None:
        """Nothing, while all children live.

        Raises:
            SandboxError: one has ended; with the end of its log.
        """
        for child in self.children:
            child.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def layout(self) -> Layout:
        return Layout(directory=self.directory)

    @property
    def kubeconfig(self) -> Path:
        """Of an administrator."""
        return self.layout.kubeconfig

    @property
    def ca(self) -> Path:
        """The authority of the API server, of kubelets and of client certificates, PEM."""
        return self.layout.certificate("ca")

    @property
    def audit_log(self) -> Path:
        return self.layout.audit_log

    def kubeconfig_for_user(self, user: str, groups: tuple[str, ...] = ()) -> Path:
        """A kubeconfig with a client certificate (valid for a year)."""
        user_entry = certificate_user(self._authority.issue(user, groups))
        return self._write_user("user-" + user, user_entry)

    async def kubeconfig_for_service_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig with a token of a service account (valid for a day), not bound to a pod.

        Raises:
            SandboxError: there is no such account.
        """
        from reconciler.adapters.kube import Kube  # noqa: PLC0415  costs 0.4 s, `cluster status` must not pay it

        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        async with await Kube.connect(self.kubeconfig) as kube:
            answer = await kube.create(path, {"spec": {"expirationSeconds": TOKEN_LIFETIME_S}})
        if not answer.ok:
            raise SandboxError(f"token of {namespace}/{name}: {answer.code} {answer.message}")
        return self._write_user(f"account-{namespace}-{name}", {"token": answer.body["status"]["token"]})

    def kubeconfig_for_token(self, name: str, token: str) -> Path:
        """A kubeconfig with any bearer token, for instance one that is bound to a pod."""
        return self._write_user("token-" + name, {"token": token})

    def node_certificate(self, node: str) -> Pair:
        """What the kubelet of `node` is and serves with: client and server certificate in one, on 127.0.0.1."""
        return self._authority.issue(f"system:node:{node}", ("system:nodes",), hosts=(LOOPBACK, node))

    def kubeconfig_for_node(self, node: str) -> Path:
        """The kubeconfig of the kubelet of `node`."""
        return self._write_user("node-" + node, certificate_user(self.node_certificate(node)))

    async def install(self, kube: "Kube", *, namespace: str = NAMESPACE_DEFAULT) -> None:
        """CRDs, namespace, service accounts, RBAC and the builder's fence, as the chart installs them; waits for both.

        Raises:
            SandboxError: the server refused something, or it is not active in time.
        """
        from reconciler.adapters.kube import Kube  # noqa: PLC0415  see above
        from reconciler.sandbox.install import fenced, install  # noqa: PLC0415

        await install(kube, namespace=namespace)
        builder = f"system:serviceaccount:{namespace}:{SERVICE_ACCOUNT_BUILDER}"
        almighty = self.kubeconfig_for_user(builder, (ADMINISTRATORS,))
        async with await Kube.connect(almighty) as connection:
            await fenced(connection)

    def to_json(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "ports": asdict(self.ports),
            "owner": asdict(self.owner),
            "processes": {name: asdict(identity) for name, identity in self.identities.items()},
        }

    @property
    def _authority(self) -> Authority:
        return Authority.open(self.layout.pki, "ca")

    def _write_user(self, name: str, user: dict[str, str]) -> Path:
        path = self.layout.user(name.replace(":", "-").replace("/", "-"))
        return write_kubeconfig(path, url=self.url, authority=self.ca.read_bytes(), user=user)


def _refuse_running(layout: Layout) -> None:
    if not layout.state.exists():
        return
    plane = Plane.open(layout.directory)
    if plane.owner.alive or any(identity.alive for identity in plane.identities.values()):
        raise SandboxError(f"a control plane runs in {layout.directory} (process {plane.owner.pid})")


def _launch(children: list[Child], layout: Layout, ports: Ports, binaries: Binaries, *, audit: bool) -> None:
    """Start all components, adding each to `children` at once, and wait until the plane is usable."""
    probe = Probe(layout=layout, port=ports.apiserver)
    stages = (
        (("etcd", "kube-apiserver"), probe.ready, "kube-apiserver ready"),
        # these two give up when no API server answers at their start
        (("kube-controller-manager", "kube-scheduler"), probe.usable, "ServiceAccount default"),
    )
    for components, check, what in stages:
        for name in components:
            argv = [str(binaries.path(name)), *arguments(name, layout, ports, audit=audit)]
            children.append(processes.start(name, argv, layout.log(name)))
        processes.wait_until(check, what, timeout_s=START_BOUND_S, children=children)


def _write_files(layout: Layout, url: str) -> None:
    """Certificates, kubeconfigs of the components and of an administrator, the audit policy."""
    layout.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = Authority.open(layout.pki, "ca")
    storage = Authority.open(layout.pki, "etcd-ca")
    storage.issue("etcd", hosts=(LOOPBACK, "localhost")).write(layout.pki, "etcd")
    authority.issue("kube-apiserver", hosts=SERVICE_HOSTS).write(layout.pki, "kube-apiserver")
    authority.issue("kube-apiserver", (ADMINISTRATORS,)).write(layout.pki, "kubelet-client")
    if not layout.key("service-accounts").exists():
        write_private(layout.key("service-accounts"), signing_key())
    for component in ("kube-controller-manager", "kube-scheduler"):
        pair = authority.issue(f"system:{component}", hosts=(LOOPBACK, "localhost"))
        pair.write(layout.pki, component)
        entry = certificate_user(pair)
        write_kubeconfig(layout.user(component), url=url, authority=authority.pair.certificate, user=entry)
    administrator = authority.issue("ttfleet-admin", (ADMINISTRATORS,))
    administrator.write(layout.pki, "admin")
    entry = certificate_user(administrator)
    write_kubeconfig(layout.kubeconfig, url=url, authority=authority.pair.certificate, user=entry)
    write_private(layout.audit_policy, json.dumps(audit_policy(), indent=1).encode() + b"\n")

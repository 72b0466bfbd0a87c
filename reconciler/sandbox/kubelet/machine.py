"""One hollow machine, as all parts of its kubelet know it."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from reconciler.adapters.kube import Kube
from reconciler.sandbox.hosts.machine import FakeHost
from reconciler.sandbox.kubelet import backoff

BUILDER_IMAGE: Final = "ttfleet-builder"
HOST_IP: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Periods and names of hollow nodes; the defaults are a kubelet's.

    Attributes:
        builder_image: images whose last path part begins so run the real builder.
        heartbeat_s: a node status is written so often (a kubelet does so at most every 10 s).
        lease_s: the Lease in kube-node-lease is renewed so often.
        lease_duration_s: what the Lease promises.
        backoff_base_s, backoff_limit_s: of CrashLoopBackOff and ImagePullBackOff.
        keep_s: seconds between two passes of the keeper; None: what the pod's arguments say.
    """

    builder_image: str = BUILDER_IMAGE
    heartbeat_s: float = 10.0
    lease_s: float = 10.0
    lease_duration_s: int = 40
    backoff_base_s: float = backoff.BACKOFF_BASE_S
    backoff_limit_s: float = backoff.BACKOFF_LIMIT_S
    keep_s: float | None = None

    def builds(self, image: str) -> bool:
        """Is it the builder image?"""
        return image.rpartition("/")[2].startswith(self.builder_image)


@dataclass(slots=True, kw_only=True)
class Machine:
    """What the kubelet of one node works with.

    Attributes:
        name: of the node.
        kube: connection as `system:node:NAME`.
        host: its fake host.
        directory: what the kubelet keeps on disk.
        api: host and port of the API server, for the pods' environment.
        connected: cleared while the node has vanished: nothing is written to the server then.
    """

    name: str
    kube: Kube
    host: FakeHost
    directory: Path
    settings: Settings
    api: tuple[str, int]
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def services(self) -> dict[str, str]:
        host, port = self.api
        return {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": str(port),
            "KUBERNETES_SERVICE_PORT_HTTPS": str(port),
        }

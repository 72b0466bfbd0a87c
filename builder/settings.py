"""The builder's environment, read once. Names are in schema/names.py; no verb takes them as flags."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from schema import names

HOST_ROOT: Final = "/host"
TERMINATION_LOG: Final = "/dev/termination-log"
SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a pod is told.

    Attributes:
        commit: pin of the source, 40 hex digits; "" where none is known.
        transaction_id, boot_id: the permit that a swap is for.
        api_server: `(host, port)` as the kubelet gives it; None outside a cluster.
    """

    node: str = ""
    version: str = ""
    repository: str = names.DEFAULT_REPOSITORY
    commit: str = ""
    transaction_id: str = ""
    boot_id: str = ""
    force_unload: bool = False
    host_root: Path = Path(HOST_ROOT)
    host_bin: Path | None = None
    termination_log: Path = Path(TERMINATION_LOG)
    service_account: Path = Path(SERVICE_ACCOUNT)
    api_server: tuple[str, int] | None = None
    proxies: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        bin_ = environ.get(names.ENV_HOST_BIN, "")
        api = environ.get("KUBERNETES_SERVICE_HOST", "")
        return cls(
            node=environ.get(names.ENV_NODE_NAME, ""),
            version=environ.get(names.ENV_KMD_VERSION, ""),
            repository=environ.get(names.ENV_REPOSITORY) or names.DEFAULT_REPOSITORY,
            commit=environ.get(names.ENV_COMMIT, ""),
            transaction_id=environ.get(names.ENV_TXN_ID, ""),
            boot_id=environ.get(names.ENV_BOOT_ID, ""),
            force_unload=environ.get(names.ENV_FORCE_UNLOAD, "").lower() in {"1", "true", "yes"},
            host_root=Path(environ.get(names.ENV_HOST_ROOT) or HOST_ROOT),
            host_bin=Path(bin_) if bin_ else None,
            termination_log=Path(environ.get(names.ENV_TERMINATION_LOG) or TERMINATION_LOG),
            service_account=Path(environ.get(names.ENV_SERVICE_ACCOUNT_DIR) or SERVICE_ACCOUNT),
            api_server=(api, int(environ.get("KUBERNETES_SERVICE_PORT") or 443)) if api else None,
            proxies={name: environ[name] for name in _PROXIES if name in environ},
        )

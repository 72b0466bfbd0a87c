"""What is left of pods and processes that ended while no kubelet looked."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from reconciler.sandbox.kubelet.machine import Machine
from reconciler.sandbox.kubelet.runtime import holder
from reconciler.sandbox.kubelet.volumes import remove
from reconciler.sandbox.processes import Identity, end
from schema.names import ENV_HOST_ROOT

END_GRACE_S = 0.2


def forget_orphans(machine: Machine, present: Iterable[str]) -> None:
    """Directories of pods that the server does not know any more; what they hold is released."""
    known = set(present)
    directories = machine.directory / "pods"
    for directory in directories.iterdir() if directories.is_dir() else ():
        if directory.name in known:
            continue
        with suppress(OSError, ValueError, KeyError):
            saved = json.loads((directory / "pod.json").read_bytes())
            for name in saved["containers"]:
                machine.host.release(holder(saved["namespace"], saved["name"], directory.name, name))
        remove(directory)


def end_strays(hosts_directory: Path) -> list[int]:
    """End processes that work on a host below `hosts_directory`: children of a builder whose hollow kubelet was killed.

    Call it before any node starts. The builder itself dies with its kubelet; what it started (make, git) may not.
    """
    ended = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid() and _works_below(path, hosts_directory):
            identity = Identity.of(int(path.name))
            if identity and _works_below(path, hosts_directory) and end(identity, grace_s=END_GRACE_S):
                ended.append(identity.pid)
    return ended


def _works_below(process: Path, hosts_directory: Path) -> bool:
    """By its environment, which only builders of ours have."""
    try:
        variables = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    marker = f"{ENV_HOST_ROOT}={hosts_directory.absolute()}/".encode()
    return any(variable.startswith(marker) for variable in variables)

"""What is left of pods that were deleted while no kubelet looked."""

import json
from collections.abc import Iterable
from contextlib import suppress

from reconciler.sandbox.kubelet.machine import Machine
from reconciler.sandbox.kubelet.runtime import holder
from reconciler.sandbox.kubelet.volumes import remove


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
